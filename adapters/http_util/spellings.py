"""Finds known credentials in a text, in any spelling.

A server may repeat a key URL-encoded, HTML- or JSON-escaped, in base64 or hex, in another case,
wrapped, or cut. The text is decoded with a map back to the original, and searched for pieces.
"""

import html
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from adapters.http_util.encodings import rare_forms, usual_forms

MIN_SECRET_CHARS = 4
"""Shorter credentials are not searched for: they would match parts of ordinary words."""

MIN_PIECE_CHARS = 8
"""The length of a piece that identifies a credential. Shorter ones must match as a whole."""

MAX_LAYERS = 3
"""The maximum number of times an escape may itself be escaped."""

MAX_ENCODED_CHARS = 512
"""Longer credentials, which are signed tokens, are not searched for in base64 and similar forms."""

MAX_PIECED_CHARS = 4096
"""The maximum part of a very long credential that is searched for in pieces."""

MAX_CODE_POINT = 0x10FFFF
"""Of Unicode. A larger number is not a character."""

_GRAM_CHARS = 6
_STRIDE = MIN_PIECE_CHARS - _GRAM_CHARS + 1  # each piece of 8 has an aligned gram of 6
_MAX_PLACES = 4  # of one gram in a credential, so that a repetitive one stays cheap

_ESCAPE = re.compile(
    r"""%(?: [0-9A-Fa-f]{2} | u[0-9A-Fa-f]{4} )
      | =[0-9A-Fa-f]{2}  # quoted-printable
      | \\++ (?: u[0-9A-Fa-f]{4} | u\{[0-9A-Fa-f]{1,6}\} | U[0-9A-Fa-f]{8} | x[0-9A-Fa-f]{2}
            | [0-7]{3} | [nrtbf] )?
      | & (?: \#[0-9]{1,7} | \#[xX][0-9A-Fa-f]{1,6} | amp | lt | gt | quot | apos | plus | equals
            | sol | lowbar | hyphen | dash | num | commat | excl | dollar | percnt | ast | colon
            | period | comma | semi | quest ) ;?
      | (?<=[0-9A-Fa-f]{2}) (?: [:,]\s{0,2}(?:0[xX])? | \s{0,2}0[xX] ) (?=[0-9A-Fa-f]{2})
        # between bytes in hex
      | [\s\x00-\x1f\x7f-\xa0\xad\u0300-\u036f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]++
        (?:data:\s*+)?
    """,
    re.VERBOSE,
)
_CUT_ESCAPE = re.compile(
    r"(?:%(?:25)*+(?:u[0-9A-Fa-f]{0,3}|[0-9A-Fa-f]?)|=[0-9A-Fa-f]?"
    r"|\\++(?:u\{?[0-9A-Fa-f]{0,6}|U[0-9A-Fa-f]{0,7}|x[0-9A-Fa-f]?|[0-7]{0,2})"
    r"|&(?:amp;)*+[#0-9A-Za-z]{0,8})\Z"
)
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_WIDE = "".join(chr(ord(char) + 0xFEE0) for char in _ASCII)
_BARE = _ASCII.lower().replace("-", "+").replace("_", "/")  # both alphabets of base64
_FOLD = str.maketrans(_ASCII + _WIDE, _BARE * 2)


class _Decoded(NamedTuple):
    """A text without escapes and white space; `starts` and `ends` map it to the original."""

    text: str
    starts: list[int]
    ends: list[int]


class _Needle(NamedTuple):
    """One spelling of a credential, with the minimum length of a piece that counts."""

    text: str
    min_chars: int
    step: int
    """Every so many places a gram is remembered: no divisor of _STRIDE, so that each piece of
    `min_chars` has a remembered gram at a place that is looked up."""


class _Known(NamedTuple):
    """The spellings and pieces that identify one credential."""

    exact: str
    needles: tuple[_Needle, ...]
    grams: dict[str, list[tuple[int, int]]]  # to needle and place in it
    usual: int
    """How many of the needles, from the first on, may begin in one chunk and end in another."""


def known_spans(text: str, secrets: Iterable[str]) -> list[tuple[int, int]]:
    """Return the positions of credentials, or pieces of them, in `text`.

    Args:
        text: The text to search; the time grows linearly with it.
        secrets: The credentials.

    Returns:
        Pairs of start and end, sorted; they may overlap.
    """
    wanted = [secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS]
    if not wanted:
        return []
    spans = {span for secret in wanted for span in _places(secret, text)}
    decoded = _decode(text)
    folded = decoded.text.translate(_FOLD)
    grams = [
        (at, folded[at : at + _GRAM_CHARS])
        for at in range(0, max(0, len(folded) - _GRAM_CHARS + 1), _STRIDE)
    ]
    for secret in wanted:
        known = _known(secret)
        found = list(_places(known.exact, decoded.text)) if known.exact else []
        found += _pieces(known, folded, grams)
        spans.update((decoded.starts[start], decoded.ends[end - 1]) for start, end in found)
    return sorted(spans)


def begun_at(text: str, secrets: Iterable[str]) -> int:
    """Return the position at the end of `text` where a credential or an escape may begin.

    Returns:
        The position, or the length of `text`.
    """
    cut = _CUT_ESCAPE.search(text, max(0, len(text) - 64))
    end = len(text) if cut is None else cut.start()
    wanted = [secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS]
    longest = max(map(len, wanted), default=0)
    first = max(0, end - 12 * longest)
    decoded = _decode(text[first:end])
    folded = decoded.text.translate(_FOLD)
    begun = max((_begun(folded, needle.text) for s in wanted for needle in _usual(s)), default=0)
    return first + decoded.starts[len(folded) - begun] if begun else end


def _usual(secret: str) -> tuple[_Needle, ...]:
    known = _known(secret)
    return known.needles[: known.usual]


def _places(secret: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(secret)
    while start >= 0:
        yield start, start + len(secret)
        start = text.find(secret, start + 1)


def _pieces(
    known: _Known, folded: str, grams: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, int]]:
    done = 0  # everything before this was found already
    for at, gram in grams:
        if at < done or gram not in known.grams:
            continue
        for number, place in known.grams[gram]:
            needle = known.needles[number]
            start, end = _extend(folded, at, needle.text, place)
            if end - start >= needle.min_chars:
                done = max(done, end - _GRAM_CHARS)
                yield start, end


def _extend(text: str, at: int, needle: str, place: int) -> tuple[int, int]:
    """Return the longest piece of `needle` around a gram that both have at these places."""
    start, end = at, at + _GRAM_CHARS
    before, behind = place, place + _GRAM_CHARS
    while start and before and text[start - 1] == needle[before - 1]:
        start -= 1
        before -= 1
    while end < len(text) and behind < len(needle) and text[end] == needle[behind]:
        end += 1
        behind += 1
    return start, end


def _begun(text: str, needle: str) -> int:
    """Return how many characters at the end of `text` begin `needle`, without being all of it."""
    if not text:
        return 0
    last, end = text[-1], min(len(needle) - 1, len(text))
    while (at := needle.rfind(last, 0, end)) >= 0:
        if text.endswith(needle[: at + 1]):
            return at + 1
        end = at
    return 0


@lru_cache(maxsize=32)  # some hundred kilobytes each
def _known(secret: str) -> _Known:
    text = _decode(secret).text or secret
    folded = text.translate(_FOLD)
    if len(folded) < MIN_PIECE_CHARS:
        return _Known(text, (_needle(folded, len(folded)),), {}, 1)
    plain = folded[:MAX_PIECED_CHARS]
    needles = [_needle(plain, MIN_PIECE_CHARS)]
    if len(secret) <= MAX_ENCODED_CHARS:
        needles += (_needle(text.translate(_FOLD), n) for text, n in usual_forms(secret))
    usual = len(needles)
    needles.append(_needle(plain[::-1], MIN_PIECE_CHARS))
    if len(secret) <= MAX_ENCODED_CHARS:
        needles += (_needle(_folded(text), n) for text, n in rare_forms(secret))
    grams: dict[str, list[tuple[int, int]]] = {}
    for number, needle in enumerate(needles):
        for place in range(0, len(needle.text) - _GRAM_CHARS + 1, needle.step):
            places = grams.setdefault(needle.text[place : place + _GRAM_CHARS], [])
            if len(places) < _MAX_PLACES:
                places.append((number, place))
    return _Known("", tuple(needles), grams, usual)


def _folded(text: str) -> str:
    """Return a text in the form that is searched, which in base 85 may contain apparent escapes."""
    return _decode(text).text.translate(_FOLD)


def _needle(text: str, min_chars: int) -> _Needle:
    min_chars = min(min_chars, len(text))
    step = max(1, (min_chars - _GRAM_CHARS + 1) // _STRIDE)
    return _Needle(text, min_chars, step - 1 if step % _STRIDE == 0 else step)


def _decode(text: str) -> _Decoded:
    starts, ends = list(range(len(text))), list(range(1, len(text) + 1))
    for _ in range(MAX_LAYERS):
        if _ESCAPE.search(text) is None:
            break
        parts: list[str] = []
        new_starts: list[int] = []
        new_ends: list[int] = []
        at = 0
        for match in _ESCAPE.finditer(text):
            start, end = match.span()
            parts.append(text[at:start])
            new_starts += starts[at:start]
            new_ends += ends[at:start]
            char = _unescaped(match[0])
            if char:
                parts.append(char)
                new_starts.append(starts[start])
                new_ends.append(ends[end - 1])
            at = end
        parts.append(text[at:])
        text = "".join(parts)
        starts, ends = new_starts + starts[at:], new_ends + ends[at:]
    return _Decoded(text, starts, ends)


def _unescaped(escape: str) -> str:
    """Return the one character that an escape stands for; none for white space."""
    if escape[0] in "%=":
        return chr(int(escape[1:].lstrip("u"), 16))
    if escape[0] == "&":
        return html.unescape(escape if escape[-1] == ";" else escape + ";")[:1]
    digits = escape.lstrip("\\")
    if escape[0] != "\\" or not digits:
        return ""
    if digits[0] in "uUx":
        code = int(digits[1:].strip("{}"), 16)
        return chr(code) if code <= MAX_CODE_POINT else ""
    return chr(int(digits, 8)) if digits.isdigit() else ""
