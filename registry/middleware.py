"""The streams between the outermost middleware and the adapter.

`async for` does not close what it iterates, and a middleware's author easily forgets to. So what
each middleware was given is remembered, and closed with the stream that the caller holds.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from typing import Any

import pluggy

from adapter_api.errors import ErrorCode, InternalError, WorkerError
from adapter_api.events import TokenEvent
from adapter_api.hookspecs import hookimpl


class Given:
    """What the middleware of one adapter was given in the submit that is going on.

    Attributes:
        streams: The streams, the adapter's first.
        layered: Whether there is any middleware around submit.
    """

    def __init__(self) -> None:
        self.streams: list[object] = []
        self.layered = False


def _layer(given: Given, *, tryfirst: bool = False, trylast: bool = False) -> object:
    """What stands below one middleware, and notes what that is given."""

    class Layer:
        @hookimpl(wrapper=True, tryfirst=tryfirst, trylast=trylast)
        def submit(self) -> Any:
            events = yield
            given.streams.append(events)
            return events

    return Layer()


def with_layers(
    manager: pluggy.PluginManager, middleware: Iterable[object], given: Given
) -> list[object]:
    """The middleware, with what notes its streams, in the order in which to register them.

    Args:
        manager: Where they will be registered.
        middleware: The first is the outermost.
        given: Where to note.
    """
    plugins: list[object] = []
    for plugin in reversed(tuple(middleware)):  # pluggy calls what was registered last first,
        options = _submit_options(manager, plugin)
        if options is None:
            plugins.append(plugin)
            continue
        given.layered = True
        if options["trylast"]:  # but not among those that try to be last
            plugins += (plugin, _layer(given, trylast=True))
        else:
            plugins += (_layer(given, tryfirst=options["tryfirst"]), plugin)
    return plugins


def _submit_options(manager: pluggy.PluginManager, plugin: object) -> Any:
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is not None and (options.get("specname") or name) == "submit":
            return options
    return None


def shared_failure(error: Exception) -> InternalError:
    """The failure of an adapter or of middleware around it: what an exception passed cannot be
    told, and neither shall be blamed for the other."""
    name = type(error).__name__
    failure = InternalError(ErrorCode.INTERNAL, f"the adapter or its middleware failed with {name}")
    failure.__cause__ = error
    return failure


class Layered(AsyncIterator[TokenEvent]):
    """A middleware's events; closing them closes the streams below, whatever middleware does.

    Args:
        outermost: What the caller reads.
        below: The streams below, the adapter's first.
    """

    def __init__(self, outermost: AsyncIterator[TokenEvent], below: list[object]) -> None:
        self._advance = outermost.__anext__
        self._outermost = outermost
        self._below = below

    async def __anext__(self) -> TokenEvent:
        try:
            return await self._advance()
        except (StopAsyncIteration, WorkerError):
            raise
        except Exception as error:
            raise shared_failure(error) from error

    async def aclose(self) -> None:
        """Close all, the outermost first, also where one of them fails."""
        async with AsyncExitStack() as stack:
            for events in (*self._below, self._outermost):
                stack.push_async_callback(close, events)


async def close(events: object) -> None:
    """Close what can be closed."""
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()
