"""Reasoning between tags at the beginning of an answer's text, for servers without a parser for it.

Only a block that begins the answer is split off. Tags anywhere else are the model's own text.
"""


class TagSplitter:
    """Splits one block of reasoning from the beginning of a text that comes in pieces.

    Args:
        tags: The opening and the closing tag.
    """

    __slots__ = ("_closing", "_held", "_inside", "_opening", "done")

    def __init__(self, tags: tuple[str, str]) -> None:
        self._opening, self._closing = tags
        self._held = ""
        self._inside = False
        self.done = False
        """True once the rest is text, unchanged."""

    def split(self, text: str) -> tuple[str, str]:
        """Return the reasoning and the text in the next piece; what is undecided is held back."""
        if self.done:
            return "", text
        self._held += text
        if not self._inside:
            begun = self._held.lstrip()
            if not begun.startswith(self._opening):
                if self._opening.startswith(begun):
                    return "", ""
                self.done = True
                return "", self._take()
            self._inside = True
            self._held = begun[len(self._opening) :]
        reasoning, closing, rest = self._held.partition(self._closing)
        if closing:
            self.done = True
            self._held = ""
            return reasoning, rest
        kept = _overlap(self._held, self._closing)
        reasoning, self._held = self._held[: len(self._held) - kept], self._held[-kept:]
        if not kept:
            self._held = ""
        return reasoning, ""

    def rest(self) -> tuple[str, str]:
        """Return the reasoning and the text that are still held back at the end of the answer."""
        held = self._take()
        return (held, "") if self._inside and not self.done else ("", held)

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held


def _overlap(text: str, tag: str) -> int:
    """Return how many characters at the end of `text` may begin `tag`."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:size]):
            return size
    return 0
