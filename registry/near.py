"""The nearest match for a misspelt name."""

from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to `word`, ignoring case; None if none is similar."""
    from difflib import get_close_matches  # needed for messages only

    by_folded = {choice.casefold(): choice for choice in choices}
    found = get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None
