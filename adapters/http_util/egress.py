"""Which hosts may be called (ORCH-3080, OC-ADAPT-OAI 6021)."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import httpx

from adapter_api import EgressDenied, ErrorCode


def check_egress(url: httpx.URL, allow: Sequence[str] | None) -> None:
    """Let `url` pass if a pattern of `allow` fits; None allows every host.

    Args:
        url: What is to be called.
        allow: Host names, with `*` for any part (`*.openai.azure.com`), each with an
            optional `:port`.

    Raises:
        EgressDenied: If no pattern fits.
    """
    if allow is None:
        return
    port = url.port or (443 if url.scheme == "https" else 80)
    host = url.host.lower()
    shown = f"[{host}]" if ":" in host else host
    for pattern in allow:
        wanted = pattern.lower()
        if wanted.count(":") > 1 and "[" not in wanted:
            wanted = f"[{wanted}]"  # an IPv6 address alone
        wanted = wanted.replace("[", "[[]")  # to fnmatch, brackets are a set of characters
        if fnmatchcase(shown, wanted) or fnmatchcase(f"{shown}:{port}", wanted):
            return
    raise EgressDenied(
        ErrorCode.EGRESS_DENIED,
        f"the egress allow-list does not name {shown}:{port}; add it to egress_allow to call it",
    )
