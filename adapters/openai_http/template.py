"""A short cut for large reads: chunks of one answer that differ in their text only.

Servers write each chunk of an answer with the same bytes around its text. Once a lane has accepted
a chunk, chunks with the same bytes around another text need no decoder but for the texts. The lane
would return the same; this takes half its time.
"""

import re
from typing import Any, Generic, TypeVar

import msgspec

from adapters.openai_http.lanes import Lane, Read

_Common = TypeVar("_Common")

MIN_BYTES = 1 << 10
"""The minimum of one read. With fewer chunks the lane is as fast."""

MAX_MISSES = 4
"""The maximum number of templates in a row that match no later read. A server that adds random
padding to each chunk never has a template that matches."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_PROBE = "a text of its own"
_UNSET = b"\0"  # no line begins with it
_ESCAPED_END = b'\\","'
_strings = msgspec.json.Decoder(list[str]).decode


class Templates:
    """The templates of one answer, one for each lane."""

    __slots__ = ("_by_lane",)

    def __init__(self) -> None:
        self._by_lane: dict[Lane[Any], Template[Any]] = {}

    def read(self, lines: bytes, lane: Lane[_Common]) -> Read[_Common] | None:
        """Return what `lane` returns for `lines`."""
        if len(lines) < MIN_BYTES:
            return lane(lines)
        template = self._by_lane.get(lane)
        if template is None:
            template = self._by_lane[lane] = Template(lane)
        return template.read(lines)


class Template(Generic[_Common]):
    """The bytes around the text of the chunks that a lane reads.

    Args:
        lane: The lane.
    """

    __slots__ = ("_after", "_before", "_between", "_common", "_lane", "_misses_left")

    def __init__(self, lane: Lane[_Common]) -> None:
        self._lane = lane
        self._before = self._after = self._between = _UNSET
        self._common: Any = None
        self._misses_left = MAX_MISSES

    def read(self, lines: bytes) -> Read[_Common] | None:
        """Return what the lane returns, and find the template if it is not known yet."""
        if lines.startswith(self._before) and lines.endswith(self._after):
            texts = self._texts(lines)
            if texts is not None:
                self._misses_left = MAX_MISSES
                return self._common, texts
        read = self._lane(lines)
        if read is not None and read[1] and self._misses_left:
            self._misses_left -= 1
            self._learn(lines[lines.rfind(b"\n") + 1 :], read)
        return read

    def _texts(self, lines: bytes) -> list[str] | None:
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

    def _learn(self, line: bytes, read: Read[_Common]) -> None:
        """Find where the last text of `read` stands in its line."""
        common, texts = read
        for found in _STRING.finditer(line):
            if msgspec.json.decode(found[0]) != texts[-1]:
                continue
            before, after = line[: found.start() + 1], line[found.end() - 1 :]
            if self._lane(before + _PROBE.encode() + after) == (common, [_PROBE]):
                self._before, self._after = before, after
                self._between = b"%b\n%b" % (after, before)
                self._common = common
                return
