"""Word wrap on a terminal: no word is broken, and nothing is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from registry.cli.terminal.wrapping import WordWrap


def screen_of(written: str, width: int) -> list[str]:
    """Return the lines of a terminal that follows what was written, as xterm does."""
    lines: list[list[str]] = [[]]
    column = 0
    for part in re.findall(r"\x1b\[\d*[DK]|.|\n", written, re.S):
        if part == "\n":
            lines.append([])
            column = 0
        elif part.endswith("D") and part[0] == "\x1b":
            column = min(column, width - 1) - int(part[2:-1])
            assert column >= 0, "the cursor left the line"
        elif part == "\x1b[K":
            del lines[-1][column:]
        elif part == "\t":
            stop = min(column + 8 - column % 8, width - 1)
            lines[-1][column:] = ["\t", *[""] * (stop - column - 1)]
            column = max(column, stop)
        else:
            cells = cell_len(part)
            if column + cells > width:
                lines.append([])
                column = 0
            lines[-1][column:] = [part, *[""] * (cells - 1)]
            column += cells
    return ["".join(line) for line in lines]


def shown(pieces: list[str], width: int) -> list[str]:
    """Return the lines of a terminal on which these pieces are wrapped."""
    wrap = WordWrap(width)
    return screen_of("".join(map(wrap.feed, pieces)), width)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["one two three"], ["one two ", "three"]),
        (["one two th", "ree four"], ["one two ", "three four"]),
        (["one two t", "h", "r", "e", "e"], ["one two ", "three"]),
        (["exactly 11c", " next"], ["exactly 11c", "next"]),
        (["a\nb two three four"], ["a", "b two three", "four"]),
        (["a word-that-is-longer-than-it"], ["a ", "word-that-is", "-longer-than", "-it"]),
        (["一二三四五六七"], ["一二三四五", "六七"]),
    ],
)
def test_words_stay_whole(pieces: list[str], lines: list[str]) -> None:
    """A word that reaches the edge begins again on the next line, however its pieces came."""
    assert shown(pieces, 12) == lines


def test_code_is_left_to_the_terminal() -> None:
    """Lines between fences can be copied: no line feed is put into them."""
    text = "```sh\npip install something-long\n```\nand then some words"
    written = WordWrap(12).feed(text)
    assert "pip install something-long\n```\nand then \x1b" not in written
    assert written.startswith("```sh\npip install something-long\n```\n")
    assert screen_of(written, 12)[-2:] == ["and then ", "some words"]


words = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=9)


@given(st.lists(words.filter(lambda w: "`" not in w)), st.integers(1, 7))
def test_any_pieces_show_the_same_words(some: list[str], size: int) -> None:
    """However a text is cut into pieces, each word is on one line, and all are there."""
    text = " ".join(some)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert [word for line in shown(pieces, 12) for word in line.split()] == some


@given(st.text(st.sampled_from("ab \n\t一é`")), st.integers(3, 20))
def test_any_text_is_shown_whole(text: str, width: int) -> None:
    """Nothing but white space is lost, and the cursor never leaves its line."""
    found = "".join(shown(list(text), width))
    assert "".join(found.split()) == "".join(text.split())
