"""What is examined: a way to make the adapter, and the jobs to give it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import attrs

from adapter_api.conformance.check import Misuse, Violation
from adapter_api.conformance.given import check_capabilities, check_made, check_maker
from adapter_api.conformance.patience import Patience
from adapter_api.errors import WorkerError
from adapter_api.events import End, Error, Started, Token, TokenEvent
from adapter_api.health import EngineProps, HealthStatus
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest

ANSWER_LIMIT_S = 30.0
"""How long a job of a few tokens may take, on a slow engine that has to load its model."""

PROMPT_LIMIT_S = 3.0
"""How long what ought to be immediate may take on a busy machine: closing, cancelling."""

MOST_EVENTS = 100_000
"""Where the kit stops to read a job of a few tokens: its adapter never ends it."""

_T = TypeVar("_T")


class Adapter(Protocol):
    """What `registry.get` returns, as far as the kit uses it."""

    @property
    def name(self) -> str:
        """Its name in the registry."""

    @property
    def distribution(self) -> str:
        """Where it comes from..."""

    @property
    def version(self) -> str:
        """...and the version of that."""

    @property
    def adapter(self) -> Any:
        """The object with the hooks."""

    @property
    def config(self) -> Any:
        """The config it was built from."""

    def submit(self, task: TaskRequest) -> TokenStream: ...
    async def cancel(self, job_id: str) -> bool: ...
    async def health(self) -> HealthStatus: ...
    async def props(self) -> EngineProps: ...
    async def engine_version(self) -> str: ...
    async def start(self) -> None: ...
    async def aclose(self) -> None: ...


MakeAdapter = Callable[..., Adapter]


@attrs.frozen
class Trace:
    """What one job told, read from the hook itself: nothing stands between it and the kit.

    Args:
        task: The job.
        events: Its events, in order.
        error: What its iterator raised, None if it ended by itself.
        ended: Whether it ended at all, by itself or with an error.
    """

    task: TaskRequest
    events: tuple[TokenEvent, ...]
    error: BaseException | None
    ended: bool

    @property
    def tokens(self) -> list[Token]:
        """Its Tokens."""
        return [event for event in self.events if isinstance(event, Token)]


@attrs.frozen
class Outcome:
    """What became of a job, as a user of the adapter sees it.

    Args:
        text: What was delivered.
        started: The Started event, None if the job failed before.
        end: The End event, None if the job failed.
        error: Its error, None if it ended well.
        took_s: From submit to the end; time that other processes took does not count.
        stood_s: That time.
    """

    text: str
    started: Started | None
    end: End | None
    error: WorkerError | None
    took_s: float = 0.0
    stood_s: float = 0.0

    def __str__(self) -> str:
        if self.error is None:
            return f"a whole answer of {len(self.text)} characters"
        return f"{self.error.code} ({self.error.message})"


@attrs.define(eq=False)
class Subject:
    """The adapter under examination.

    Args:
        make: Makes a new adapter that is not started yet; takes options of the adapter's config.
        task: Fields of TaskRequest for every job, such as the model.
        failing: A job that must fail, None if none is known.
        absent: Capabilities that are absent, with the reason, besides those that the adapter's
            own `ABSENT` declares.
        steady: Whether the engine is known to answer the same prompt with the same text, with or
            without a seed.
    """

    make: MakeAdapter
    task: Mapping[str, Any] = attrs.field(default=MappingProxyType({}))
    failing: TaskRequest | None = None
    absent: Mapping[str, str] = attrs.field(default=MappingProxyType({}))
    steady: bool = attrs.field(default=False, kw_only=True)

    @property
    def maker(self) -> MakeAdapter:
        """The function that the adapter's author wrote."""
        return self.make

    def about(self) -> tuple[str, str]:
        """The adapter's name; its distribution and the version of that.

        Raises:
            Misuse: If this is no subject that can be examined.
        """
        check_capabilities(self.absent, "absent")
        check_maker(self.maker)
        adapter = self.make()
        check_made(adapter)
        try:
            self.job()
        except (TypeError, WorkerError) as exc:
            raise Misuse(f"task has what no TaskRequest takes: {exc}") from exc
        return adapter.name, f"{adapter.distribution} {adapter.version}"

    def lacks(self, capability: str, adapter: Adapter) -> bool:
        """Whether a capability is declared absent, here or by the adapter."""
        return capability in {*self.absent, *getattr(adapter.adapter, "ABSENT", ())}

    def troubled(self) -> "list[tuple[Subject, TaskRequest]]":
        """Jobs that fail, or may fail, each with where to send it."""
        tasks = [self.job(model="no-such-model"), self.job("x" * 200_000)]
        return [(self, task) for task in (*tasks, *([self.failing] if self.failing else []))]

    def job(self, prompt: str = "Count from one to nine.", **fields: Any) -> TaskRequest:
        """A small repeatable job."""
        common = {"max_tokens": 16, "seed": 7, "temperature": 0.0, **self.task, **fields}
        if "messages" not in common:
            common.setdefault("prompt", prompt)
        return TaskRequest(**common)

    @asynccontextmanager
    async def adapter(self, **options: Any) -> AsyncIterator[Adapter]:
        """A new adapter, closed afterwards."""
        adapter = self.make(**options)
        try:
            yield adapter
        finally:
            await in_time(adapter.aclose(), "aclose()")

    async def trace(
        self, adapter: Adapter, task: TaskRequest, limit_s: float | None = None
    ) -> Trace:
        """Run a job through the bare submit hook, and read on past its end, but not for longer
        than `limit_s`, by default ANSWER_LIMIT_S."""
        await in_time(adapter.start(), "start()", ANSWER_LIMIT_S)
        events: list[TokenEvent] = []
        error: BaseException | None = None
        ended = False
        stream = adapter.adapter.submit(task=task)
        try:
            async with Patience(ANSWER_LIMIT_S if limit_s is None else limit_s):
                async for event in stream:
                    events.append(event)
                    if len(events) == MOST_EVENTS:
                        break
                else:
                    ended = True
        except TimeoutError:
            pass
        except Exception as exc:
            error, ended = exc, True
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await in_time(close(), "closing the submit hook's events")
        return Trace(task, tuple(events), error, ended)


async def run(adapter: Adapter, task: TaskRequest, limit_s: float = ANSWER_LIMIT_S) -> Outcome:
    """Run a job as a user would.

    Raises:
        Violation: If it does not end within `limit_s`.
    """
    pieces: list[str] = []
    started: Started | None = None
    end: End | None = None
    error: WorkerError | None = None
    stream = adapter.submit(task)
    patience = Patience(limit_s)
    try:
        async with patience:
            async for event in stream:
                match event:
                    case Started():
                        started = event
                    case Token(text=text):
                        pieces.append(text)
                    case End():
                        end = event
                    case Error():
                        error = event.error
                        break
    except WorkerError as failure:
        error = failure
    except TimeoutError:
        raise Violation(f"a job did not end within {limit_s:g} s") from None
    finally:
        await in_time(stream.aclose(), "closing the stream")
    return Outcome("".join(pieces), started, end, error, patience.took_s, patience.stood_s)


async def whole(adapter: Adapter, task: TaskRequest, limit_s: float = ANSWER_LIMIT_S) -> Outcome:
    """Run a job that must end well, within `limit_s`.

    Raises:
        Violation: If it fails.
    """
    outcome = await run(adapter, task, limit_s)
    if outcome.error is not None:
        raise Violation(f"a job that the adapter ran before now failed: {outcome}")
    return outcome


async def first_token(stream: TokenStream) -> None:
    """Read up to the first Token.

    Raises:
        Violation: If there is none.
    """
    try:
        async with Patience(ANSWER_LIMIT_S):
            async for event in stream:
                if isinstance(event, Token):
                    return
    except (WorkerError, TimeoutError) as exc:
        raise Violation(f"no Token came: {type(exc).__name__}: {exc}") from exc
    raise Violation("the job ended without a Token")


async def in_time(wait: Awaitable[_T], what: str, limit_s: float = PROMPT_LIMIT_S) -> _T:
    """Wait for what ought to be quick.

    Raises:
        Violation: If it takes longer than `limit_s`. It is then left to itself, as it may not
            be willing to be cancelled.
    """
    task = asyncio.ensure_future(wait)
    try:
        async with Patience(limit_s):
            await asyncio.wait([task])
    except TimeoutError:
        task.cancel()
        raise Violation(f"{what} did not return within {limit_s:g} s") from None
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.cancelled():
        raise Violation(f"{what} raised CancelledError, and nobody had cancelled it")
    return task.result()


async def settled(is_so: Callable[[], bool], limit_s: float = PROMPT_LIMIT_S) -> bool:
    """Whether something comes true within a while."""
    try:
        async with Patience(limit_s):
            while not is_so():  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True


def listed(items: Iterable[object], most: int = 5) -> str:
    """The first few of many, for a message."""
    shown = list(items)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(map(str, shown[:most])) + more
