"""BoundAdapter: one adapter's hooks behind typed methods."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    ContractError,
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    HealthStatus,
    InternalError,
    InvalidRequest,
    StreamClock,
    TaskRequest,
    TokenEvent,
    TokenStream,
    hookimpl,
)
from registry.adapter import BoundAdapter
from tests.registry.samples import HEALTHY, Giving, Least, Whole, task, three_words


def bind(adapter: object, *middleware: object) -> BoundAdapter:
    """The adapter, bound."""
    return BoundAdapter(adapter, name="made", middleware=middleware)


async def test_stream_is_whole():
    """A job's events arrive in order through the bound adapter (ORCH-3055, WA-INT-3001)."""
    async with bind(Least()) as adapter, adapter.submit(task()) as stream:
        kinds = [type(event).__name__ async for event in stream]
    assert kinds == ["Started", "Token", "Token", "Token", "End"]


async def test_attributes_and_repr():
    """It names its origin, and its repr shows no config."""
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


async def test_token_stream_is_used_as_it_is():
    """A TokenStream with limits of its own is not wrapped again."""

    def make(job: TaskRequest) -> TokenStream:
        return TokenStream(three_words(job), job, clock=StreamClock(1.0))

    given: list[TokenStream] = []
    adapter = bind(Giving(make=lambda job: given.append(make(job)) or given[0]))
    stream = adapter.submit(task())
    assert stream is given[0]
    assert await stream.text() == "onetwothree"


async def test_iterable_that_is_not_an_iterator():
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


async def test_a_hook_that_is_not_a_coroutine_fails_only_its_own_call():
    """Its GeneratorExit is an InternalError, as that of any other hook."""

    class Rude(Least):
        @hookimpl
        def cancel(self, job_id: str) -> bool:
            raise GeneratorExit

    with pytest.raises(InternalError, match="cancel of adapter 'made' raised GeneratorExit"):
        await bind(Rude()).cancel("job")


async def test_a_caller_that_is_destroyed_takes_the_hook_along():
    """Its GeneratorExit is not the hook's: nothing is converted, and the hook cleans up."""
    cleaned: list[str] = []

    class Slow(Least):
        @hookimpl
        async def cancel(self, job_id: str) -> bool:
            try:
                await asyncio.sleep(60)
            finally:
                cleaned.append(job_id)
            return True

    calling = bind(Slow()).cancel("job")
    calling.send(None)
    calling.close()
    assert cleaned == ["job"]


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


@pytest.mark.parametrize("given", ["Hello", {"prompt": "Hello"}, None])
def test_what_is_not_a_task_is_refused_at_once(given: Any) -> None:
    """A prompt in place of a task is a TypeError that shows how a task is made."""
    with pytest.raises(TypeError, match=f"TaskRequest.*of type {type(given).__name__}$"):
        bind(Least()).submit(given)


def test_a_name_in_place_of_an_adapter() -> None:
    """The error says which call returns the adapter."""
    with pytest.raises(ContractError, match=r"pass registry\.get\('openai-http', \.\.\.\)"):
        BoundAdapter.of("openai-http")
