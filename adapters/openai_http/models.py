"""The list of models that a server sends, in any of its forms."""

from collections.abc import Mapping
from typing import Any

from adapters.http_util import safe_text
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.facts import MAX_NAME_CHARS

MAX_MODELS = 1024
"""The maximum number of listed models kept: large providers have several hundred."""

MAX_MODELS_CHARS = 16 << 10
"""The length of their names together. Redacting that many characters takes up to 25 ms."""

_CONTEXT = ("max_model_len", "n_ctx", "n_ctx_train", "context_length", "context_window")
"""The names under which servers report the context length, the most exact first."""


class ModelList:
    """The latest list of a server.

    Args:
        chosen: The model of the adapter's options, if it has one.
        credentials: The credentials that no name may show.

    Attributes:
        entries: The entries as the server sent them.
    """

    def __init__(self, chosen: str | None, credentials: Credentials) -> None:
        self._chosen = chosen
        self._credentials = credentials
        self._shown: tuple[list[str], tuple[str, ...]] = ([], ())  # as sent, and as shown
        self.entries: list[dict[str, Any]] = []

    def names(self) -> tuple[str, ...]:
        """Return the names, without credentials and bounded, because they come from a server."""
        names, chars = [], 0
        for entry in self.entries[:MAX_MODELS]:
            name = entry.get("id")
            if isinstance(name, str):
                chars += len(name)
                if chars > MAX_MODELS_CHARS:
                    break
                names.append(name)
        if names != self._shown[0]:
            self._shown = names, tuple(self._safe(name) for name in names)
        return self._shown[1]

    def owner(self) -> str | None:
        """Return the first model's owner, by which some servers are recognized."""
        owner = self.entries[0].get("owned_by") if self.entries else None
        return owner if isinstance(owner, str) else None

    def context_length(self) -> int | None:
        """Return the chosen model's context length in tokens."""
        entry = self._entry()
        meta = entry.get("meta")
        known = {**meta, **entry} if isinstance(meta, dict) else entry
        lengths = (known.get(name) for name in _CONTEXT)
        return next((n for n in lengths if type(n) is int and n > 0), None)

    def digest(self) -> str | None:
        """Return the chosen model's digest."""
        digest = self._entry().get("digest")
        return self._safe(digest) if isinstance(digest, str) and digest else None

    def _entry(self) -> dict[str, Any]:
        for entry in self.entries:
            if entry.get("id") == self._chosen:
                return entry
        return self.entries[0] if len(self.entries) == 1 else {}

    def _safe(self, text: str) -> str:
        return safe_text(text, self._credentials.secrets, MAX_NAME_CHARS)


def models_in(payload: Any) -> list[dict[str, Any]] | None:
    """Return the entries of a model list; None if `payload` is not one.

    Most servers send an object with `data`, Together a bare list, others an object with `models`.
    """
    named = isinstance(payload, Mapping) and ("data" in payload or "models" in payload)
    listed = payload.get("data", payload.get("models")) if named else payload
    if named and not listed:
        return []
    entries = [entry for entry in listed if isinstance(entry, dict)] if _is_list(listed) else []
    return entries or None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
