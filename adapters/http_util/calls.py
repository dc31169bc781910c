"""Tool calls assembled from their pieces, for adapters of any protocol."""

from collections.abc import Hashable

import attrs

from adapter_api import InvalidToolCall, ToolCall, ToolCallDelta
from adapter_api.errors import JsonError


@attrs.define
class _Parts:
    call: int
    id: str
    name: str
    arguments: list[str] = attrs.field(factory=list)


class CallParts:
    """Collects the calls of one answer. Each method returns the event that reports the piece."""

    def __init__(self) -> None:
        self._calls: dict[Hashable, _Parts] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._calls

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, key: Hashable, index: int, id: str, name: str) -> ToolCallDelta:
        """Begin a call.

        Args:
            key: The key by which its later pieces name it.
            index: The event's index, as `AnswerStream.progress` returns it.
            id: The call's id; "" for a new one.
            name: The tool.
        """
        number = len(self._calls)
        self._calls[key] = parts = _Parts(number, id or f"call_{number}", name)
        return ToolCallDelta("", index, call=number, id=parts.id, name=name)

    def add(self, key: Hashable, index: int, arguments: str) -> ToolCallDelta:
        """Add a piece of the arguments' JSON text to a call that has begun."""
        parts = self._calls[key]
        parts.arguments.append(arguments)
        return ToolCallDelta("", index, call=parts.call, arguments=arguments)

    def finish(
        self, *, cut: bool = False
    ) -> tuple[tuple[ToolCall, ...], tuple[InvalidToolCall, ...]]:
        """Return the calls that may be run, and the others.

        Args:
            cut: The answer reached its limit on tokens, so that arguments may lack their end.
        """
        whole: list[ToolCall] = []
        invalid: list[InvalidToolCall] = []
        for parts in self._calls.values():
            call = ToolCall(parts.id, parts.name, "".join(parts.arguments) or "{}")
            try:
                call.json()
            except JsonError:
                invalid.append(
                    InvalidToolCall(
                        call.id, call.name, call.arguments, reason="cut" if cut else "not_json"
                    )
                )
            else:
                whole.append(call)
        return tuple(whole), tuple(invalid)
