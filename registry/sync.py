"""Blocking adapters and hosts for scripts, notebooks and threads.

All blocking fronts of a process share one thread with one event loop. It starts with the first of
them and ends with the last, so several can be used from several threads, and in a notebook whose
main thread runs a loop of its own.

    with registry.sync.get("openai-http", base_url="http://localhost:8000") as adapter:
        for token in adapter.submit(task).tokens():
            print(token.text, end="")
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from threading import Lock
from typing import Any, Generic, Self, TypeVar, overload

from adapter_api.adapter import Adapter
from adapter_api.answer import Answer
from adapter_api.errors import WorkerError
from adapter_api.events import Error, Token, TokenEvent
from adapter_api.health import EngineProps, HealthStatus
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest
from registry.adapter import BoundAdapter
from registry.host import AdapterHost, HostPool
from registry.loop_thread import Lease

__all__ = ["SyncAdapter", "SyncHost", "SyncStream", "get", "host", "wrap"]

_T = TypeVar("_T")
_A = TypeVar("_A", bound=Adapter)


def get(name: str, config: object = None, /, **options: Any) -> "SyncAdapter[BoundAdapter[Any]]":
    """Build an adapter of the default registry for blocking use.

    Takes and raises what `registry.get` does. Use the result with `with`, or close it.
    """
    from registry.default import get as get_adapter

    return SyncAdapter(get_adapter(name, config, **options))


def wrap(adapter: _A) -> "SyncAdapter[_A]":
    """Return a blocking front of an adapter that is not used in another event loop.

    Args:
        adapter: An adapter, for example from a Registry with observers.
    """
    return SyncAdapter(adapter)


def host(make: Callable[[], AdapterHost]) -> "SyncHost":
    """Return a blocking front of a host.

    Args:
        make: Makes the host; called in the front's event loop, as in
            `registry.sync.host(lambda: AdapterHost.from_file("workers.toml"))`.
    """
    return SyncHost(make)


class _Front(ABC):
    """A context manager that starts on entering and closes on leaving."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SyncAdapter(_Front, Generic[_A]):
    """An adapter for blocking use from any number of threads.

    Args:
        adapter: The adapter.
        lease: A use of the loop thread to share; None for one of its own.

    Attributes:
        adapter: The same, for its name and config.
    """

    def __init__(self, adapter: _A, lease: Lease | None = None) -> None:
        self.adapter = adapter
        self._owns = lease is None
        self._lease = Lease("adapter") if lease is None else lease

    def __repr__(self) -> str:
        return f"<SyncAdapter of {self.adapter!r}>"

    def submit(self, task: TaskRequest) -> "SyncStream":
        """Run `task`. Nothing is sent before the stream is read or entered."""
        return SyncStream(self._lease.wait(self._submit, task), self._lease)

    async def _submit(self, task: TaskRequest) -> TokenStream:
        return self.adapter.submit(task)

    def cancel(self, job_id: str) -> bool:
        """Stop a job; no Token comes after this returns. False for an unknown id."""
        return self._lease.wait(self.adapter.cancel, job_id)

    def health(self) -> HealthStatus:
        """Return the engine's health."""
        return self._lease.wait(self.adapter.health)

    def props(self) -> EngineProps:
        """Return the engine's properties."""
        return self._lease.wait(self.adapter.props)

    def engine_version(self) -> str:
        """Return the engine's version; "unknown" if the adapter does not implement the hook."""
        return self._lease.wait(self.adapter.engine_version)

    def start(self) -> None:
        """Acquire the adapter's resources. It starts by itself before the first job, too."""
        self._lease.wait(self.adapter.start)

    def close(self) -> None:
        """Cancel the running jobs and release everything. Idempotent, and final.

        A pool of a SyncHost stays open: the host closes it.
        """
        if self._owns:
            self._lease.close(self.adapter.aclose)


class SyncStream(Iterator[TokenEvent]):
    """The events of one job, for blocking use; see TokenStream for their order and errors.

    One thread reads at a time; any thread may cancel. KeyboardInterrupt while a read waits cancels
    the job. Use it with `with` to cancel a job that is left before its end.
    """

    def __init__(self, stream: TokenStream, lease: Lease) -> None:
        self.job_id = stream.job_id
        self._stream = stream
        self._lease = lease
        self._ready: deque[TokenEvent] = deque()
        self._lock = Lock()
        self._cancelled = False

    def __repr__(self) -> str:
        return f"<SyncStream of job {self.job_id}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TokenEvent:
        """Return the next event.

        Raises:
            StopIteration: After End.
            WorkerError: If the job failed before Started, or after the Error event.
        """
        while True:
            with self._lock:
                if self._ready:
                    return self._ready.popleft()
            events = self._lease.wait(self._read)
            if not events:
                raise StopIteration
            with self._lock:
                if not (self._cancelled and isinstance(events[0], Token)):  # from before the end
                    self._ready.extend(events)

    async def _read(self) -> list[TokenEvent]:
        """Return the next event and the Tokens that arrived with it, in one thread switch."""
        event = await anext(self._stream, None)
        return [] if event is None else [event, *self._stream.take_buffered()]

    def tokens(self) -> Iterator[Token]:
        """Yield the Tokens, and close the stream.

        Raises:
            WorkerError: If the answer is not whole.
        """
        with self:
            for event in self:
                if isinstance(event, Token):
                    yield event

    def text(self) -> str:
        """Return the whole text of the answer; closes the stream.

        Raises:
            WorkerError: If the answer is not whole.
        """
        return self._lease.wait(self._stream.text)

    def answer(self) -> Answer:
        """Return the whole answer: text, reasoning and tool calls; closes the stream.

        Raises:
            WorkerError: If the answer is not whole.
        """
        return self._lease.wait(self._stream.answer)

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yield the events as JSON-able dicts; closes the stream.

        It never raises WorkerError: a failure is the last frame, of type "error".
        """
        from adapter_api.frames import to_frame  # cattrs takes as long to import as all the rest

        try:
            with self:
                for event in self:
                    yield to_frame(event)
                    if isinstance(event, Error):
                        return
        except WorkerError as error:  # before Started
            yield to_frame(Error(error))

    def cancel(self) -> bool:
        """Stop the job. No Token comes after this returns; False if it had ended."""
        self._drop()
        return self._lease.wait(self._stream.cancel)

    def close(self) -> None:
        """Release everything the job holds, cancelling it if it still runs. Idempotent."""
        self._drop()
        self._lease.wait(self._stream.aclose)

    def _drop(self) -> None:
        """Drop the Tokens that were read but not delivered, here and in a thread that reads."""
        with self._lock:
            self._cancelled = True
            self._ready.clear()

    def __enter__(self) -> Self:
        self._lease.wait(self._stream.__aenter__)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class SyncHost(_Front):
    """A host for blocking use from any number of threads; use it with `with`, or close it.

    Args:
        make: Makes the host; called in the front's event loop, once.
    """

    def __init__(self, make: Callable[[], AdapterHost]) -> None:
        self._make = make
        self._lease = Lease("host")
        self._made: AdapterHost | None = None

    @property
    def host(self) -> AdapterHost:
        """The host itself, for methods that any thread may call, such as `snapshot`."""
        if self._made is None:
            self.start()
        assert self._made is not None
        return self._made

    @overload
    def call(self, function: Callable[[AdapterHost], Coroutine[Any, Any, _T]]) -> _T: ...
    @overload
    def call(self, function: Callable[[AdapterHost], _T]) -> _T: ...
    def call(self, function: Callable[[AdapterHost], Any]) -> Any:
        """Call `function(host)` in the host's event loop and return what it returns.

        Args:
            function: For example a lambda that binds a replica; a coroutine that it returns is
                awaited.
        """
        return self._lease.wait(self._call, function)

    async def _call(self, function: Callable[[AdapterHost], Any]) -> Any:
        if self._made is None:
            self._made = self._make()
        result = function(self._made)
        return await result if isinstance(result, Awaitable) else result

    def pool(self, pool_id: str) -> SyncAdapter[HostPool]:
        """Return a pool as a blocking adapter; closing it leaves the host open."""
        return SyncAdapter(self.call(lambda made: made.pool(pool_id)), self._lease)

    def submit(self, pool_id: str, task: TaskRequest, **options: Any) -> SyncStream:
        """Run `task` on a replica of the pool; takes what `AdapterHost.submit` does."""
        stream = self._lease.wait(self._submit, pool_id, task, options)
        return SyncStream(stream, self._lease)

    async def _submit(self, pool_id: str, task: TaskRequest, options: Any) -> TokenStream:
        made: AdapterHost = await self._call(lambda made: made)
        return made.submit(pool_id, task, **options)

    def cancel(self, pool_id: str, job_id: str) -> bool:
        """Stop a job of the pool; no Token comes after this returns. False for an unknown id."""
        return self.call(lambda made: made.cancel(pool_id, job_id))

    def close(self) -> None:
        """End every job and close every adapter. Idempotent, and final."""
        self._lease.close(self._aclose)

    async def _aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    def start(self) -> None:
        """Create the host. The first call creates it, too."""
        self.call(lambda _: None)
