"""Advice for refusals that do not include any.

Wrong advice is worse than none, so it is given only if the status, the codes and the words of the
refusal agree on the cause.
"""

import re
from collections.abc import Mapping

from adapter_api import ErrorCode
from adapters.http_util import ErrorBody
from adapters.http_util.errors import PROXY_ADVICE

_ABOUT_KEYS = re.compile(
    r"\b(?:api[ _-]?keys?|(?:access|bearer|auth\w*)[ _-]tokens?|credentials?|authenticat\w*"
    r"|unauthori[sz]ed|authorization)\b",
    re.IGNORECASE,
)
_KEY_CODES = re.compile(r"api_?key|authenti|unauthor|credential|token")
_URL_OR_PATH = re.compile(r"\S*/\S*")
_ENDPOINT_STATUSES = frozenset({400, 404, 405, 422, 501})


def advice(
    status: int,
    code: ErrorCode,
    body: ErrorBody,
    headers: Mapping[str, str],
    *,
    key: str,
    chat: bool,
    from_prompt: bool,
) -> str:
    """Return advice for a refusal, or "".

    Args:
        status: The answer's status.
        code: The code of the refusal.
        body: Its content.
        headers: The answer's headers, names in lower case.
        key: The advice if the key is the cause (Credentials.advice).
        chat: Whether the request went to the chat endpoint.
        from_prompt: Whether the task has a prompt, not messages.
    """
    if code is ErrorCode.UPSTREAM_AUTH:
        return _about_credentials(status, body, headers, key)
    if status in _ENDPOINT_STATUSES and _is_about_endpoint(status, body):
        return _about_endpoint(chat=chat, from_prompt=from_prompt)
    return ""


def _about_credentials(status: int, body: ErrorBody, headers: Mapping[str, str], key: str) -> str:
    if status == 407:
        return PROXY_ADVICE
    challenge = headers.get("www-authenticate", "").lower()
    if status == 401 and challenge.startswith("basic"):
        return 'The server requires HTTP Basic authentication: set basic_auth to "user:password"'
    by_code = any(_KEY_CODES.search(found) for found in body.codes)
    # A firewall, a region or a policy answers 403, too: a key does not help there.
    return key if status == 401 or by_code or _ABOUT_KEYS.search(body.message) else ""


def _is_about_endpoint(status: int, body: ErrorBody) -> bool:
    words = _URL_OR_PATH.sub(" ", body.message)
    if re.search(r"\bchat\b", words, re.IGNORECASE):
        return True
    if "operation_not_supported" in body.codes:  # Azure
        return True
    about_model = re.search("model|deployment", words, re.IGNORECASE)
    return status in (404, 405, 501) and not about_model


def _about_endpoint(*, chat: bool, from_prompt: bool) -> str:
    if chat and not from_prompt:
        return "If it has no chat endpoint, give the task a prompt and leave api at 'auto'"
    if chat:
        return "If it has no chat endpoint, set api='completions' to send prompts as they are"
    return "If it only has a chat endpoint, set api='chat' to send prompts as a chat message"
