"""Forms of a credential in base64, hex and similar encodings, also encoded twice, in any context.

An encoding turns groups of bytes into groups of letters. It is unknown where in a group a
credential
begins, so each offset gives another row of letters, without those that depend on its neighbours.
"""

import base64
from collections.abc import Callable, Iterator
from typing import NamedTuple

PIECE_BYTES = 8
"""The length of a piece of a credential that identifies it."""

TWICE_PIECE_BYTES = 12
"""The same in a text that was encoded twice, which has more letters to remember."""


class _Encoding(NamedTuple):
    """One encoding.

    Args:
        encode: Encodes bytes.
        group_bytes: Bytes of a group.
        group_letters: Letters of a group.
        whole: Every letter of a group depends on all of its bytes.
    """

    encode: Callable[[bytes], bytes]
    group_bytes: int
    group_letters: int
    whole: bool = False

    def rows(self, data: bytes) -> Iterator[str]:
        """Yield the letters that `data` alone decides, for each place in a group."""
        size, letters = self.group_bytes, self.group_letters
        for place in range(size):
            text = self.encode(bytes(place) + data).decode("ascii")
            end = place + len(data)
            if self.whole:
                yield text[-(-place // size) * letters : end // size * letters]
            else:
                yield text[-(-place * letters // size) : end * letters // size]

    def min_letters(self, min_bytes: int) -> int:
        """Return how many letters show `min_bytes` bytes."""
        return -(-min_bytes * self.group_letters // self.group_bytes)


_HEX = _Encoding(lambda data: data.hex().encode(), 1, 2)
_BASE64 = _Encoding(base64.b64encode, 3, 4)
_USUAL = (_HEX, _BASE64)
_RARE = (
    _Encoding(base64.b32encode, 5, 8),
    _Encoding(base64.b85encode, 4, 5, whole=True),
    _Encoding(base64.a85encode, 4, 5, whole=True),
)


def usual_forms(secret: str) -> Iterator[tuple[str, int]]:
    """Yield `secret` in hex and base64, and how many letters of each form identify it."""
    for encoding in _USUAL:
        for row in encoding.rows(secret.encode("utf-8", "replace")):
            yield row, encoding.min_letters(PIECE_BYTES)


def rare_forms(secret: str) -> Iterator[tuple[str, int]]:
    """Yield `secret` in base 32 and 85, as UTF-16, and encoded twice, like `usual_forms`."""
    data, wide = secret.encode("utf-8", "replace"), secret.encode("utf-16-le", "replace")
    for encoding in _RARE:
        for row in encoding.rows(data):
            yield row, encoding.min_letters(PIECE_BYTES)
    for encoding in _USUAL:
        for row in encoding.rows(wide):  # as PowerShell encodes texts
            yield row, encoding.min_letters(2 * PIECE_BYTES)
        for row in encoding.rows(data):
            for again in _BASE64.rows(row.encode()):
                yield again, _BASE64.min_letters(encoding.min_letters(TWICE_PIECE_BYTES))
