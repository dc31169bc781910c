"""The guard around synchronous foreign code.

A plugin runs foreign code in many places besides its import and constructor: metaclasses,
converters, validators, the `__repr__` of a default, the `__str__` of an exception. Each may raise
anything, SystemExit included. Only KeyboardInterrupt, which the user causes, propagates.
"""

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from adapter_api.errors import AdapterLoadError
from registry.plugins.discovery import AdapterRecord

_T = TypeVar("_T")

# A plugin's exception may quote a whole document; its beginning says enough.
_MAX_REASON_CHARS = 300


class Contained:
    """A context manager that keeps an exception of its block, as `error`, instead of propagating
    it.

    The block must not await: a task's own cancellation would be lost.

    Args:
        passing: Our own exceptions that propagate, in addition to KeyboardInterrupt.
    """

    __slots__ = ("_passing", "error")

    def __init__(self, *passing: type[Exception]) -> None:
        self._passing: tuple[type[BaseException], ...] = (KeyboardInterrupt, *passing)
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None or isinstance(error, self._passing):
            return False
        self.error = error
        return True


def guarded(
    record: AdapterRecord,
    doing: str,
    call: Callable[[], _T],
    *,
    explain: Callable[[BaseException], str] | None = None,
    passing: tuple[type[Exception], ...] = (),
    show: Callable[[str], str] = str,
) -> _T:
    """Return the result of `call`, which runs code of the plugin.

    Args:
        record: The adapter the code belongs to.
        doing: A description of the call, for the message, such as "building it".
        call: The call, without arguments.
        explain: Describes an exception in more words than its type and text.
        passing: Our own errors, which propagate.
        show: Removes secrets from the description.

    Raises:
        AdapterLoadError: Instead of any other exception. That one is the cause, unless its text
            holds a secret.
    """
    with Contained(*passing) as run:
        return call()
    error = run.error
    assert error is not None
    bare = f"{doing} raised {type(error).__name__}"
    # Describing it runs foreign code, too, such as a `__repr__`.
    whole = attempt(partial(explain or _raised(doing), error), bare)
    reason = attempt(partial(show, whole), bare)
    raise load_error(record, reason) from (error if reason == whole else None)


def attempt(call: Callable[[], _T], otherwise: _T) -> _T:
    """Return the result of `call`, which runs foreign code; `otherwise` if it raises."""
    with Contained():
        return call()
    return otherwise


def exception_text(error: BaseException) -> str:
    """Return an exception's type and the beginning of its text."""
    name = type(error).__name__
    text = attempt(lambda: f"{name}: {error}".removesuffix(": "), f"{name}, which cannot be shown")
    return short(text)


def short(text: str) -> str:
    """Return the text, cut to fit into a message."""
    return text if len(text) <= _MAX_REASON_CHARS else text[: _MAX_REASON_CHARS - 3] + "..."


def load_error(record: AdapterRecord, reason: str) -> AdapterLoadError:
    """Return the error that says why the adapter of `record` cannot be used."""
    return AdapterLoadError(record.name, record.distribution, record.version, record.target, reason)


def _raised(doing: str) -> Callable[[BaseException], str]:
    return lambda error: f"{doing} raised {exception_text(error)}"
