"""Credentials: adding them to requests, and keeping them out of shown texts.

Nothing here reads the environment (HTU-CAP-1005, HTU-1004, OC-ADAPT-OAI 6020).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import cache, lru_cache
from typing import TypeVar

import httpx

from adapter_api import ErrorCode, InvalidRequest
from adapters.http_util.spellings import known_spans

REDACTED = "[redacted]"

MAX_SEARCHED_CHARS = 16 << 10
"""The maximum length of a text that is searched for credentials, and therefore shown."""

MAX_SHOWN_CHARS = 500
"""The maximum length of a shown server message; some put whole prompts into an error."""

MAX_NAME_CHARS = 128
"""Texts up to this length are cached with their safe form."""

_Target = TypeVar("_Target", bound=MutableMapping[str, str] | httpx.Request)


def check_credential(value: str, where: str) -> str:
    """Return `value` if it is valid in a header.

    Args:
        value: A key or token.
        where: Its name in the error.

    Raises:
        InvalidRequest: INVALID_PARAMS, without showing the value.
    """
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise InvalidRequest(
            ErrorCode.INVALID_PARAMS,
            f"{where} must be a non-empty string of printable ASCII characters without spaces "
            "around it (a line break from a file is a frequent cause)",
        )
    return value


def with_bearer(target: _Target, token: str) -> _Target:
    """Add `Authorization: Bearer <token>` to headers, or to the headers of a request.

    Args:
        target: The headers or the request, changed in place.
        token: The token, without a scheme.

    Returns:
        `target`.

    Raises:
        InvalidRequest: INVALID_PARAMS if the token cannot stand in a header.
    """
    headers = target.headers if isinstance(target, httpx.Request) else target
    headers["Authorization"] = f"Bearer {check_credential(token, 'the bearer token')}"
    return target


# Texts


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` without credentials.

    Args:
        text: Anything that is about to be logged, shown or raised. What follows the first
            MAX_SEARCHED_CHARS characters is cut off.
        secrets: Credentials in use. They are recognized in any usual spelling, and in pieces.
    """
    if len(text) > MAX_SEARCHED_CHARS:
        text = text[:MAX_SEARCHED_CHARS] + "..."
    return _secret().sub(_replace, _without(known_spans(text, secrets), text))


def safe_text(text: str, secrets: Iterable[str] = (), max_chars: int = MAX_SHOWN_CHARS) -> str:
    """Return a text of a server or a foreign library as one line that is safe to show.

    Args:
        text: A message, a name, a version, a finish reason.
        secrets: Credentials in use.
        max_chars: The longest result; a longer text ends in "...".

    Returns:
        The text without credentials, control characters and runs of white space.
    """
    if len(text) <= MAX_NAME_CHARS:  # models, versions and reasons come again with each answer
        return _safe_name(text, tuple(secrets), max_chars)
    return _one_line(text, secrets, max_chars)


@lru_cache(maxsize=256)
def _safe_name(text: str, secrets: tuple[str, ...], max_chars: int) -> str:
    return _one_line(text, secrets, max_chars)


def _one_line(text: str, secrets: Iterable[str], max_chars: int) -> str:
    text = redact(text, secrets)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= max_chars else line[: max(0, max_chars - 3)] + "..."


def _without(spans: Iterable[tuple[int, int]], text: str) -> str:
    """Replace the spans, which may overlap."""
    kept: list[str] = []
    end = 0
    for first, behind in spans:
        if first > end or not kept:
            kept += (text[end:first], REDACTED)
        end = max(end, behind)
    return "".join((*kept, text[end:]))


def credential_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of everything in `text` that looks like a credential."""
    for match in _secret().finditer(text):
        yield match.start() + len(_kept(match)), match.end()


_VALUE = r"""[^\s"'`\\,;&|<>(){}\[\]]"""
_KEYS = "api[-_ ]?key|subscription-key|access[-_]?token|client[-_]?secret"
_WORD_END = r"""(?:[\s.,;:)"']|$)"""
_QUOTE = r"""\\{0,16}["']"""  # escaped again and again; the bound keeps the time linear


@cache  # compiling it takes longer than importing most of our modules
def _secret() -> "re.Pattern[str]":
    """Return the pattern of credentials that are recognizable by their form.

    It finds a header or field name with its value (as a line, in JSON, or in a pair that Python
    shows), a scheme with its token, a token of a known form (OpenAI and others, JWT, GitHub, HF,
    AWS, Google), and the user of a URL. Words that follow "bearer" and "basic" in a sentence are
    not credentials. After "password", "secret" and "token", which stand in many sentences, only
    what has letters and digits is one. Every repetition is possessive, bounded, or ends where
    another match cannot begin, so that the time is linear.
    """
    return re.compile(
        rf"""
          (?P<name> (?:{_KEYS}|(?P<auth>authorization)) [\\"']{{0,17}}\s{{0,8}}[:=]\s{{0,8}}
              (?:b?(?P<quote>{_QUOTE}))?
              (?:(?:bearer|basic|digest|token|negotiate|ntlm|api-?key|key)\s{{1,8}})?)
          (?(quote)(?:(?!(?P=quote)).)++
            |[^\s"',;&}}]++(?(auth)(?:[ \t]{{1,8}}[^\s"',;&}}]++)?))
        | (?P<pair> \(b?["'][\w-]{{0,64}}?(?:{_KEYS}|authorization)["'],\s{{0,8}}b?["']) [^"']++
        | (?P<field> (?:password|passwd|secret|token)
                (?: {_QUOTE}\s{{0,8}}:\s{{0,8}}b?{_QUOTE}
                  | \\{{0,16}}["']?\s{{0,8}}=\s{{0,8}}(?:b?{_QUOTE})? ))
            (?={_VALUE}{{0,64}}?[0-9])(?={_VALUE}{{0,64}}?[a-z]){_VALUE}{{8,}}+
        | (?P<scheme> \bbearer\s{{1,8}}
                (?!(?:auth\w+|credentials?|schemes?|headers?|tokens?){_WORD_END})
              | \bbasic\s{{1,8}} (?!(?-i:[A-Z]?[a-z]+){_WORD_END}))
          [A-Za-z0-9._~+/=-]{{6,}}+
        | (?<![A-Za-z0-9])(?:
            (?:sk|pk|rk)-[A-Za-z0-9*_-]{{6,}}+(?:\.[A-Za-z0-9*_-]++)*+
          | eyJ[A-Za-z0-9_-]{{8,}}+(?:\.[A-Za-z0-9_-]*+)*+
          | (?:hf|gh[oprsu])_(?=(?-i:[a-z]{{0,64}}[A-Z0-9]))[A-Za-z0-9]{{10,}}+
          | github_pat_[A-Za-z0-9_]{{10,}}+
          | (?:gsk_|xai-|pplx-|nvapi-|AIza)(?=(?-i:[a-z]{{0,64}}[A-Z0-9]))[A-Za-z0-9_-]{{16,}}+
          | AKIA[A-Z0-9]{{12,}}+)
        | (?<=://)[^\s/?\#"'<>]+(?=@)
        """,
        re.IGNORECASE | re.VERBOSE,
    )


_BEFORE = ("name", "pair", "field", "scheme")


def _kept(match: "re.Match[str]") -> str:
    """Return the part of a match that is kept: the name or scheme before the credential."""
    return next((match[name] for name in _BEFORE if match[name]), "")


def _replace(match: "re.Match[str]") -> str:
    return _kept(match) + REDACTED


# Headers


# Headers are judged by the words in their names, because every gateway names its key differently.
# The end of a word decides, so that "apikey" and "oauth" count.
_ALWAYS_SECRET = (
    *("secret", "password", "passwd", "passphrase", "pwd", "credential", "credentials"),
    *("cookie", "authorization", "authentication", "bearer", "jwt"),
)
_SECRET_WORDS = ("key", "token", "auth")
# Facts about a key or token, and keys that are not secret.
_ABOUT = frozenset(
    {
        *("alias", "budget", "count", "expires", "expiry", "id", "limit"),
        *("name", "remaining", "reset", "spend", "ttl", "type", "usage"),
    }
)
_OPENS_NOTHING = frozenset({"cache", "idempotency", "public", "ratelimit", "surrogate"})


def is_secret_header(name: str) -> bool:
    """Return whether a header of this name is assumed to hold a credential.

    If in doubt it is, because hiding too much does little harm. Counts of tokens, ids, limits,
    names in the plural and challenges (`www-authenticate`) stay readable.
    """
    words = [word.rstrip("0123456789") for word in re.split(r"[-_.]", name.lower())]
    if name.lower().startswith("access-control-"):  # of CORS: names of headers, true or false
        return False
    if any(word.endswith(_ALWAYS_SECRET) for word in words):
        return True
    named = any(word.endswith(_SECRET_WORDS) for word in words)
    return named and words[-1] not in _ABOUT and _OPENS_NOTHING.isdisjoint(words)


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with secret values, and credentials in other values, replaced."""
    return {
        name: REDACTED if is_secret_header(name) else redact(value)
        for name, value in headers.items()
    }
