"""How a bound adapter calls its hooks: through pluggy, with checks of the results."""

import asyncio
import types
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import pluggy

from adapter_api.errors import ErrorCode, InternalError, WorkerError
from adapter_api.events import TokenEvent
from adapter_api.hookspecs import ADAPTER_HOOKS, PROJECT
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from adapter_api.watcher import StreamWatcher
from registry.middleware import shared_failure


def manager_of(adapter: object, middleware: tuple[object, ...]) -> pluggy.PluginManager:
    """Return a manager of just an adapter and its middleware, the outermost first.

    Raises:
        PluginValidationError, ValueError: If pluggy refuses one of them.
    """
    manager = _Manager(PROJECT)
    for hooks in ADAPTER_HOOKS:
        manager.add_hookspecs(hooks)
    # pluggy calls the last registered plugin first.
    for place, plugin in enumerate([adapter, *reversed(middleware)]):
        manager.register(plugin, name=str(place))
    manager.check_pending()
    return manager


class _Manager(pluggy.PluginManager):
    """pluggy's manager, without its search for hooks among the special methods of each object."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookspec_opts(module_or_class, name)


class RaisedGeneratorExit(Exception):
    """Code of an adapter raised GeneratorExit, its cause."""


@types.coroutine
def answer_of(call: Callable[[], Any]) -> Generator[Any, Any, Any]:
    """Call a hook, and await its answer if that is an awaitable.

    Raises:
        RaisedGeneratorExit: If the hook raised GeneratorExit. One that destroys the caller's
            coroutine, and the hook's with it, propagates.
    """
    try:
        answer = call()
    except GeneratorExit as exc:
        raise RaisedGeneratorExit from exc
    if not isinstance(answer, Awaitable):
        return answer
    step: Any = answer.__await__()
    advance, value = step.send, None
    while True:
        try:
            future = advance(value)
        except StopIteration as stop:
            return stop.value
        except GeneratorExit as exc:
            raise RaisedGeneratorExit from exc
        try:
            advance, value = step.send, (yield future)
        except GeneratorExit:
            step.close()
            raise
        except BaseException as exc:
            advance, value = step.throw, exc


def submit_failure(error: BaseException, *, shared: bool) -> Exception:
    """Return the failure of a job whose submit hook raised.

    Args:
        error: The exception.
        shared: Whether middleware may have raised it.
    """
    if isinstance(error, WorkerError):
        return error
    if shared:
        return shared_failure(error)
    failure = InternalError(ErrorCode.INTERNAL, f"the adapter failed with {type(error).__name__}")
    failure.__cause__ = error
    return failure


def iterated(events: object, name: str) -> AsyncIterator[TokenEvent]:
    """Return an iterator over the result of the submit hook of adapter `name`."""
    if isinstance(events, AsyncIterable) and not isinstance(events, AsyncIterator):
        events = aiter(events)
    if isinstance(events, AsyncIterator):
        return events
    return failing(
        InternalError(
            ErrorCode.INTERNAL,
            f"submit of adapter {name!r} returned a {_discarded(events)}, "
            "not an async iterator of events",
        )
    )


def watched(stream: TokenStream, task: TaskRequest, watcher: StreamWatcher) -> TokenStream:
    """Return the stream with `watcher`, or a stream around it if it can no longer be watched."""
    try:
        return stream.watch(watcher)
    except RuntimeError:  # a middleware's own stream, which it has begun to read
        return TokenStream(stream, task).watch(watcher)


async def failing(error: Exception) -> AsyncIterator[TokenEvent]:
    """Fail with `error` at the first step."""
    raise error
    yield  # makes it a generator


def _discarded(value: object) -> str:
    """Return the type of a wrong answer.

    A coroutine is closed, because it would warn that it was not awaited.
    """
    close = getattr(value, "close", None)
    if asyncio.iscoroutine(value) and close is not None:
        close()
    return type(value).__name__
