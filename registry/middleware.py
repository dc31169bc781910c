"""Middleware around submit: drives the wrappers and closes the streams between them.

`async for` does not close its iterator, and authors of middleware easily forget to. So every stream
that a middleware received is closed together with the stream that the caller holds.
"""

from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pluggy

from adapter_api.errors import ErrorCode, InternalError, WorkerError
from adapter_api.events import TokenEvent
from adapter_api.task import TaskRequest


def drive(impls: Sequence[pluggy.HookImpl], task: TaskRequest) -> tuple[Any, list[Any]]:
    """Call submit through its wrappers, as pluggy's `_multicall` does.

    Args:
        impls: The adapter's implementation, and then the wrappers, the innermost first.
        task: The argument.

    Returns:
        What the outermost wrapper returned, and what each wrapper received, the adapter's own
        stream first.
    """
    if len(impls) == 1:
        return _call(impls[0], task), []
    adapter, *wrappers = impls
    running: list[Generator[None, Any, Any]] = []
    received: list[Any] = []
    result: Any = None
    error: BaseException | None = None
    try:
        for wrapper in reversed(wrappers):
            generator = _call(wrapper, task)
            next(generator)  # up to its `yield`
            running.append(generator)
        result = _call(adapter, task)
    except BaseException as exc:
        error = _not_a_stop(exc)
    for generator in reversed(running):
        try:
            if error is not None:
                generator.throw(error)
            else:
                received.append(result)
                generator.send(result)
            generator.close()
            error = RuntimeError("a wrapper of submit must yield only once")
        except StopIteration as stop:  # it returned
            result, error = stop.value, None
        except BaseException as exc:
            error = _not_a_stop(exc)
    if error is not None:
        raise error
    return result, received


def _call(impl: pluggy.HookImpl, task: TaskRequest) -> Any:
    return impl.function(*[task][: len(impl.argnames)])  # middleware may leave out the argument


def _not_a_stop(error: BaseException) -> BaseException:
    # A StopIteration thrown into a generator is indistinguishable from the generator's return.
    if not isinstance(error, StopIteration):
        return error
    failure = RuntimeError("submit or its middleware raised StopIteration")
    failure.__cause__ = error
    return failure


def shared_failure(error: BaseException) -> InternalError:
    """Return the error for an exception of an adapter or of the middleware around it, which cannot
    be told apart."""
    name = type(error).__name__
    failure = InternalError(ErrorCode.INTERNAL, f"the adapter or its middleware failed with {name}")
    failure.__cause__ = error
    return failure


class Layered(AsyncIterator[TokenEvent]):
    """A middleware's events; closing them closes the streams below, whatever middleware does.

    Args:
        outermost: The stream that the caller reads.
        below: The streams that middleware received, the adapter's first.
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
        """Close all, the outermost first, even if closing one of them fails."""
        async with AsyncExitStack() as stack:
            for events in (*self._below, self._outermost):
                stack.push_async_callback(close, events)


async def close(events: object) -> None:
    """Close `events` if it can be closed."""
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()
