"""Keys and tokens that were pasted into the wrong place, recognized by their form.

A caller may paste a key as `dialect`, or as the name of an option. The message about it goes into
logs and bug reports, so it must not repeat the key. Texts of servers are redacted by
adapters.http_util, which has the credentials in use.
"""

import re

HIDDEN = "[hidden]"

_FORMS = (
    r"(?:sk|pk|rk)-[\w*-]{6,}|(?:hf|gh[oprsu])_\w{10,}|github_pat_\w{10,}"
    r"|(?:gsk_|xai-|pplx-|nvapi-|AIza)[\w-]{10,}|AKIA\w{12,}"
    r"|eyJ[\w-]{8,}(?:\.[\w-]*)*"
)
"""Words with the beginning of a provider's keys."""

_LONG = (
    r"(?=[\w+-]{0,64}?[0-9])(?=[\w+-]{0,64}?[A-Za-z])[\w+-]{20,}"
    r"|(?=[\w+-]{0,64}?[A-Z])(?=[\w+-]{0,64}?[a-z])[\w+-]{32,}"
)
"""Long words of letters with digits, or in mixed case, as few names of options are."""


def without_keys(text: str, *, known_only: bool = False) -> str:
    """Return `text` with HIDDEN in the place of every word that looks like a key.

    Args:
        text: A text that is about to be shown. The time is linear in its length.
        known_only: Hide only words with the form of a provider's key. For texts that usually
            contain long names, such as those of files.
    """
    words = _FORMS if known_only else f"{_FORMS}|{_LONG}"
    return re.sub(rf"(?<![\w+-])(?:{words})", HIDDEN, text, flags=re.ASCII)


def keys_in(text: str) -> list[str]:
    """Return the words of `text` that look like keys."""
    return re.findall(rf"(?<![\w+-])(?:{_FORMS}|{_LONG})", text, flags=re.ASCII)
