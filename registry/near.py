"""The nearest name to one that was misspelt."""

from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that looks most like `word`, whatever its case; None if none does."""
    from difflib import get_close_matches  # needed for messages only

    by_folded = {choice.casefold(): choice for choice in choices}
    found = get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None
