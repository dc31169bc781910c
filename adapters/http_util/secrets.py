"""Keep keys out of logs, errors and reprs (HTU-1004, OC-ADAPT-OAI 6020)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

REDACTED = "[redacted]"

# Headers are judged by the words of their names, since every gateway has its own for its key. The
# end of a word decides, so that "apikey" and "oauth" count.
_ALWAYS_SECRET = (
    *("secret", "password", "passwd", "passphrase", "pwd", "credential", "credentials"),
    *("cookie", "authorization", "authentication", "bearer", "jwt"),
)
_SECRET_WORDS = ("key", "token", "auth")
# What is said about a key or token, and keys that open nothing.
_ABOUT = frozenset(
    {
        *("alias", "budget", "count", "expires", "expiry", "id", "limit"),
        *("name", "remaining", "reset", "spend", "ttl", "type", "usage"),
    }
)
_OPENS_NOTHING = frozenset({"cache", "idempotency", "public", "ratelimit", "surrogate"})

_VALUE = r"""[^\s"'`\\,;&|<>(){}\[\]]"""
_KEYS = "api[-_ ]?key|subscription-key|access[-_]?token|client[-_]?secret"
_WORD_END = r"""(?:[\s.,;:)"']|$)"""


# What follows each is a credential whoever wrote it: a header or field name with its value (as a
# line, in JSON, or in a pair that Python shows), a scheme with its token, a token whose form gives
# it away (OpenAI and others, JWT, GitHub, HF, AWS, Google), and who calls in a URL. The words that
# follow "bearer" and "basic" in a sentence are none. After "password", "secret" and "token", which
# stand in many sentences, only what has letters and digits is one.
@cache  # compiling it takes longer than importing most modules of ours
def _secret() -> "re.Pattern[str]":
    return re.compile(
        rf"""
          (?P<name> (?:{_KEYS}|(?P<auth>authorization)) [\\"']*\s*[:=]\s*(?:b?(?P<quote>\\*["']))?
              (?:(?:bearer|basic|digest|token|negotiate|ntlm|api-?key|key)\s+)?)
          (?(quote)(?:(?!(?P=quote)).)+|[^\s"',;&}}]+(?(auth)(?:[ \t]+[^\s"',;&}}]+)?))
        | (?P<pair> \(b?["'][\w-]*(?:{_KEYS}|authorization)["'],\s*b?["']) [^"']+
        | (?P<field> (?:password|passwd|secret|token)
                (?: \\*["']\s*:\s*b?\\*["'] | \\*["']?\s*=\s*(?:b?\\*["'])? ))
            (?={_VALUE}{{0,64}}?[0-9])(?={_VALUE}{{0,64}}?[a-z]){_VALUE}{{8,}}
        | (?P<scheme> \bbearer\s+
                (?!(?:auth\w+|credentials?|schemes?|headers?|tokens?){_WORD_END})
              | \bbasic\s+ (?!(?-i:[A-Z]?[a-z]+){_WORD_END}))
          [A-Za-z0-9._~+/=-]{{6,}}
        | (?<![A-Za-z0-9])(?:
            (?:sk|pk|rk)-[A-Za-z0-9*_-]{{6,}}(?:\.[A-Za-z0-9*_-]+)*
          | eyJ[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]*)*
          | (?:hf|gh[oprsu])_(?=(?-i:[a-z]*[A-Z0-9]))[A-Za-z0-9]{{10,}}
          | github_pat_[A-Za-z0-9_]{{10,}}
          | (?:gsk_|xai-|pplx-|nvapi-|AIza)(?=(?-i:[a-z]*[A-Z0-9]))[A-Za-z0-9_-]{{16,}}
          | AKIA[A-Z0-9]{{12,}})
        | (?<=://)[^\s/?\#"'<>]+(?=@)
        """,
        re.IGNORECASE | re.VERBOSE,
    )


_BEFORE = ("name", "pair", "field", "scheme")


def _kept(match: "re.Match[str]") -> str:
    """What stays of a match: the name or scheme before the credential."""
    return next((match[name] for name in _BEFORE if match[name]), "")


def _replace(match: "re.Match[str]") -> str:
    return _kept(match) + REDACTED


def credential_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where in `text` something stands that looks like a credential: first and behind last."""
    for match in _secret().finditer(text):
        yield match.start() + len(_kept(match)), match.end()


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without credentials.

    Args:
        text: Anything that is about to be logged, shown or raised.
        secrets: Credentials known to be in use; they go wherever they stand.
    """
    return _secret().sub(_replace, _without(secrets, text))


def _without(secrets: Iterable[str], text: str) -> str:
    """`text` without the secrets. One may be a part of another, and two may overlap: what
    belongs to any of them goes."""
    spans = sorted(span for secret in secrets for span in _places(secret, text))
    kept: list[str] = []
    end = 0
    for first, behind in spans:
        if first > end or not kept:
            kept += (text[end:first], REDACTED)
        end = max(end, behind)
    return "".join((*kept, text[end:]))


def _places(secret: str, text: str) -> Iterator[tuple[int, int]]:
    if len(secret) < 4:  # it would tear ordinary words apart
        return
    first = text.find(secret)
    while first >= 0:
        yield first, first + len(secret)
        first = text.find(secret, first + 1)


def is_secret_header(name: str) -> bool:
    """Whether a header of this name is taken to hold a credential.

    In doubt it is: what is hidden in vain costs a reader little. Counts of tokens, ids and limits
    stay readable, as do names in the plural, and a challenge (`www-authenticate`) is no answer.
    """
    words = [word.rstrip("0123456789") for word in re.split(r"[-_.]", name.lower())]
    if name.lower().startswith("access-control-"):  # of CORS: names of headers, true or false
        return False
    if any(word.endswith(_ALWAYS_SECRET) for word in words):
        return True
    named = any(word.endswith(_SECRET_WORDS) for word in words)
    return named and words[-1] not in _ABOUT and _OPENS_NOTHING.isdisjoint(words)


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with the values of secret ones, and credentials in others, replaced."""
    return {
        name: REDACTED if is_secret_header(name) else redact(value)
        for name, value in headers.items()
    }


def safe_text(text: str, secrets: Iterable[str] = (), max_chars: int = 500) -> str:
    """Return one printable line of bounded length, without credentials."""
    text = redact(text[: 64 << 10], secrets)[: 8 * max_chars]
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."
