"""A short cut for large reads: chunks of one answer that differ in their text only.

Servers write each chunk of an answer with the same bytes around its text. Once a lane has accepted
a chunk, chunks with the same bytes around another text need no decoder but for the texts. The lane
would give the same Tokens; this takes half its time.
"""

import re
from collections.abc import Callable

import msgspec

Lane = Callable[[bytes], list[str] | None]
"""Returns the text of each chunk, one a line; None if any chunk is unusual. See lanes.py."""

MIN_BYTES = 1 << 10
"""The minimum of one read. With fewer chunks the lane is as fast."""

MAX_MISSES = 4
"""How many templates may fail in turn. A server that adds, say, random padding never has one."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_PROBE = "a text of its own"
_UNSET = b"\0"  # no line begins with it
_ESCAPED_END = b'\\","'
_strings = msgspec.json.Decoder(list[str]).decode


class Template:
    """The bytes around the text of the chunks of one answer."""

    __slots__ = ("_after", "_before", "_between", "_misses_left")

    def __init__(self) -> None:
        self._before = self._after = self._between = _UNSET
        self._misses_left = MAX_MISSES

    def texts(self, lines: bytes, lane: Lane) -> list[str] | None:
        """Return what `lane` returns for `lines`, and find the template if it is not known yet.

        Args:
            lines: One chunk a line.
            lane: Reads chunks of the endpoint that answers.
        """
        before, after = self._before, self._after
        if lines.startswith(before) and lines.endswith(after):
            texts = self._between_texts(lines)
            if texts is not None:
                self._misses_left = MAX_MISSES
                return texts
        texts = lane(lines)
        if texts and self._misses_left:
            self._misses_left -= 1
            self._learn(lines[lines.rfind(b"\n") + 1 :], texts[-1], lane)
        return texts

    def _between_texts(self, lines: bytes) -> list[str] | None:
        """Return the texts if each line is the template with a text in it."""
        start, end = len(self._before), -len(self._after)
        encoded = [line[start:end] for line in lines.split(b"\n")]
        if self._between.join(encoded) != lines[start:end]:
            return None
        array = b'["%b"]' % b'","'.join(encoded)
        # A backslash before a quote of ours might join two texts, and hide that one is malformed.
        if array.find(b'""') >= 0 or array.find(_ESCAPED_END) >= 0:
            return None
        try:
            texts = _strings(array)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return texts if len(texts) == len(encoded) else None

    def _learn(self, line: bytes, text: str, lane: Lane) -> None:
        """Find where the text stands in a chunk that `lane` accepted."""
        for found in _STRING.finditer(line):
            if msgspec.json.decode(found[0]) != text:
                continue
            before, after = line[: found.start() + 1], line[found.end() - 1 :]
            if lane(before + _PROBE.encode() + after) == [_PROBE]:
                self._before, self._after = before, after
                self._between = b"%b\n%b" % (after, before)
                return
