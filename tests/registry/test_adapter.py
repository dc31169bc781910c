"""BoundAdapter: one adapter's hooks behind typed methods."""

import asyncio
import gc
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Any

import attrs
import pytest

from adapter_api import (
    Cancelled,
    ContractError,
    End,
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    HealthStatus,
    InternalError,
    InvalidRequest,
    Metrics,
    Started,
    StreamClock,
    StreamingError,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    hookimpl,
)
from registry.adapter import BoundAdapter

HEALTHY = HealthStatus(HealthState.HEALTHY)


def task(**fields: Any) -> TaskRequest:
    """A job."""
    return TaskRequest(prompt="one two three", **fields)


async def three_words(job: TaskRequest) -> AsyncIterator[TokenEvent]:
    """The events of a whole answer."""
    yield Started(job.job_id, "test", "1")
    for index, word in enumerate(("one", "two", "three")):
        yield Token(word, index)
    yield End(Metrics(3), "stop", "finish_reason")


@attrs.define(eq=False)
class Least:
    """The required hooks and no other; `closed` counts the generators that ended."""

    closed: int = 0

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        try:
            async for event in three_words(task):
                yield event
                await asyncio.sleep(0)
        finally:
            self.closed += 1

    @hookimpl
    async def health(self) -> HealthStatus:
        return HEALTHY


@attrs.define(eq=False)
class Whole(Least):
    """An adapter with all hooks; `calls` records the calls, in order."""

    calls: list[str] = attrs.field(factory=list)
    failures: list[Exception] = attrs.field(factory=list)

    @hookimpl
    async def start(self) -> None:
        self.calls.append("start")
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()

    @hookimpl
    async def aclose(self) -> None:
        self.calls.append("aclose")

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        self.calls.append("cancel")
        return job_id == "only the engine knows it"

    @hookimpl
    async def props(self) -> EngineProps:
        return EngineProps(engine="test")

    @hookimpl
    async def engine_version(self) -> str:
        return "7"


def bind(adapter: object, *middleware: object) -> BoundAdapter:
    """The adapter, bound."""
    return BoundAdapter(adapter, name="made", middleware=middleware)


async def test_stream_is_whole():
    """A job's events arrive in order through the bound adapter (ORCH-3055, WA-INT-3001)."""
    async with bind(Least()) as adapter, adapter.submit(task()) as stream:
        kinds = [type(event).__name__ async for event in stream]
    assert kinds == ["Started", "Token", "Token", "Token", "End"]


async def test_attributes_and_repr():
    """It tells where it comes from, and its repr shows no config."""
    adapter = BoundAdapter(
        Least(), name="made", distribution="d", version="1", config={"api_key": "hunter2"}
    )
    assert (adapter.name, adapter.distribution, adapter.version) == ("made", "d", "1")
    assert adapter.config == {"api_key": "hunter2"}
    assert isinstance(adapter.adapter, Least)
    assert repr(adapter) == "<BoundAdapter made (d 1)>"


async def test_absent_hooks_have_answers():
    """Without the optional hooks there are no props, no version, nothing to start or close."""
    adapter = bind(Least())
    await adapter.start()
    assert await adapter.health() == HEALTHY
    assert await adapter.props() == EngineProps()
    assert await adapter.engine_version() == "unknown"
    assert not await adapter.cancel("unknown")
    await adapter.aclose()


async def test_hooks_answer():
    """With them the adapter answers (ADAPT-3000)."""
    async with bind(Whole()) as adapter:
        assert await adapter.props() == EngineProps(engine="test")
        assert await adapter.engine_version() == "7"


# What the submit hook may give


@attrs.define(eq=False)
class Giving(Least):
    """An adapter whose submit gives whatever the test wants."""

    make: Any = None

    @hookimpl
    def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        return self.make(task)


async def test_token_stream_is_used_as_it_is():
    """A TokenStream with limits of its own is not wrapped again."""

    def make(job: TaskRequest) -> TokenStream:
        return TokenStream(three_words(job), job, clock=StreamClock(1.0))

    given: list[TokenStream] = []
    adapter = bind(Giving(make=lambda job: given.append(make(job)) or given[0]))
    stream = adapter.submit(task())
    assert stream is given[0]
    assert await stream.text() == "onetwothree"


async def test_iterable_that_is_no_iterator():
    """An object with only `__aiter__` is iterated."""

    class Lines(AsyncIterable[TokenEvent]):
        def __init__(self, job: TaskRequest) -> None:
            self.job = job

        def __aiter__(self) -> AsyncIterator[TokenEvent]:
            return three_words(self.job)

    assert await bind(Giving(make=Lines)).submit(task()).text() == "onetwothree"


async def _coroutine(job: TaskRequest) -> None: ...


@pytest.mark.parametrize(
    ("make", "what"), [(lambda job: [1], "list"), (_coroutine, "coroutine")], ids=["list", "coro"]
)
async def test_wrong_answer_is_an_internal_error(make, what):
    """An answer that is not a stream is the adapter's defect, raised when the stream is opened."""
    stream = bind(Giving(make=make)).submit(task())
    with pytest.raises(InternalError, match=f"submit of adapter 'made' returned a {what}"):
        await stream


async def test_failure_of_the_hook_belongs_to_the_stream():
    """An exception of a plain submit is raised by the stream: submit itself returns."""

    def refuse(job: TaskRequest) -> AsyncIterator[TokenEvent]:
        raise InvalidRequest(ErrorCode.INVALID_PARAMS, "no such model")

    stream = bind(Giving(make=refuse)).submit(task(job_id="j"))
    with pytest.raises(InvalidRequest, match="no such model") as caught:
        await stream
    assert caught.value.job_id == "j"


# Starting


@pytest.mark.parametrize("call", ["health", "props", "engine_version", "start"])
async def test_started_once_before_anything_else(call):
    """The first call that needs the engine starts the adapter, and no later one (ORCH-3056)."""
    whole = Whole()
    adapter = bind(whole)
    await getattr(adapter, call)()
    await getattr(adapter, call)()
    async with adapter:
        await adapter.submit(task()).text()
    assert whole.calls == ["start", "aclose"]


async def test_concurrent_first_submits_start_once():
    """Many first jobs at once wait for one start."""
    whole = Whole()
    async with aclosing(bind(whole)) as adapter:
        texts = await asyncio.gather(*(adapter.submit(task()).text() for _ in range(20)))
    assert texts == ["onetwothree"] * 20
    assert whole.calls.count("start") == 1


async def test_failed_start_is_tried_again():
    """A start that failed is the job's error, and the next job tries again."""
    whole = Whole(failures=[EngineUnavailable("POOL_UNAVAILABLE", "not yet")])
    adapter = bind(whole)
    with pytest.raises(EngineUnavailable, match="not yet"):
        await adapter.submit(task())
    assert await adapter.submit(task()).text() == "onetwothree"
    assert whole.calls == ["start", "start"]
    await adapter.aclose()


async def test_submit_before_start_sends_nothing():
    """A stream that is never opened starts nothing and leaves nothing."""
    whole = Whole()
    adapter = bind(whole)
    stream = adapter.submit(task())
    await adapter.aclose()
    assert whole.calls == ["aclose"]
    with pytest.raises(Cancelled):
        await stream


async def test_deadline_covers_the_start():
    """Starting is charged to the job's deadline like everything else."""

    class Slow(Whole):
        @hookimpl
        async def start(self) -> None:
            await asyncio.sleep(10)

    async with aclosing(bind(Slow())) as adapter:
        with pytest.raises(Exception, match="deadline") as caught:
            await adapter.submit(task(deadline_s=0.05))
    assert caught.value.code is ErrorCode.DEADLINE_UNMET


async def test_closing_the_first_stream_closes_the_adapters_generator():
    """The stream that started the adapter releases the adapter's generator when it is closed."""
    whole = Whole()
    async with bind(whole) as adapter:
        pass
    whole = Whole()
    adapter = bind(whole)
    async with adapter.submit(task()) as stream:
        await anext(stream)
        await anext(stream)
    assert whole.closed == 1
    await adapter.aclose()


async def test_first_stream_without_an_end():
    """A stream that starts the adapter and then ends without End is cut off, like any other."""

    class Short(Whole):
        @hookimpl
        async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
            yield Started(task.job_id, "test", "1")

    async with aclosing(bind(Short())) as adapter:
        with pytest.raises(StreamingError, match="ended without End"):
            await adapter.submit(task()).text()


async def test_failed_start_in_async_with_releases():
    """If entering fails, the adapter is closed, and the first error propagates."""

    class Worse(Whole):
        @hookimpl
        async def aclose(self) -> None:
            self.calls.append("aclose")
            raise OSError("and that too")

    whole = Worse(failures=[ValueError("no engine")])
    with pytest.raises(ValueError, match="no engine"):
        async with bind(whole):
            pass
    assert whole.calls == ["start", "aclose"]


# Cancelling and closing


async def test_cancel_stops_the_stream():
    """Every cancel call returns True once the job is closed (ORCH-3026, WA-INT-3002)."""
    least = Least()
    async with bind(least) as adapter:
        stream = await adapter.submit(task(job_id="j"))
        assert await adapter.cancel("j")
        assert least.closed == 1
        with pytest.raises(Cancelled):
            await stream.text()
        assert await adapter.cancel("j")
        async with adapter.submit(task(job_id="whole")) as whole:
            assert len([event async for event in whole]) == 5
        assert not await adapter.cancel("whole")


async def test_cancel_asks_the_adapter_too():
    """The cancel hook is called, too; it may know jobs of its own."""
    whole = Whole()
    async with bind(whole) as adapter:
        assert await adapter.cancel("only the engine knows it")
        async with adapter.submit(task(job_id="j")):
            assert await adapter.cancel("j")
        assert not await adapter.cancel("unknown")
    assert whole.calls == ["start", "cancel", "cancel", "cancel", "aclose"]
    assert not await adapter.cancel("only the engine knows it")


async def test_cancel_before_start_asks_nobody():
    """An adapter that has not started has no jobs."""
    whole = Whole()
    assert not await bind(whole).cancel("j")
    assert whole.calls == []


async def test_aclose_cancels_streams_first():
    """Streams end before the adapter is closed, and closing again does nothing."""
    order: list[str] = []

    class Ordered(Least):
        @hookimpl
        async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
            try:
                yield Started(task.job_id, "test", "1")
                await asyncio.sleep(10)
            finally:
                order.append("stream")

        @hookimpl
        async def aclose(self) -> None:
            order.append("adapter")

    adapter = bind(Ordered())
    stream = await adapter.submit(task())
    await anext(stream)
    reader = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    await asyncio.gather(adapter.aclose(), adapter.aclose())
    await adapter.aclose()
    assert order == ["stream", "adapter"]
    assert isinstance((await reader).error, Cancelled)


async def test_closed_adapter_refuses():
    """After aclose every use says so, and health says it without raising."""
    adapter = bind(Whole())
    await adapter.aclose()
    stream = adapter.submit(task())
    with pytest.raises(EngineUnavailable, match=r"is closed: get a new one") as caught:
        await stream
    assert caught.value.code is ErrorCode.POOL_UNAVAILABLE
    assert not caught.value.retriable
    with pytest.raises(EngineUnavailable):
        await adapter.submit(task()).text()
    (frame,) = [frame async for frame in adapter.submit(task()).frames()]
    assert (frame["type"], frame["code"], frame["retriable"]) == ("error", caught.value.code, False)
    assert not await adapter.cancel(stream.job_id)
    for call in (adapter.start, adapter.props, adapter.engine_version):
        with pytest.raises(EngineUnavailable):
            await call()
    status = await adapter.health()
    assert (status.state, status.live, status.ready) == (HealthState.UNHEALTHY, False, False)
    assert "is closed" in status.message


async def test_closing_while_starting():
    """A first use that waits for a start is refused if the adapter is closed meanwhile."""
    may_go_on = asyncio.Event()

    class Slow(Whole):
        @hookimpl
        async def start(self) -> None:
            self.calls.append("start")
            await may_go_on.wait()

    slow = Slow()
    adapter = bind(slow)
    starting = asyncio.create_task(adapter.start())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(adapter.props())
    await asyncio.sleep(0)
    closing = asyncio.create_task(adapter.aclose())
    await asyncio.sleep(0)
    may_go_on.set()
    await starting
    with pytest.raises(EngineUnavailable):
        await waiting
    await closing
    assert slow.calls == ["start", "aclose"]


async def test_dropped_adapter_leaves_nothing():
    """An adapter that was never closed warns of nothing: it holds no task and no timer."""
    adapter = bind(Least())
    await adapter.submit(task()).text()
    del adapter
    gc.collect()


# Health and wrong answers


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineUnavailable("POOL_UNAVAILABLE", "refused"), "POOL_UNAVAILABLE: refused"),
        (OSError("secret-host refused"), "the health check failed with OSError"),
        (TimeoutError(), "the health check failed with TimeoutError"),
    ],
)
async def test_health_never_raises_for_an_engine(error, message):
    """A failing check is an unhealthy engine; only our own errors' texts are shown (ORCH-3057)."""

    class Sick(Least):
        @hookimpl
        async def health(self) -> HealthStatus:
            raise error

    status = await bind(Sick()).health()
    assert status == HealthStatus(HealthState.UNHEALTHY, message, live=False, ready=False)


async def test_health_of_an_adapter_that_cannot_start():
    """A start that fails makes the health unhealthy."""
    status = await bind(Whole(failures=[OSError("no")])).health()
    assert status.state is HealthState.UNHEALTHY


async def test_cancelling_a_health_check():
    """CancelledError is never an answer."""

    class Hanging(Least):
        @hookimpl
        async def health(self) -> HealthStatus:
            await asyncio.sleep(10)
            return HEALTHY

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bind(Hanging()).health()


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("health", "health returned a bool, expected HealthStatus"),
        ("props", "props returned a dict, expected EngineProps"),
        ("engine_version", "engine_version returned a NoneType, expected str"),
    ],
)
async def test_answer_of_the_wrong_type(call, problem):
    """An answer of another type is the adapter's breach of contract, named as such."""

    class Wrong(Least):
        @hookimpl
        async def health(self) -> Any:
            return True

        @hookimpl
        async def props(self) -> Any:
            return {}

        @hookimpl
        async def engine_version(self) -> Any:
            return None

    with pytest.raises(ContractError, match=problem):
        await getattr(bind(Wrong()), call)()


def test_adapter_that_pluggy_refuses():
    """A bad signature that slipped past the check is still a ContractError."""

    class Wrong(Least):
        @hookimpl
        async def health(self, deep: bool) -> HealthStatus:
            return HEALTHY

    with pytest.raises(ContractError, match="deep"):
        bind(Wrong())


# Middleware


class Upper:
    """Makes the text upper case; `log` tells the order of things."""

    def __init__(self, log: list[str], name: str = "") -> None:
        self.log = log
        self.name = name

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        events = yield
        return self.changed(events)

    async def changed(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        self.log.append(self.name)
        async for event in events:
            yield attrs.evolve(event, text=event.text.upper()) if type(event) is Token else event


async def test_middleware_changes_the_stream():
    """A wrapper of submit may replace what the adapter gives."""
    assert await bind(Least(), Upper([])).submit(task()).text() == "ONETWOTHREE"


async def test_first_middleware_is_outermost():
    """The first of several is the outermost: it runs first and sees what the others made."""
    log: list[str] = []
    adapter = bind(Least(), Upper(log, "outer"), Upper(log, "inner"))
    await adapter.submit(task()).text()
    assert log == ["outer", "inner"]


@pytest.mark.parametrize("opened", [True, False])
async def test_closing_the_outer_closes_the_inner(opened):
    """Closing the stream closes the adapter's generator, even if the middleware does not."""
    least = Least()
    stream = bind(least, Upper([])).submit(task())
    if opened:
        await anext(await stream)
        await anext(stream)
    await stream.aclose()
    assert least.closed == int(opened)


async def test_middleware_around_another_hook():
    """Other hooks may be wrapped too; the wrapper may answer by itself."""

    class Sleeping:
        @hookimpl(wrapper=True)
        def health(self) -> Any:
            (yield).close()
            return HealthStatus(HealthState.DEGRADED)

    assert (await bind(Least(), Sleeping()).health()).state is HealthState.DEGRADED


async def test_middleware_that_is_not_a_generator():
    """A middleware may give any async iterator, without a way to close it."""

    class Plain:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            events = yield

            class Passing(AsyncIterator[TokenEvent]):
                async def __anext__(self) -> TokenEvent:
                    return await anext(events)

            return Passing()

    least = Least()
    async with bind(least, Plain()).submit(task()) as stream:
        await anext(stream)
    assert least.closed == 1


async def test_middleware_that_leaves_the_stream_alone():
    """A wrapper that gives back what it got adds nothing around the stream."""

    class Watching:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            return (yield)

    given: list[TokenStream] = []

    def make(job: TaskRequest) -> TokenStream:
        given.append(TokenStream(three_words(job), job))
        return given[0]

    stream = bind(Giving(make=make), Watching()).submit(task())
    assert stream is given[0]
    await stream.aclose()


async def test_middleware_that_fails():
    """A wrapper that raises fails the job, not the submit."""

    class Failing:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            yield
            raise InvalidRequest(ErrorCode.INVALID_PARAMS, "too long for us")

    with pytest.raises(InvalidRequest, match="too long for us"):
        await bind(Least(), Failing()).submit(task())


async def test_middleware_applies_before_start_too():
    """The job that starts the adapter goes through the middleware as well."""
    whole = Whole()
    async with aclosing(bind(whole, Upper([]))) as adapter:
        assert await adapter.submit(task()).text() == "ONETWOTHREE"
    assert whole.calls == ["start", "aclose"]


@pytest.mark.parametrize("given", ["Hello", {"prompt": "Hello"}, None])
def test_what_is_not_a_task_is_refused_at_once(given: Any) -> None:
    """A prompt in place of a task is a TypeError that shows how a task is made."""
    with pytest.raises(TypeError, match=f"TaskRequest.*of type {type(given).__name__}$"):
        bind(Least()).submit(given)


def test_a_name_in_place_of_an_adapter() -> None:
    """The error says which call returns the adapter."""
    with pytest.raises(ContractError, match=r"give registry\.get\('openai-http', \.\.\.\)"):
        BoundAdapter.of("openai-http")
