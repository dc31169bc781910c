"""The root of all errors that this package raises on purpose."""

from collections.abc import Callable
from typing import Any, TypeVar

_E = TypeVar("_E", bound=Exception)


def _revive(cls: type[_E], args: tuple[Any, ...], state: dict[str, Any]) -> _E:
    """Return an unpickled error with its notes, whatever its constructor takes."""
    error = cls.__new__(cls, *args)
    error.args = args  # built-in bases such as TimeoutError set them in __init__ only
    error.__dict__.update(state)
    return error


class WorkerAdaptersError(Exception):
    """The root of all errors that this package raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., "WorkerAdaptersError"], tuple[Any, ...]]:
        return _revive, (type(self), self.args, dict(vars(self)))
