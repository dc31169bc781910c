"""Keep keys out of logs, errors and reprs (HTU-1004, OC-ADAPT-OAI 6020)."""

import re
from collections.abc import Iterable, Mapping

REDACTED = "[redacted]"

SECRET_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "api-key",
        "x-api-key",
        "cookie",
        "set-cookie",
        "ocp-apim-subscription-key",
    }
)

# What follows each is a credential whoever wrote it: a header or field name with its value,
# a scheme with its token, or a token whose form gives it away (OpenAI, JWT, GitHub, HF, AWS).
_SECRET = re.compile(
    r"""
      (?P<name>\b(?:authorization|(?:x-)?api[-_]?key|access[-_]?token|client[-_]?secret)
          ["']?\s*[:=]\s*["']?(?:(?:bearer|basic)\s+)?) [^\s"',;&}]+
    | (?P<scheme>\b(?:bearer|basic)\s+) [A-Za-z0-9._~+/=-]{6,}
    | \b(?:sk|pk|rk)-[A-Za-z0-9*_-]{6,}
    | \beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*
    | \b(?:hf|ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{10,}
    | \bAKIA[A-Z0-9]{12,}
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def _replace(match: "re.Match[str]") -> str:
    kept = match.group("name") or match.group("scheme") or ""
    return kept + REDACTED


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without credentials.

    Args:
        text: Anything that is about to be logged, shown or raised.
        secrets: Credentials known to be in use; they go wherever they stand.
    """
    for secret in secrets:
        if len(secret) >= 4:  # a shorter one would tear ordinary words apart
            text = text.replace(secret, REDACTED)
    return _SECRET.sub(_replace, text)


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with the values of SECRET_HEADERS, and credentials in others, replaced."""
    return {
        name: REDACTED if name.lower() in SECRET_HEADERS else redact(value)
        for name, value in headers.items()
    }
