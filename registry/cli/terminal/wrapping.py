"""Word wrap for text that arrives in pieces."""

from rich.cells import cell_len

_TAB_CELLS = 8
_FENCE = "```"
_TAKE_BACK = "\x1b[{}D\x1b[K"  # move left, and clear to the end of the line


class WordWrap:
    """Breaks lines between words, although a piece may end inside a word.

    A word is shown as it comes. If it reaches the right edge, it is taken back and begins again on
    the next line. The terminal itself breaks words that are longer than a line, and lines of code
    between fences: these can be copied as they were sent.

    Args:
        width: The terminal's columns.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._word = ""
        self._is_long = False  # the word is longer than a line
        self._is_code = False
        self._begins_with = ""  # the first characters of the line, as far as a fence is long

    def new_line(self) -> None:
        """Note that the cursor is at the beginning of a line."""
        if self._begins_with == _FENCE:
            self._is_code = not self._is_code
        self._column, self._word, self._begins_with, self._is_long = 0, "", "", False

    def feed(self, text: str) -> str:
        """Return what to write to the terminal for the next piece of text."""
        return "".join(map(self._next, text))

    def _next(self, char: str) -> str:
        if char == "\n":
            self.new_line()
            return char
        if len(self._begins_with) < len(_FENCE):
            self._begins_with += char
        cells = _TAB_CELLS - self._column % _TAB_CELLS if char == "\t" else cell_len(char)
        before = ""
        # The last column stays free: where the cursor is behind it depends on the terminal.
        if self._column + cells >= self._width and not (self._is_code or self._is_long):
            if char.isspace():
                self._column, self._word = 0, ""
                return "\n"
            before = self._begin_again()
        if self._column + cells > self._width:  # the terminal breaks the line
            self._column = 0
        self._column += cells
        self._is_long = self._is_long and not char.isspace()
        # Text in wide characters has no spaces, and may be broken behind each of them.
        self._word = "" if char.isspace() or cells > 1 else self._word + char
        return before + char

    def _begin_again(self) -> str:
        """Return what moves the word at the edge to the next line; empty if it is too long."""
        cells = cell_len(self._word)
        self._is_long = cells == self._column
        if self._is_long:
            return ""
        self._column = cells
        return (_TAKE_BACK.format(cells) if cells else "") + "\n" + self._word
