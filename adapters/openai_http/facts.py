"""The facts that an answer states about itself: its model, its versions, its counts. No I/O."""

from collections.abc import Iterable, Mapping
from typing import Any

from adapters.http_util import safe_text
from adapters.openai_http.usage import OWN_NUMBERS, Usage, own_numbers, read_usage

MAX_NAME_CHARS = 256
"""The maximum length of a model, a fingerprint or an id: they go into logs."""

_COUNTS = frozenset({"usage", "x_groq", *OWN_NUMBERS})


class Facts:
    """Collects what the chunks of one answer state about it.

    Args:
        secrets: Credentials to keep out of names and numbers.

    Attributes:
        model: The first model that is named; "" if none is.
        fingerprint: The first `system_fingerprint`.
        completion_id: The first id, which may identify the server. It is not safe to show.
    """

    __slots__ = (
        "_beside_usage",
        "_fallback_usage",
        "_secrets",
        "_usage",
        "completion_id",
        "fingerprint",
        "model",
    )

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secrets)
        self._usage: Any = None
        self._fallback_usage: Any = None
        self._beside_usage: dict[str, Any] = {}
        self.model = ""
        self.fingerprint = ""
        self.completion_id = ""

    def note(self, payload: Mapping[str, Any]) -> None:
        """Note the names and the counts of a chunk."""
        self.note_usage(payload)
        self.note_names(payload.get("id"), payload.get("model"), payload.get("system_fingerprint"))

    def note_names(self, completion_id: object, model: object, fingerprint: object) -> None:
        """Note the names in a chunk. The first non-empty one is kept: Started must not depend on
        how much arrived in one read."""
        if not self.completion_id and isinstance(completion_id, str):
            self.completion_id = completion_id[:MAX_NAME_CHARS]
        if not self.model and isinstance(model, str):
            self.model = safe_text(model, self._secrets, MAX_NAME_CHARS)
        if not self.fingerprint and isinstance(fingerprint, str):
            self.fingerprint = safe_text(fingerprint, self._secrets, MAX_NAME_CHARS)

    def note_usage(self, source: Mapping[str, Any]) -> None:
        """Note the counts of a chunk, or of a choice."""
        if _COUNTS.isdisjoint(source):
            return
        usage = source.get("usage")
        if usage and read_usage(usage) is not None:
            self._usage = usage
        for name in OWN_NUMBERS:
            if source.get(name):
                self._beside_usage[name] = source[name]
        groq = source.get("x_groq")
        if isinstance(groq, dict):
            self._fallback_usage = groq.get("usage") or self._fallback_usage

    @property
    def usage(self) -> Usage | None:
        """The engine's latest counts that are not empty."""
        return read_usage(self._usage) or read_usage(self._fallback_usage)

    def own_numbers(self) -> dict[str, Any]:
        """Return the engine's numbers that Metrics does not hold, unchanged."""
        usage = self._fallback_usage if self._usage is None else self._usage
        return own_numbers(usage, self._beside_usage, self._secrets)
