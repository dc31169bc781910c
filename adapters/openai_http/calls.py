"""The calls of an answer, assembled from the streamed `tool_calls`. No I/O.

Servers disagree on nearly everything: whether a piece has an index, whether the index is right,
which piece has the id and the name, and whether they are repeated. These rules handle all of them:

1. An entry belongs to the call at its index. Another id at that index opens another call. Without
   an index the id decides; without both, a new name opens a call, else the latest one continues.
2. The id is the first that is not empty. A missing or repeated one is replaced by nine
   alphanumerics, which every server accepts in a history.
3. The name may come in pieces until the call is reported, with its first arguments. The whole name
   again is not a piece.
4. Arguments are appended. A leading `{}` that more arguments follow was a placeholder.

A call is valid only if its arguments are JSON when the answer is proven whole, and never if it was
the last one of an answer that a length limit cut.
"""

import io
import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import attrs

from adapter_api import ErrorCode, InvalidToolCall, StreamingError, ToolCall
from adapter_api.messages import InvalidReason
from adapters.openai_http.names import plain
from adapters.openai_http.payload import bytes_as_json, is_strict_json
from adapters.openai_http.unicode import Halves

MAX_CALLS = 256
"""Parallel calls of one answer: OpenAI's own limit on offered tools is 128."""

MAX_NAME_CHARS = 1024
"""OpenAI allows 64 characters in a name; some gateways prepend a namespace."""

MAX_ID_CHARS = 64 << 10
"""Gateways embed a model's signature, several kilobytes of base64, in the id."""

MAX_ARGUMENT_CHARS = 8 << 20
"""The arguments of all calls together: whole files are written through a tool."""

MAX_OPAQUE_BYTES = 4 << 20
"""Signatures and other keys of all calls together."""

MAX_CHECKED_CHARS = 64 << 10
"""Longer arguments are not parsed to find out whether a call without index and id has ended:
parsing them for each piece would take quadratic time."""

MAX_PLACEHOLDER_CHARS = 16
"""The maximum length of a `{}` with blanks around it."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PLACEHOLDER = "{}"
_ARGUMENTS = ("arguments", "input", "args", "parameters")
"""Names of a call's arguments: OpenAI's, those of its custom tools, Google's and Cohere's."""
_FLAT_KEYS = ("name", *_ARGUMENTS)
_OWN_KEYS = frozenset({"index", "id", "tool_call_id", "type", "function", "custom", *_FLAT_KEYS})


class CallPiece(NamedTuple):
    """A piece of a call from one event: id and name in the first piece, None later."""

    call: int
    id: str | None
    name: str | None
    arguments: str


@attrs.define(eq=False)
class _Call:
    """One call so far. `wire_id` is the server's id, `id` the reported one."""

    wire_id: str = ""
    id: str = ""
    name: str = ""
    custom: bool = False
    extra: dict[str, Any] = attrs.field(factory=dict)
    number: int | None = None
    """The position in the order of reporting; None before the call is reported."""
    _text: io.StringIO = attrs.field(factory=io.StringIO)

    @property
    def arguments(self) -> str:
        return self._text.getvalue()

    def append(self, text: str) -> None:
        if self.number is None and self._holds_placeholder:
            self._text = io.StringIO()
        self._text.write(text)

    @property
    def _holds_placeholder(self) -> bool:
        few = self._text.tell() <= MAX_PLACEHOLDER_CHARS
        return few and self.arguments.strip() in ("", _PLACEHOLDER)

    @property
    def has_arguments(self) -> bool:
        return not self._holds_placeholder

    @property
    def has_ended(self) -> bool:
        """True if the call was reported and its arguments so far are JSON."""
        small = self._text.tell() <= MAX_CHECKED_CHARS
        return self.number is not None and small and is_strict_json(self.arguments)


class Calls:
    """Assembles the calls of one answer.

    Args:
        salt: Text that makes replaced ids unique among answers, and repeatable.
    """

    def __init__(self, salt: str = "") -> None:
        self._salt = salt
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._latest: _Call | None = None
        self._ids: set[str] = set()
        self._told = 0
        self._chars = 0
        self._opaque_bytes = 0
        self._legacy = False
        self._halves = Halves()

    def __bool__(self) -> bool:
        """Return whether any call has come."""
        return bool(self._calls)

    # Reading

    def read(self, entries: Any) -> Iterator[CallPiece]:
        """Yield the pieces that `tool_calls` of one event adds to the calls.

        Args:
            entries: The value on the wire: a list, one entry, or nothing.

        Raises:
            StreamingError: UPSTREAM_PROTOCOL for a wrong type or an exceeded bound.
        """
        if not entries and not isinstance(entries, int | float):
            return
        if self._legacy:
            raise _protocol_error("tool_calls came after a function_call")
        for entry in entries if isinstance(entries, list) else [entries]:
            if entry is None:
                continue
            if not isinstance(entry, dict):
                raise _protocol_error("an entry of tool_calls is not an object")
            piece = self._read_entry(entry)
            if piece is not None:
                yield piece

    def read_function_call(self, entry: Any) -> Iterator[CallPiece]:
        """Yield the pieces of a `function_call`, which counts only in an answer without
        tool_calls."""
        if not entry or (self._calls and not self._legacy):
            return
        if not isinstance(entry, dict):
            raise _protocol_error("function_call is not an object")
        piece = self._read_entry({"index": 0, "function": entry})
        self._legacy = bool(self._calls)
        if piece is not None:
            yield piece

    @property
    def lacks_arguments(self) -> bool:
        """True if some call has no arguments yet, which might still have come."""
        return not all(call.arguments.strip() for call in self._calls)

    @property
    def extent(self) -> int:
        """A measure of the data received so far, reported or held back."""
        return len(self._calls) + self._chars

    def read_extra(self, extra: Mapping[str, Any]) -> None:
        """Keep opaque keys that came beside the calls, for the latest one."""
        if self._latest is not None:
            self._keep_extra(self._latest, extra)

    def append(self, index: int, texts: list[str]) -> int | None:
        """Append pieces of arguments to the call at `index`, on the fast lane.

        Returns:
            The call's number; None if it was not reported yet, and then nothing is appended.
        """
        call = self._by_index.get(index)
        if call is None or call.number is None or call is not self._latest or self._halves.held:
            return None
        for text in texts:
            self._append(call, text)
        return call.number

    def _read_entry(self, entry: dict[str, Any]) -> CallPiece | None:
        entry = plain(entry)
        body = entry.get("custom") or entry.get("function") or _flat(entry)
        if not isinstance(body, dict):
            raise _protocol_error("the function of a call is not an object")
        said = {key: value for key, value in plain(body).items() if value not in (None, "")}
        body = _flat(entry) | said  # some servers put the arguments beside the function
        found_id = _id_of(entry) or _id_of(body)
        name = _text(body.get("name"), "the name of a call")
        if name == "null" and not found_id:
            name = ""
        arguments = _arguments(next((body[key] for key in _ARGUMENTS if key in body), None))
        extra = {key: value for key, value in entry.items() if key not in _OWN_KEYS and value}
        index = _index(entry.get("index"))
        call = self._find(index, found_id, name)
        if call is None:
            if not (found_id or name or arguments or extra):
                return None  # a placeholder
            call = self._open(index)
        self._latest = call
        call.custom = call.custom or bool(entry.get("custom"))
        self._keep_extra(call, extra)
        call.wire_id = call.wire_id or found_id
        if call.number is None:
            self._extend_name(call, name)
        return self._add(call, arguments)

    def _find(self, index: int | None, found_id: str, name: str) -> _Call | None:
        """Return the call that an entry belongs to; None if it opens another one."""
        if index is not None:
            call = self._by_index.get(index)
            if call is None or (found_id and call.wire_id and call.wire_id != found_id):
                return None
            return None if name not in ("", call.name) and call.has_ended else call
        latest = self._latest
        if found_id:
            for call in reversed(self._calls):
                if call.wire_id == found_id:
                    return None if name and call.has_ended else call
            id_came_later = latest is not None and not latest.wire_id and not name
            return latest if id_came_later else None
        if latest is None or (name and (name != latest.name or latest.has_ended)):
            return None
        return latest

    def _open(self, index: int | None) -> _Call:
        if len(self._calls) == MAX_CALLS:
            raise _protocol_error(f"more than {MAX_CALLS} calls in one answer")
        call = _Call()
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _extend_name(self, call: _Call, name: str) -> None:
        if name != call.name:
            call.name += name
        if len(call.name) > MAX_NAME_CHARS:
            raise _protocol_error(f"the name of a call is longer than {MAX_NAME_CHARS} characters")

    def _keep_extra(self, call: _Call, extra: Mapping[str, Any]) -> None:
        if not extra:
            return
        self._opaque_bytes += bytes_as_json(extra)
        if self._opaque_bytes > MAX_OPAQUE_BYTES:
            raise _protocol_error(f"calls with more than {MAX_OPAQUE_BYTES} bytes beside arguments")
        call.extra.update(extra)

    def _add(self, call: _Call, arguments: str) -> CallPiece | None:
        arguments = self._halves.join(id(call), arguments)
        if arguments:
            self._append(call, arguments)
        if call.number is not None:
            return CallPiece(call.number, None, None, arguments) if arguments else None
        return self._report(call) if call.name and call.has_arguments else None

    def _append(self, call: _Call, text: str) -> None:
        self._chars += len(text)
        if self._chars > MAX_ARGUMENT_CHARS:
            raise _protocol_error(f"arguments of more than {MAX_ARGUMENT_CHARS} characters")
        call.append(text)

    def _report(self, call: _Call) -> CallPiece:
        taken = not call.wire_id or call.wire_id in self._ids
        call.id = self._new_id() if taken else call.wire_id
        self._ids.add(call.id)
        call.number = self._told
        self._told += 1
        return CallPiece(call.number, call.id, call.name, call.arguments)

    def _new_id(self) -> str:
        for attempt in range(MAX_CALLS + 1):
            seed = f"{self._salt}/{self._told}/{attempt}".encode()
            number = int.from_bytes(blake2b(seed, digest_size=8).digest())
            made = "".join(_ALPHABET[number // 62**place % 62] for place in range(9))
            if made not in self._ids:
                return made
        raise AssertionError("unreachable: fewer ids are taken than were made")

    # Ending

    def close(self) -> list[CallPiece]:
        """Return the pieces that were held back until the answer's end.

        Raises:
            StreamingError: UPSTREAM_PROTOCOL if a call never got a name.
        """
        pieces = []
        for call in self._calls:
            rest = self._halves.rest(id(call))
            if rest:
                self._append(call, rest)
                if call.number is not None:
                    pieces.append(CallPiece(call.number, None, None, rest))
            if call.number is None:
                if not call.name:
                    raise _protocol_error("a call without a name")
                if not call.arguments.strip() and not call.custom:
                    call.append(_PLACEHOLDER)
                pieces.append(self._report(call))
        return pieces

    def sort(self, *, cut: bool, full: bool) -> tuple[list[ToolCall], list[InvalidToolCall]]:
        """Return the calls that can be run, and the others, each in the order in which they came.

        Args:
            cut: A length limit ended the answer, so that its last call is not trusted.
            full: As many tokens as allowed were generated: a last call that is not JSON was cut.
        """
        valid: list[ToolCall] = []
        invalid: list[InvalidToolCall] = []
        for call in self._calls:
            last = call is self._calls[-1]
            extra = {**call.extra, "type": "custom"} if call.custom else call.extra
            parts = (call.id, call.name, call.arguments, extra)
            readable = call.custom or is_strict_json(call.arguments)
            if readable and not (last and cut):
                valid.append(ToolCall(*parts))
            else:
                reason: InvalidReason = "cut" if last and (cut or full) else "not_json"
                invalid.append(InvalidToolCall(*parts, reason=reason))
        return valid, invalid


def _index(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    if type(value) is not int:
        raise _protocol_error(f"the index of a call is a {type(value).__name__}")
    return value


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the function of an entry that holds name and arguments itself."""
    return {key: entry[key] for key in _FLAT_KEYS if key in entry}


def _id_of(entry: dict[str, Any]) -> str:
    value = entry.get("id") or entry.get("tool_call_id")
    if type(value) is int:
        return str(value)
    found = _text(value, "the id of a call")
    if len(found) > MAX_ID_CHARS:
        raise _protocol_error(f"the id of a call is longer than {MAX_ID_CHARS} characters")
    return found


def _text(value: Any, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _protocol_error(f"{what} is a {type(value).__name__}")
    return value.encode("utf-8", "replace").decode()


def _arguments(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, dict):
        raise _protocol_error(f"the arguments of a call are a {type(value).__name__}")
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError as exc:
        raise _protocol_error("the arguments of a call are nested too deeply") from exc


def _protocol_error(what: str) -> StreamingError:
    return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not an OpenAI stream: {what}")
