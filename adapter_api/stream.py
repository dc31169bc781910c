"""TokenStream: the order of events, cancelling, deadline and completion proof for every adapter."""

import asyncio
import logging
import sys
import warnings
from collections.abc import AsyncIterator, Generator
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self
from weakref import WeakSet, ref

from adapter_api.answer import Answer, AnswerParts
from adapter_api.errors import Cancelled, ErrorCode, InternalError, StreamingError, WorkerError
from adapter_api.events import End, Error, MetricsFrame, Started, Token, TokenEvent
from adapter_api.limits import StreamClock
from adapter_api.task import TaskRequest

logger = logging.getLogger("worker_adapters.stream")
# A library stays silent unless the application asks to hear it.
logging.getLogger("worker_adapters").addHandler(logging.NullHandler())


class StreamWatcher(Protocol):
    """Is told what becomes of a stream. It must not raise, wait, or hold the stream.

    What is no Exception, KeyboardInterrupt say, may leave it, and goes on after the release.
    """

    def opened(self) -> None:
        """Somebody reads for the first time: the job is being sent."""

    def started(self, event: Started) -> None:
        """The engine accepted it."""

    def first_token(self) -> None:
        """The first Token is about to be delivered."""

    def ended(self, end: End | None, error: WorkerError | None, delivered: int) -> None:
        """It is over: with `end`, with `error`, or dropped with neither. Told once, if opened.

        A drop is told from a destructor, and so at any point of any thread.

        Args:
            end: The End event.
            error: What it failed with, Cancelled included.
            delivered: How many Tokens were delivered.
        """


class TokenStream(AsyncIterator[TokenEvent]):
    """The events of one job, whoever produces them.

    `await` it, enter it with `async with`, or iterate it: each opens it, which sends the job. A
    failure before the engine accepted the job raises from there. A later one arrives as the
    Error event, and iterating past that raises its error, again and again, so that no loop
    takes half an answer for a whole one. One task reads at a time; any task may cancel.

    Args:
        events: The adapter's events, usually an async generator. The stream closes it. Instead of
            single Tokens it may give lists of them, as they came off the connection at once; the
            stream empties these.
        task: The job.
        clock: The job's limits, if the adapter has more than the task's deadline. That deadline
            is kept in any case.

    Cancellation:
        Cancelling the reading task at any point closes `events`, and with that the
        connection, and the CancelledError goes on, also where the adapter answers it with
        another exception or with its end.
    """

    __slots__ = (
        "__weakref__",
        "_advance",
        "_clock",
        "_closed",
        "_events",
        "_failure",
        "_held",
        "_index",
        "_opened_at",
        "_phase",
        "_ready",
        "_released",
        "_releaser",
        "_unread",
        "_watcher",
        "job_id",
    )

    _NEW, _STARTED, _OPEN, _METRICS = range(4)  # _STARTED: the first Token is to be told

    def __init__(
        self,
        events: AsyncIterator[TokenEvent] | AsyncIterator[TokenEvent | list[Token]],
        task: TaskRequest,
        *,
        clock: StreamClock | None = None,
    ) -> None:
        self.job_id = task.job_id
        self._events = events
        self._advance = events.__anext__
        self._clock = clock if clock is not None else StreamClock(task.deadline_s)
        if self._clock.deadline_at is None and task.deadline_s is not None:
            self._clock.deadline_at = self._clock.started_at + task.deadline_s
        self._held: list[TokenEvent] = []  # read, but not yet given to the reader
        self._ready: list[Token] = []  # as many as came at once, the next one last
        self._index = 0
        self._phase = self._NEW
        self._closed = False
        self._failure: WorkerError | None = None
        self._released = asyncio.Event()
        self._releaser: asyncio.Task[object] | None = None
        self._unread: asyncio.Task[None] | None = None
        self._opened_at: tuple[str, int] | None = None
        self._watcher: StreamWatcher | None = None

    @property
    def clock(self) -> StreamClock:
        """The job's limits, for whoever hands the stream on."""
        return self._clock

    def watch(self, watcher: StreamWatcher) -> Self:
        """Tell `watcher` what becomes of the stream, from now on; one at most. Returns the stream.

        Raises:
            RuntimeError: If the stream is watched already, or was opened.
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
        if self._phase == self._NEW:
            self._held.append(await self.__anext__())
        return self

    async def _note_caller(self) -> None:
        first = self._opened_at is None
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
        self._opened_at = (frame.f_code.co_filename, frame.f_lineno)
        if self._clock.deadline_at is not None:
            self._clock.on_unread = partial(_end_unread, ref(self))
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
        """The next event.

        Raises:
            StopAsyncIteration: After End.
            WorkerError: Before Started, or after the Error event.
            RuntimeError: If another task is reading.
        """
        clock = self._clock
        if self._closed or self._held or clock.stopped_by is not None:
            return await self._next_known()
        if self._ready:
            event: TokenEvent | list[Token] = self._ready.pop()
            if type(event) is Token and event.index == self._index and self._phase == self._OPEN:
                self._index += 1
                return event
            return await self._on_rare(event)
        if clock.reader is not None:
            raise RuntimeError(f"two tasks read the stream of job {self.job_id} at the same time")
        if self._opened_at is None:
            await self._note_caller()
        clock.enter()
        try:
            event = await self._advance()
        except BaseException as exc:
            return await self._on_failure(exc)
        if type(event) is list and event:
            self._ready = event
            event.reverse()
            event = event.pop()
        if (
            type(event) is Token
            and event.index == self._index
            and self._phase == self._OPEN
            and clock.stopped_by is None
        ):
            self._index += 1
            clock.leave(True)
            return event
        return await self._on_rare(event)

    def take_buffered(self) -> list[Token]:
        """The Tokens that came at once with the last one that was read, taken out of the stream.

        For whoever hands a stream's events on: one list costs less than as many single steps.
        """
        if not self._ready:
            return []
        ready, self._ready = self._ready, []
        ready.reverse()
        self._index += len(ready)
        return ready

    async def _next_known(self) -> TokenEvent:
        """What is known without asking the adapter: a held event, the failure, or the end."""
        if self._held:
            return self._held.pop(0)
        if not self._closed:
            assert self._clock.stopped_by is not None
            return await self._fail(self._clock.stopped_by)
        await self._released.wait()
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def _on_failure(self, exc: BaseException) -> TokenEvent:
        """The adapter raised or ended without a last word: the error it amounts to."""
        clock = self._clock
        goes_on = _what_goes_on(exc, cancelled=clock.take_back())
        if goes_on is not None:
            self._close(_ended_by(goes_on))
            if isinstance(exc, GeneratorExit):
                self._released.set()  # the reader's coroutine is destroyed and may not wait
                self._tell(None, None)
            else:
                await self._release()
            raise goes_on
        if clock.stopped_by is not None:
            if not isinstance(exc, asyncio.CancelledError | StopAsyncIteration | WorkerError):
                self._log_untidy(exc)
            return await self._fail(clock.stopped_by)
        if isinstance(exc, StopAsyncIteration):
            return await self._fail(
                StreamingError(
                    ErrorCode.STREAM_TRUNCATED, "the adapter's events ended without End or Error"
                )
            )
        if isinstance(exc, WorkerError):
            return await self._fail(exc)
        error = InternalError(ErrorCode.INTERNAL, f"the adapter failed with {type(exc).__name__}")
        error.__cause__ = exc
        return await self._fail(error)

    async def _on_rare(self, event: TokenEvent | list[Token]) -> TokenEvent:
        """Everything but the next Token in its place."""
        clock = self._clock
        if clock.stopped_by is not None:  # the adapter swallowed the interruption
            return await self._on_failure(asyncio.CancelledError())
        if isinstance(event, Token) and self._phase == self._STARTED and event.index == 0:
            self._phase = self._OPEN
            self._index = 1
            clock.leave(True)
            if self._watcher is not None:
                self._watcher.first_token()
            return event
        clock.leave(False)
        if isinstance(event, Started) and self._phase == self._NEW:
            self._phase = self._OPEN
            if self._watcher is not None:
                self._phase = self._STARTED
                self._watcher.started(event)
            return event
        if isinstance(event, Error):
            return await self._fail(event.error)
        if isinstance(event, MetricsFrame) and self._phase in (self._STARTED, self._OPEN):
            self._phase = self._METRICS
            return event
        if isinstance(event, End) and self._phase != self._NEW:
            self._close(None)
            try:
                await self._release(event)
            except BaseException:
                self._held.append(event)  # the answer is whole, whoever reads on
                raise
            return event
        return await self._fail(InternalError(ErrorCode.INTERNAL, self._violation(event)))

    def _violation(self, event: object) -> str:
        if isinstance(event, Token) and self._phase in (self._STARTED, self._OPEN):
            return f"the adapter gave Token index {event.index}, expected {self._index}"
        if isinstance(event, Started | Token | MetricsFrame | End):
            after = ("nothing", "Started", "Started", "MetricsFrame")[self._phase]
            return f"the adapter gave {type(event).__name__} after {after}"
        return f"the adapter gave a {type(event).__name__}, which is not an event"

    async def text(self) -> str:
        """Return the whole text of the answer; closes the stream. With tools, use `answer`.

        Raises:
            WorkerError: If the answer is not whole.
            RuntimeError: If a part of the stream was read already.
        """
        self._whole()
        async with self:
            return "".join([event.text async for event in self if isinstance(event, Token)])

    async def answer(self) -> Answer:
        """Return the whole answer with calls and reasoning; closes the stream.

        Raises:
            WorkerError: If the answer is not whole.
            RuntimeError: If a part of the stream was read already.
        """
        self._whole()
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

    def _whole(self) -> None:
        """Raise RuntimeError if an event was read: what follows would pass for the whole answer."""
        ended = self._closed and self._failure is None and not self._held
        if self._index or ended:
            raise RuntimeError(
                f"a part of the stream of job {self.job_id} was read already: collect the events "
                "and use Answer.of(events), or call text() or answer() first"
            )

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """The events as JSON-able dicts; closes the stream. Never raises WorkerError: a failure
        is the last frame, of type "error"."""
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
            self._close(error)
            if self._phase != self._NEW:
                self._held.append(Error(error))
            await self._release()
        else:
            self._clock.interrupt(_cancelled(why))
            if reader is not caller:
                await self._released.wait()

    def _end_unread(self) -> None:
        """The deadline passed and nobody reads: what the job holds is released now, and not when
        somebody reads on. Called by the clock."""
        self._unread = asyncio.create_task(self._stop("the deadline passed"))

    async def _fail(self, error: WorkerError) -> Error:
        """Close with `error`: as the last event after Started, by raising it before."""
        self._close(error)
        await self._release()
        if self._phase != self._NEW:
            return Error(error)
        raise error

    def _close(self, failure: WorkerError | None) -> None:
        if failure is not None:
            failure.job_id = self.job_id
            failure.tokens_emitted = self._index
        self._closed = True
        self._ready = []
        self._failure = failure
        self._clock.stop()

    async def _release(self, end: End | None = None) -> None:
        """Tell how it ended, and close the adapter's generator."""
        try:
            self._tell(end, self._failure)
        finally:
            await self._close_events()

    def _tell(self, end: End | None, error: WorkerError | None) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self._opened_at is not None:
            watcher.ended(end, error, self._index)

    async def _close_events(self) -> None:
        """Close the adapter's generator. An error in its clean-up is logged: the outcome stands."""
        task, before, goes_on = None, 0, None
        try:
            self._releaser = task = asyncio.current_task()
            before = 0 if task is None else task.cancelling()
            aclose = getattr(self._events, "aclose", None)
            if aclose is not None:
                await aclose()
        except BaseException as exc:
            cancelled = task is not None and task.cancelling() > before
            goes_on = _what_goes_on(exc, cancelled=cancelled)
            if goes_on is not exc:
                self._log_untidy(exc)
        finally:
            self._releaser = None
            self._released.set()
        if goes_on is not None:
            raise goes_on

    def _log_untidy(self, exc: BaseException) -> None:
        # Foreign texts may hold a key: they are for the one who asks to debug.
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


def _cancelled(why: str) -> Cancelled:
    return Cancelled(ErrorCode.CANCELLED, why)


def _ended_by(exc: BaseException) -> Cancelled:
    return _cancelled(f"the reader was ended by {type(exc).__name__}")


def _what_goes_on(exc: BaseException, *, cancelled: bool) -> BaseException | None:
    """What leaves the stream because of an adapter's exception, whatever the job's outcome.

    A cancellation that somebody asked for, also where the adapter made another exception of it,
    and what is no Exception (KeyboardInterrupt). A CancelledError that nobody asked for comes from
    inside of the adapter, a task it waits for, say, and is a failure like any other.
    """
    if cancelled and isinstance(exc, Exception):
        again = asyncio.CancelledError()
        again.__cause__ = exc
        return again
    if cancelled or not isinstance(exc, Exception | asyncio.CancelledError):
        return exc
    return None


class StreamTable:
    """The running streams of one adapter, for cancelling by job_id. Holds them weakly."""

    def __init__(self) -> None:
        self._streams: WeakSet[TokenStream] = WeakSet()

    def add(self, stream: TokenStream) -> TokenStream:
        """Remember `stream` for as long as somebody holds it; returns it."""
        self._streams.add(stream)
        return stream

    async def cancel(self, job_id: str) -> bool:
        """Cancel the job's stream. False if no such job is running."""
        streams = [stream for stream in self._streams if stream.job_id == job_id]
        return any([await stream.cancel() for stream in streams])

    async def aclose(self) -> None:
        """Close every stream."""
        for stream in list(self._streams):
            await stream.aclose()
