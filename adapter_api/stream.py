"""TokenStream: opening, reading, cancelling and ending one job, for every adapter."""

import asyncio
import copy
import inspect
import logging
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self
from weakref import ref

from adapter_api.answer import Answer, AnswerParts
from adapter_api.errors import Cancelled, ErrorCode, InternalError, StreamingError, WorkerError
from adapter_api.events import End, Error, Started, Token, TokenEvent
from adapter_api.interruption import RELEASE_S, STARTING, GaveUp, Interruption
from adapter_api.limits import StreamClock
from adapter_api.order import EventOrder, State, Violation
from adapter_api.task import TaskRequest

logger = logging.getLogger("worker_adapters.stream")
# A library stays silent unless the application configures logging.
logging.getLogger("worker_adapters").addHandler(logging.NullHandler())


class StreamWatcher(Protocol):
    """Receives lifecycle callbacks for one stream.

    Callbacks must not raise, block, or keep a reference to the stream. BaseExceptions such as
    KeyboardInterrupt propagate after cleanup.
    """

    def opened(self) -> None:
        """The stream is read for the first time: the job is being sent."""

    def started(self, event: Started) -> None:
        """The engine accepted the job."""

    def first_token(self) -> None:
        """The first Token is about to be delivered."""

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """The job is over: with `end`, with `error`, or dropped with neither. Called once.

        A drop is reported from a destructor, and so at any point of any thread.

        Args:
            end: The End event.
            error: The error it failed with, Cancelled included.
            delivered: How many Tokens were delivered.
        """


class TokenStream(AsyncIterator[TokenEvent]):
    """The events of one job, whatever adapter produces them.

    `await` it, enter it with `async with`, or iterate it: each opens it, which sends the job. A
    failure before the engine accepted the job raises from there. A later one arrives as the
    Error event, and iterating past that raises its error each time, so that no loop takes half an
    answer for a whole one. One task reads at a time; any task may cancel.

    Args:
        events: The adapter's events, usually an async generator. The stream closes it. It may give
            lists of Tokens that came off the connection at once; the stream empties these.
        task: The job.
        clock: The job's limits, if the adapter has more than the task's deadline. That deadline
            is kept in any case.

    Cancellation:
        Cancelling the reading task at any point closes `events`, and with that the connection. The
        CancelledError propagates, even if the adapter swallows it. An adapter that does not leave
        within RELEASE_S is abandoned: its code runs on in a task of its own.
    """

    __slots__ = (
        "__weakref__",
        "_advance",
        "_clock",
        "_closed",
        "_count",
        "_events",
        "_expected",
        "_failure",
        "_held",
        "_opened_at",
        "_order",
        "_ready",
        "_released",
        "_releaser",
        "_settled",
        "_unread",
        "_watcher",
        "job_id",
    )

    def __init__(
        self,
        events: AsyncIterator[TokenEvent] | AsyncIterator[TokenEvent | list[Token]],
        task: TaskRequest,
        *,
        clock: StreamClock | None = None,
    ) -> None:
        self.job_id = task.job_id
        self._events: Any = events
        self._advance = _steps_of(events)
        self._clock = clock if clock is not None else StreamClock(task.deadline_s)
        if self._clock.deadline_at is None and task.deadline_s is not None:
            self._clock.deadline_at = self._clock.started_at + task.deadline_s
        self._order = EventOrder()
        self._held: list[TokenEvent] = []  # read, but not yet given to the reader
        self._ready: list[Token] = []  # what came at once, the next one last
        self._settled = False  # the next step is known without the adapter
        self._expected: int | None = None  # the index of a plain Token, where one may come
        self._count = 0  # Tokens delivered, where `_expected` is None
        self._closed = False
        self._failure: WorkerError | None = None
        self._released = asyncio.Event()
        self._releaser: asyncio.Task[object] | None = None
        self._unread: asyncio.Task[None] | None = None
        self._opened_at: tuple[str, int] | None = None
        self._watcher: StreamWatcher | None = None

    @property
    def clock(self) -> StreamClock:
        """The job's limits, for code that hands the stream on."""
        return self._clock

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
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _open(self) -> Self:
        await self._note_caller()
        if self._order.state is State.OPENING and not self._held:
            self._hold(await self.__anext__())
        return self

    async def _note_caller(self) -> None:
        first = self._opened_at is None
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
        self._opened_at = (frame.f_code.co_filename, frame.f_lineno)
        if self._clock.deadline_at is not None:
            self._clock.on_unread = partial(_end_unread, ref(self))
            self._clock.watch()
        if first and self._watcher is not None:
            try:
                self._watcher.opened()
            except BaseException as exc:  # the caller has no stream yet that it could close
                self._close(_ended_by(exc))
                await self._release()
                raise

    # Reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenEvent:
        """Return the next event.

        Raises:
            StopAsyncIteration: After End.
            WorkerError: Before Started, or after the Error event.
            RuntimeError: If another task is reading.
        """
        clock = self._clock
        if self._settled or clock.stopped_by is not None:
            return await self._next_known()
        if self._ready:
            event: Any = self._ready.pop()
            waited = False
        else:
            if clock.reader is not None:
                raise RuntimeError(f"two tasks read the stream of job {self.job_id} at once")
            if self._opened_at is None:
                await self._note_caller()
            clock.reader = STARTING
            try:
                step = self._advance()
                future = step.send(None)
                clock.enter()
                event = await clock.drive(step, future)
                waited = True
            except StopIteration as stop:  # the adapter had the event at once
                clock.reader = None
                event = stop.value
                waited = False
            except BaseException as exc:
                return await self._on_failure(exc)
            if type(event) is list and event:
                self._ready = event
                event.reverse()
                event = event.pop()
        if (
            type(event) is Token
            and event.index == self._expected
            and type(event.text) is str
            and clock.stopped_by is None
            and not (waited and clock.was_thrown)
        ):
            self._expected += 1
            clock.reader = None
            clock.spent_s = 0.0
            return event
        return await self._on_rare(event, waited)

    def take_buffered(self) -> list[Token]:
        """Return and consume the Tokens buffered by the last read.

        For code that hands a stream's events on: one list costs less than as many single steps.
        """
        ready, expected = self._ready, self._expected
        if not ready or expected is None:
            return []
        if set(map(type, ready)) != {Token} or ready[0].index != expected + len(ready) - 1:
            return []  # they are checked one by one
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
            assert self._clock.stopped_by is not None
            return await self._fail(self._clock.stopped_by)
        await self._released.wait()
        if self._failure is not None:
            raise _twin(self._failure)
        raise StopAsyncIteration

    async def _on_failure(self, exc: BaseException) -> TokenEvent:
        """Handle what the adapter raised, or that its events ended without a last word."""
        clock = self._clock
        within = clock.reader is STARTING or clock.reader is _current_task()
        gone = isinstance(exc, GaveUp)
        if gone:
            self._abandon()
        exc.__traceback__ = _without_own_frames(exc.__traceback__)
        goes_on = _what_goes_on(exc, cancelled=clock.take_back(), within=within)
        try:
            if goes_on is not None:
                self._close(_ended_by(goes_on))
                if isinstance(goes_on, GeneratorExit):
                    self._released.set()  # the reader's coroutine is destroyed and may not wait
                    self._tell(None, None)
                else:
                    await self._release()
                raise goes_on
            if clock.stopped_by is not None:
                if not gone and not isinstance(
                    exc, asyncio.CancelledError | StopAsyncIteration | WorkerError
                ):
                    self._log_untidy(exc)
                return await self._fail(clock.stopped_by)
            return await self._fail(self._error_of(exc))
        finally:
            del exc, goes_on  # their tracebacks hold this frame

    def _error_of(self, exc: BaseException) -> WorkerError:
        """Return the error that an adapter's exception amounts to."""
        if isinstance(exc, WorkerError):
            return exc
        if isinstance(exc, StopAsyncIteration):
            message = f"the events of {self._adapter()} ended without End or Error"
            return StreamingError(ErrorCode.STREAM_TRUNCATED, message)
        message = f"{self._adapter()} failed with {type(exc).__name__}"
        error = InternalError(ErrorCode.INTERNAL, message)
        error.__cause__ = exc
        return error

    def _adapter(self) -> str:
        """Name the code that gives the events, for a message."""
        source = self._events
        name = getattr(source, "__qualname__", type(source).__qualname__)
        return f"the adapter ({name.replace('.<locals>', '')})"

    async def _on_rare(self, event: Any, waited: bool) -> TokenEvent:
        """Handle everything but a plain Token in its place."""
        clock = self._clock
        if clock.stopped_by is not None or (waited and clock.was_thrown and clock.is_cancelled):
            return await self._on_failure(asyncio.CancelledError())  # the adapter swallowed it
        if waited:
            clock.leave()
        state, delivered = self._order.state, self._delivered()
        try:
            self._order.admit(event, delivered)
        except Violation as violation:
            message = f"{self._adapter()} gave {violation}"
            return await self._fail(InternalError(ErrorCode.INTERNAL, message))
        if isinstance(event, Token):
            clock.spent_s = 0.0
            self._expected = delivered + 1
            if state is State.ACCEPTED and self._watcher is not None:
                self._watcher.first_token()
        elif isinstance(event, Error):
            self._order.state = state
            return await self._fail(event.error)
        elif isinstance(event, End):
            await self._finish(event)
        elif isinstance(event, Started):
            if self._watcher is not None:
                self._watcher.started(event)
        else:
            self._count, self._expected = delivered, None
        return event  # type: ignore[no-any-return]

    async def _finish(self, end: End) -> None:
        self._close(None)
        try:
            await self._release(end)
        except BaseException:
            self._hold(end)  # the answer is whole, whoever reads on
            raise

    def _delivered(self) -> int:
        return self._count if self._expected is None else self._expected

    def _hold(self, event: TokenEvent) -> None:
        self._held.append(event)
        self._settled = True

    async def text(self) -> str:
        """Return the whole text of the answer; closes the stream. With tools, use `answer`.

        Raises:
            WorkerError: If the answer is not whole.
            RuntimeError: If a part of the stream was read already.
        """
        self._require_all()
        async with self:
            return "".join([event.text async for event in self if isinstance(event, Token)])

    async def answer(self) -> Answer:
        """Return the whole answer with calls and reasoning; closes the stream.

        Raises:
            WorkerError: If the answer is not whole.
            RuntimeError: If a part of the stream was read already.
        """
        self._require_all()
        parts = AnswerParts()
        end: End | None = None
        async with self:
            async for event in self:
                if isinstance(event, Token):
                    parts.add(event)
                elif isinstance(event, End):
                    end = event
        assert end is not None  # a stream without it raises
        return parts.answer(end)

    async def tokens(self) -> AsyncIterator[Token]:
        """Yield the Tokens; closes the stream.

        Raises:
            WorkerError: If the answer is not whole.
        """
        async with self:
            async for event in self:
                if isinstance(event, Token):
                    yield event

    def _require_all(self) -> None:
        """Raise RuntimeError if an event was read: what follows would pass for the whole answer."""
        ended = self._closed and self._failure is None and not self._held
        if self._delivered() or ended:
            raise RuntimeError(
                f"a part of the stream of job {self.job_id} was read already: collect the events "
                "and use Answer.of(events), or call text() or answer() first"
            )

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events as JSON-able dicts; closes the stream.

        It never raises WorkerError: a failure is the last frame, of type "error".
        """
        from adapter_api.frames import to_frame  # cattrs takes as long to import as all the rest

        try:
            async for event in self:
                yield to_frame(event)
                if isinstance(event, Error):
                    return
        except WorkerError as error:
            yield to_frame(Error(error))
        finally:
            await self.aclose()

    # Ending

    async def cancel(self) -> bool:
        """Stop the job. No Token comes after this returns, from any task.

        Returns:
            True once the adapter's resources are released; False if the job had ended. The
            adapter's own code, which cannot wait for its own end, gets True at once.
        """
        await self._stop("the job was cancelled")
        return isinstance(self._failure or self._clock.stopped_by, Cancelled)

    async def aclose(self) -> None:
        """Release everything the job holds, cancelling it if it still runs. Idempotent."""
        await self._stop("the stream was closed before its end")

    async def _stop(self, why: str) -> None:
        reader, caller = self._clock.reader, asyncio.current_task()
        if self._closed:
            if self._releaser is None or self._releaser is not caller:
                await self._released.wait()
        elif reader is None:
            self._clock.interrupt(_cancelled(why))
            error = self._clock.stopped_by
            assert error is not None
            if self._order.state is not State.OPENING:
                self._hold(Error(error))
            self._close(error)
            await self._release()
        else:
            self._clock.interrupt(_cancelled(why))
            if reader is not STARTING and reader is not caller:
                await self._released.wait()

    def _end_unread(self) -> None:
        """The deadline passed between two reads: release what the job holds now, and not at the
        next read. Called by the clock."""
        self._unread = asyncio.create_task(self._stop("the deadline passed"))

    async def _fail(self, error: WorkerError) -> Error:
        """Close with `error`: as the last event after Started, by raising it before."""
        opening = self._order.state is State.OPENING
        # What is raised gets a traceback that holds this stream; what is kept must not.
        self._close(_twin(error) if opening else error)
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
        self._count, self._expected = delivered, None
        if failure is not None:
            failure.job_id = self.job_id
            failure.tokens_emitted = delivered
            self._failure = failure
            if self._clock.stopped_by is not None:
                self._clock.stopped_by = failure
        self._closed = self._settled = True
        if self._order.state is not State.OPENING:
            self._order.state = State.ENDED
        self._ready = []
        self._clock.stop()

    async def _release(self, end: End | None = None) -> None:
        """Report how it ended, and close the adapter's generator."""
        try:
            self._tell(end, self._failure)
        finally:
            await self._close_events()

    def _tell(self, end: End | None, error: WorkerError | None) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self._opened_at is not None:
            watcher.ended(end, error, self._count)

    async def _close_events(self) -> None:
        """Close the adapter's generator. An error in its cleanup is logged: the outcome stands."""
        task, before, goes_on = None, 0, None
        try:
            self._releaser = task = asyncio.current_task()
            before = 0 if task is None else task.cancelling()
            aclose = getattr(self._events, "aclose", None)
            if aclose is not None:
                await _in_time(aclose())
        except GaveUp:
            self._abandon()
        except BaseException as exc:
            exc.__traceback__ = _without_own_frames(exc.__traceback__)
            cancelled = task is not None and task.cancelling() > before
            goes_on = _what_goes_on(exc, cancelled=cancelled, within=True)
            if goes_on is not exc:
                self._log_untidy(exc)
        finally:
            self._releaser = None
            self._released.set()
        if goes_on is not None:
            try:
                raise goes_on
            finally:
                del goes_on  # its traceback holds this frame

    def _abandon(self) -> None:
        logger.warning(
            "%s did not stop within %g s after job %s was over: it runs on by itself",
            self._adapter(),
            RELEASE_S,
            self.job_id,
        )
        self._events = None

    def _log_untidy(self, exc: BaseException) -> None:
        # Foreign texts may hold a key: they are for debugging only.
        logger.warning(
            "closing the events of job %s failed with %s",
            self.job_id,
            type(exc).__name__,
            exc_info=exc if logger.isEnabledFor(logging.DEBUG) else None,
        )

    def __del__(self) -> None:
        # asyncio closes the adapter's generator, and so its connection, when it is collected.
        if getattr(self, "_closed", True) or self._opened_at is None:
            return
        self._clock.stop()
        self._count = self._delivered()
        self._tell(None, None)
        filename, line = self._opened_at
        warnings.warn(
            f"the stream of job {self.job_id}, opened at {filename}:{line}, was dropped before its "
            "end: use `async with adapter.submit(task) as stream`, or call aclose()",
            ResourceWarning,
            stacklevel=2,  # no source=self: a recorded warning would keep the connection open
        )


def _end_unread(stream: "ref[TokenStream]") -> None:
    # A timer that held the stream would keep one that was dropped alive.
    found = stream()
    if found is not None:
        found._end_unread()


def _steps_of(events: Any) -> Any:
    """Return what makes the awaitable of the next event: one with `send`, `throw` and `close`."""
    advance = events.__anext__
    if isinstance(events, AsyncGenerator) or inspect.iscoroutinefunction(advance):
        return advance
    return lambda: _awaited(advance())


async def _awaited(step: Awaitable[Any]) -> Any:
    return await step


async def _in_time(closing: Awaitable[object]) -> None:
    """Wait for the cleanup of an adapter's generator, for RELEASE_S at most.

    Raises:
        GaveUp: If it takes longer.
    """
    step: Any = closing if hasattr(closing, "send") else _awaited(closing)
    try:
        future = step.send(None)
    except StopIteration:
        return
    await Interruption().outwait(step, future, RELEASE_S)


def _current_task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # a coroutine is destroyed after its loop was closed
        return None


def _cancelled(why: str) -> Cancelled:
    return Cancelled(ErrorCode.CANCELLED, why)


def _ended_by(exc: BaseException) -> Cancelled:
    return _cancelled(f"the reader was ended by {type(exc).__name__}")


def _twin(error: WorkerError) -> WorkerError:
    """Return a copy of `error` with its cause and without its traceback."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin


def _without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Drop our frames at the beginning: they hold the stream, which would hold itself."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback


def _what_goes_on(exc: BaseException, *, cancelled: bool, within: bool) -> BaseException | None:
    """Return what leaves the stream because of an adapter's exception, whatever the job's outcome.

    That is a cancellation from elsewhere, even where the adapter made another exception of it,
    KeyboardInterrupt, and a GeneratorExit from outside the reading task, which destroys the
    reader's coroutine. Everything else is a failure of this job only: SystemExit, and a
    CancelledError of a task that the adapter waits for.
    """
    if isinstance(exc, KeyboardInterrupt) or (isinstance(exc, GeneratorExit) and not within):
        return exc
    if not cancelled:
        return None
    if isinstance(exc, asyncio.CancelledError):
        return exc
    again = asyncio.CancelledError()
    again.__cause__ = None if isinstance(exc, GaveUp) else exc
    return again


class StreamTable:
    """The streams of one adapter, for cancelling by job_id. Holds them weakly."""

    def __init__(self) -> None:
        self._streams: dict[str, list[ref[TokenStream]]] = {}

    def add(self, stream: TokenStream) -> TokenStream:
        """Remember `stream` for as long as it exists, and return it."""
        forget = partial(_forget, self._streams, stream.job_id)
        self._streams.setdefault(stream.job_id, []).append(ref(stream, forget))
        return stream

    async def cancel(self, job_id: str) -> bool:
        """Cancel the job's stream. Returns False if no such job is running."""
        streams = [stream() for stream in self._streams.get(job_id, ())]
        return any([await stream.cancel() for stream in streams if stream is not None])

    async def aclose(self) -> None:
        """Close every stream."""
        streams = [stream() for streams in list(self._streams.values()) for stream in streams]
        for stream in streams:
            if stream is not None:
                await stream.aclose()


def _forget(
    streams: dict[str, list["ref[TokenStream]"]], job_id: str, gone: "ref[TokenStream]"
) -> None:
    rest = [stream for stream in streams.get(job_id, ()) if stream is not gone]
    if rest:
        streams[job_id] = rest
    else:
        streams.pop(job_id, None)
