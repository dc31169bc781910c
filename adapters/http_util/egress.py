"""The allow-list of hosts that may be called (ORCH-3080, OC-ADAPT-OAI 6021)."""

import re
from collections.abc import Sequence
from contextlib import suppress

import httpx

from adapter_api import EgressDenied, ErrorCode


def check_egress(url: httpx.URL, allow: Sequence[str] | None, proxy: str | None = None) -> None:
    """Check that the hosts of a request are allowed.

    Args:
        url: The URL of the request.
        allow: Patterns, each a host name with an optional `:port`. A `*` stands for any part of
            one label: `*.openai.azure.com` allows no other number of labels. None allows all.
        proxy: The URL of the proxy that the request goes through. Its host must be allowed, too.

    Raises:
        EgressDenied: If no pattern matches.
    """
    if allow is None:
        return
    _check(url, allow)
    if proxy is not None:
        _check(httpx.URL(proxy), allow)


def _check(url: httpx.URL, allow: Sequence[str]) -> None:
    host = url.raw_host.decode("ascii").lower().rstrip(".")
    shown = f"[{host}]" if ":" in host else host
    place = f"{shown}:{url.port or _PORTS.get(url.scheme, 80)}"
    if not any(_fits(_ascii(pattern), shown, place) for pattern in allow):
        raise EgressDenied(
            ErrorCode.EGRESS_DENIED,
            f"the egress allow-list does not name {place}; add it to egress_allow to call it",
        )


def _ascii(pattern: str) -> str:
    """Return a pattern in lower case, a name in another script as URLs have it."""
    if not pattern.isascii():
        with suppress(UnicodeError):
            pattern = pattern.encode("idna").decode("ascii")
    return pattern.lower().rstrip(".")


_PORTS = {"https": 443, "socks5": 1080, "socks5h": 1080}


def _fits(pattern: str, host: str, place: str) -> bool:
    if pattern.count(":") > 1 and "[" not in pattern:
        pattern = f"[{pattern}]"  # an IPv6 address without a port
    known = re.compile(r"[^.]*".join(map(re.escape, re.split(r"\*+", pattern))))
    return bool(known.fullmatch(host) or known.fullmatch(place))
