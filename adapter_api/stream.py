"""TokenStream: opening, reading, cancelling and ending one job, for every adapter."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from typing import Any, NoReturn, Self
from weakref import ref

from adapter_api.errors import Cancelled, ErrorCode, InternalError, WorkerError
from adapter_api.events import End, Error, Started, Token, TokenEvent
from adapter_api.foreign import (
    HANDED_ON,
    Raised,
    caller,
    cancellation,
    ended_by,
    steps_of,
    twin_of,
    warn_of_dropped,
)
from adapter_api.interruption import STARTING
from adapter_api.limits import StreamClock
from adapter_api.order import CheckedOrder, EventOrder, State, Violation
from adapter_api.source import Source
from adapter_api.task import TaskRequest
from adapter_api.watcher import StreamWatcher
from adapter_api.whole import WholeReading

_NOWHERE = float("nan")  # no index: it equals nothing, itself included


class TokenStream(WholeReading):
    """The events of one job, whatever adapter produces them.

    `await` it, enter it with `async with`, or iterate it: each opens it, which sends the job. A
    failure before the engine accepted the job raises from there. A later one arrives as the
    Error event, and iterating past that raises its error each time, so that no loop takes half an
    answer for a whole one. One task reads at a time; any task may cancel.

    Args:
        events: The adapter's events, usually an async generator. The stream closes it. It may yield
            lists of Tokens that were read from the connection together; the stream empties these.
        task: The job.
        clock: The job's limits, if the adapter has more than the task's deadline. That deadline is
            always enforced.
        checked: Whether another TokenStream has checked the contents of every event, so that only
            their order is checked here.

    Cancellation:
        Cancelling the reading task at any point closes `events`, and with that the connection. The
        CancelledError propagates, even if the adapter swallows it. An adapter that does not return
        within RELEASE_S is abandoned: its code keeps running in a task of its own.
    """

    __slots__ = (
        "__weakref__", "_advance", "_closed", "_count", "_expected", "_failure",
        "_held", "_opened_at", "_order", "_ready", "_settled", "_source", "_unread", "_watcher",
        "clock", "job_id", "on_gone",
    )  # fmt: skip

    def __init__(
        self,
        events: AsyncIterator[TokenEvent] | AsyncIterator[TokenEvent | list[Token]],
        task: TaskRequest,
        *,
        clock: StreamClock | None = None,
        checked: bool = False,
    ) -> None:
        self.job_id = task.job_id
        self._source = Source(events, task.job_id)
        self._advance = steps_of(events)
        self.clock = clock if clock is not None else StreamClock(task.deadline_s)
        """The job's limits, for code that hands the stream on."""
        if self.clock.deadline_at is None and task.deadline_s is not None:
            self.clock.deadline_at = self.clock.started_at + task.deadline_s
        self._order = CheckedOrder() if checked else EventOrder()
        self._held: list[TokenEvent] = []  # read, but not yet given to the reader
        self._ready: list[Token] = []  # Tokens of one read, the next one last
        self._settled = False  # the next step is known without the adapter
        self._expected: Any = _NOWHERE  # the index of a plain Token, where one may come
        self._count = 0  # Tokens delivered, while `_expected` is _NOWHERE
        self._closed = False
        self._failure: WorkerError | None = None
        self._unread: asyncio.Task[None] | None = None
        self._opened_at: tuple[str, int] | None = None
        self._watcher: StreamWatcher | None = None
        self.on_gone: tuple[Callable[[TokenStream], object], ...] = ()
        """Called with the stream when it is gone, by its destructor."""

    def watch(self, watcher: StreamWatcher) -> Self:
        """Call `watcher` at each step from now on, and return the stream. One watcher at most.

        Raises:
            RuntimeError: If the stream has a watcher already, or was opened.
        """
        if self._watcher is not None or self._opened_at is not None or self._closed:
            raise RuntimeError(f"the stream of job {self.job_id} can no longer be watched")
        self._watcher = watcher
        return self

    # Opening

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        if self._opened_at is None:
            await self._begin()
        if self._order.state is State.OPENING and not self._held:
            self._held.append(await self.__anext__())
            self._settled = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _begin(self) -> None:
        self.clock.begin()
        self._opened_at = HANDED_ON if self.clock.is_followed else caller()
        if self.clock.keeps_deadline and not self._closed:
            # The wait that follows sets the timer; `_admit` does if there is none.
            self.clock.on_unread = partial(_end_unread, ref(self))
        try:
            if self._watcher is not None:
                self._watcher.opened()
        except BaseException as exc:
            await self._leave(exc)

    # Reading

    async def __anext__(self) -> TokenEvent:
        """Return the next event.

        Raises:
            StopAsyncIteration: After End.
            WorkerError: Before Started, or after the Error event.
            RuntimeError: If another task is reading.
        """
        clock = self.clock
        event: Any
        if self._settled or clock.stopped_by is not None:
            return await self._next_known()
        if self._ready:
            event = self._ready.pop()
            if type(event) is Token and event.index == self._expected and type(event.text) is str:
                self._expected = event.index + 1
                return event
            last = self._admit(event, waited=False)
            return event if last is None else await self._end_with(last)
        if clock.reader is not None:
            raise RuntimeError(f"two tasks read the stream of job {self.job_id} at once")
        if self._opened_at is None:
            await self._begin()
        clock.reader = STARTING
        try:
            advance = self._advance  # calling a local variable is faster
            step = advance()
            future = step.send(None)
            clock.enter()
            given = await clock.drive(step, future)
            waited = True
        except StopIteration as stop:  # the adapter had the event at once
            clock.reader = None
            given = stop.value
            waited = False
        except BaseException as exc:
            given, waited = Raised(exc), True
        event = given
        if type(given) is list and given:
            self._ready = given
            if len(given) > 1:
                given.reverse()
            event = given.pop()
        if (
            type(event) is Token
            and event.index == self._expected
            and type(event.text) is str
            and clock.stopped_by is None
            and not (waited and clock.was_thrown)
        ):
            self._expected = event.index + 1
            clock.reader = None
            clock.spent_s = 0.0
            return event
        last = self._admit(event, waited)
        return event if last is None else await self._end_with(last)

    def take_buffered(self) -> list[Token]:
        """Return and consume the Tokens buffered by the last read.

        For code that passes a stream's events on: one list costs less than as many single steps.
        """
        ready, expected = self._ready, self._expected
        known = ready and expected is not _NOWHERE and set(map(type, ready)) == {Token}
        if not known or ready[0].index != expected + len(ready) - 1:
            return []  # none, or they are checked one by one
        self._ready = []
        ready.reverse()
        self._expected = expected + len(ready)
        return ready

    async def _next_known(self) -> TokenEvent:
        """Return or raise what is known without the adapter: a held event, the failure, the end."""
        if self._held:
            event = self._held.pop(0)
            self._settled = self._closed or bool(self._held)
            return event
        if not self._closed:
            assert self.clock.stopped_by is not None
            return await self._fail(self.clock.stopped_by)
        await self._source.closed.wait()
        if self._failure is not None:
            raise twin_of(self._failure)
        raise StopAsyncIteration

    async def _on_failure(self, raised: Raised) -> TokenEvent:
        """Handle an exception of the adapter, or events that ended without End or Error."""
        clock = self.clock
        exc = raised.take()
        goes_on = exc if raised.propagates else self._source.judge(exc, clock)
        try:
            if goes_on is not None:
                await self._leave(goes_on)
            if clock.stopped_by is not None:
                self._source.note_untidy(exc)
                return await self._fail(clock.stopped_by)
            return await self._fail(self._source.error_of(exc))
        finally:
            del exc, goes_on  # their tracebacks hold this frame

    def _admit(self, event: Any, waited: bool) -> Raised | WorkerError | End | None:
        """Check every event other than a plain Token in its place.

        Returns:
            The End, error or exception that ends the job; None if it continues.
        """
        if type(event) is Raised:
            return event
        clock = self.clock
        if clock.stopped_by is not None or (waited and clock.was_thrown and clock.is_cancelled):
            return Raised(asyncio.CancelledError())  # the adapter swallowed it
        if waited:
            clock.leave()
        state, delivered = self._order.state, self._delivered()
        try:
            self._order.admit(event, delivered)
            if isinstance(event, Token):
                clock.spent_s = 0.0
                if state is State.ACCEPTED and self._watcher is not None:
                    self._watcher.first_token()
                self._expected = delivered + 1
            elif isinstance(event, Error):
                self._order.state = state
                return event.error
            elif isinstance(event, End):
                return event
            elif isinstance(event, Started):
                if not waited:
                    clock.watch()
                if self._watcher is not None:
                    self._watcher.started(event)
            else:
                self._count, self._expected = delivered, _NOWHERE
        except Violation as violation:
            return InternalError(ErrorCode.INTERNAL, f"{self._source.name} yielded {violation}")
        except BaseException as exc:
            return Raised(exc, propagates=True)
        return None

    async def _end_with(self, last: Raised | WorkerError | End) -> TokenEvent:
        """End the job and return its last event."""
        if isinstance(last, Raised):
            return await self._on_failure(last)
        if isinstance(last, WorkerError):
            return await self._fail(last)
        self._close(None)
        try:
            await self._release(last)
        except BaseException:
            self._held.append(last)  # the answer is whole, even if the caller reads on
            raise
        return last

    @property
    def was_read(self) -> bool:
        """Return whether a Token or the end was read."""
        ended = self._closed and self._failure is None and not self._held
        return ended or self._delivered() > 0

    def _delivered(self) -> int:
        return self._count if self._expected is _NOWHERE else self._expected

    # Ending

    async def cancel(self) -> bool:
        """Stop the job. No Token comes after this returns, from any task.

        Returns:
            True once the adapter's resources are released; False if the job had ended. The
            adapter's own code, which cannot wait for its own end, gets True at once.
        """
        await self._stop("the job was cancelled")
        return isinstance(self._failure or self.clock.stopped_by, Cancelled)

    async def aclose(self) -> None:
        """Release everything the job holds, cancelling it if it still runs. Idempotent."""
        if not self._source.closed.is_set:
            await self._stop("the stream was closed before its end")

    async def _stop(self, why: str) -> None:
        reader, caller = self.clock.reader, asyncio.current_task()
        if self._closed:
            if self._source.closer is None or self._source.closer is not caller:
                await self._source.closed.wait()
        elif reader is None:
            error = self.clock.interrupt(cancellation(why))
            if self._order.state is not State.OPENING:
                self._held.append(Error(error))
            self._close(error)
            await self._release()
        else:
            self.clock.interrupt(cancellation(why))
            if reader is not STARTING and reader is not caller:
                await self._source.closed.wait()

    async def _leave(self, exc: BaseException) -> NoReturn:
        """Release the job's resources and raise `exc`, which is not a failure of the job."""
        try:
            self._close(ended_by(exc))
            if self.clock.was_destroyed:
                self._source.closed.set()  # the reader's coroutine may not wait
                self._tell(None, None)
            else:
                await self._release()
            raise exc
        finally:
            del exc  # its traceback holds this frame

    async def _fail(self, error: WorkerError) -> Error:
        """Close with `error`: as the last event after Started, by raising it before."""
        opening = self._order.state is State.OPENING
        # A raised error gets a traceback that holds this stream; a kept one must not.
        self._close(twin_of(error) if opening else error)
        try:
            await self._release()
            if opening:
                error.job_id = self.job_id
                raise error
            return Error(error)
        finally:
            del error  # its traceback holds this frame

    def _close(self, failure: WorkerError | None) -> None:
        delivered = self._delivered()
        self._count, self._expected = delivered, _NOWHERE
        if failure is not None:
            failure.job_id = self.job_id
            failure.tokens_emitted = delivered
            self._failure = failure
            if self.clock.stopped_by is not None:
                self.clock.stopped_by = failure
        self._closed = self._settled = True
        if self._order.state is not State.OPENING:
            self._order.state = State.ENDED
        self._ready = []
        self.clock.stop()

    async def _release(self, end: End | None = None) -> None:
        """Report how it ended, and close the adapter's generator."""
        try:
            self._tell(end, self._failure)
        finally:
            if not self._source.close_at_once():
                await self._source.close()

    def _tell(self, end: End | None, error: WorkerError | None) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self._opened_at is not None:
            watcher.ended(end, error, self._count)

    def __del__(self) -> None:
        for call in getattr(self, "on_gone", ()):
            call(self)
        # asyncio closes the adapter's generator, and so its connection, when it is collected.
        if getattr(self, "_closed", True) or self._opened_at is None:
            return
        self.clock.stop()
        self._count = self._delivered()
        self._tell(None, None)
        warn_of_dropped(self.job_id, self._opened_at)


def _end_unread(stream: "ref[TokenStream]") -> None:
    """Release what a job holds whose deadline passed between two reads. The alarm that leads here
    would keep a dropped stream alive if it held more than a weak reference."""
    found = stream()
    if found is not None:
        found._unread = asyncio.create_task(found._stop("the deadline passed"))
