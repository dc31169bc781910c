"""The guard around foreign code.

A plugin is other people's code, and more of it runs than its import and constructor: metaclasses,
converters, validators, the `__repr__` of a default, the `__str__` of an exception. Each may raise
anything, SystemExit included. Only KeyboardInterrupt, which is the user's, passes.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from adapter_api.errors import AdapterLoadError
from registry.plugins.discovery import AdapterRecord

_T = TypeVar("_T")

# A plugin's exception may quote a whole document; its beginning says enough.
_MAX_REASON_CHARS = 300


def guarded(
    record: AdapterRecord,
    doing: str,
    call: Callable[[], _T],
    *,
    explain: Callable[[BaseException], str] | None = None,
    passing: tuple[type[Exception], ...] = (),
    show: Callable[[str], str] = str,
) -> _T:
    """What `call`, which runs code of the plugin, returns.

    Args:
        record: Whose code it is.
        doing: What the call does, for the message, such as "building it".
        call: The call.
        explain: Says more about an exception than that it was raised.
        passing: Our own errors, which go on as they are.
        show: Takes secrets out of what the exception says.

    Raises:
        AdapterLoadError: Instead of whatever else was raised. Its cause is what was raised, unless
            that says a secret.
    """
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except passing:
        raise
    except BaseException as error:
        bare = f"{doing} raised {type(error).__name__}"
        # To explain runs foreign code too: whatever is to be named may have a `__repr__`.
        whole = attempt(partial(explain or _raised(doing), error), bare)
        reason = attempt(partial(show, whole), bare)
        if reason == whole:
            raise load_error(record, reason) from error
    # Outside of `except`: the cause holds a secret.
    raise load_error(record, reason)


def attempt(call: Callable[[], _T], otherwise: _T) -> _T:
    """What `call`, which runs foreign code, returns; `otherwise` if that fails."""
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return otherwise


def said(error: BaseException) -> str:
    """An exception's type and the beginning of its text."""
    name = type(error).__name__
    text = attempt(lambda: f"{name}: {error}".removesuffix(": "), f"{name}, which cannot be shown")
    return short(text)


def short(text: str) -> str:
    """The text, cut to what fits into a message."""
    return text if len(text) <= _MAX_REASON_CHARS else text[: _MAX_REASON_CHARS - 3] + "..."


def load_error(record: AdapterRecord, reason: str) -> AdapterLoadError:
    """The error that says why the adapter of `record` cannot be used."""
    return AdapterLoadError(record.name, record.distribution, record.version, record.target, reason)


def _raised(doing: str) -> Callable[[BaseException], str]:
    return lambda error: f"{doing} raised {said(error)}"
