"""Middleware's changes to a stream, and the notices of observers."""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import attrs
import pytest

from adapter_api import (
    Cancelled,
    End,
    InternalError,
    Metrics,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerReset,
    WorkerTimeout,
    hookimpl,
)
from registry import Registry
from tests.witness import Recorder

WORDS = {"tokens": ["one ", "two ", "three"]}


def _task(prompt: str = "hi", **fields: Any) -> TaskRequest:
    return TaskRequest(prompt=prompt, **fields)


class Changing:
    """Hands on what `change` makes of the events; notes that it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        return self._around((yield))

    async def _around(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        try:
            async for event in self.change(events):
                yield event
        finally:
            self.closed += 1

    async def change(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        async for event in events:
            yield event


class WithoutTwo(Changing):
    """Leaves a Token out and renumbers the others."""

    async def change(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        index = 0
        async for event in events:
            if isinstance(event, Token):
                if event.text == "two ":
                    continue
                event, index = attrs.evolve(event, index=index), index + 1
            yield event


class WithGap(Changing):
    """Leaves a Token out, and leaves the gap."""

    async def change(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        async for event in events:
            if not isinstance(event, Token) or event.text != "two ":
                yield event


class WithoutEnd(Changing):
    """Swallows the proof that the answer is whole."""

    async def change(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        async for event in events:
            if not isinstance(event, End):
                yield event


async def test_a_token_may_be_left_out() -> None:
    """A filter numbers its Tokens by itself; what it delivers is what is reported."""
    recorder = Recorder()
    registry = Registry(middleware=[WithoutTwo()], observers=[recorder])
    async with registry.get("mock", WORDS) as adapter:
        stream = adapter.submit(_task())
        tokens = [event async for event in stream if isinstance(event, Token)]
    assert [(token.index, token.text) for token in tokens] == [(0, "one "), (1, "three")]
    assert recorder.outcomes() == ["job_ended"]


@pytest.mark.parametrize("middleware", [WithGap(), WithoutEnd()])
async def test_a_stream_that_is_not_whole_fails(middleware: Changing) -> None:
    """Middleware is held to the order of events and to the proof like an adapter."""
    recorder = Recorder()
    registry = Registry(middleware=[middleware], observers=[recorder])
    async with registry.get("mock", WORDS) as adapter:
        stream = adapter.submit(_task())
        with pytest.raises(Exception, match=r"expected 1|without End") as caught:
            await stream.text()
    assert recorder.outcomes() == ["job_failed"]
    assert recorder.last("job_failed").code == caught.value.code  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["aclose", "cancel", "end", "adapter"])
async def test_closing_the_outer_closes_all(how: str) -> None:
    """Each layer, and the adapter's stream in the middle, is closed once with the outermost."""
    given: list[TokenStream] = []

    class Keeping:
        @hookimpl(wrapper=True, trylast=True)
        def submit(self, task: TaskRequest) -> Any:
            given.append((yield))
            return given[-1]

    outer, inner = Changing(), Changing()
    async with Registry(middleware=[outer, inner, Keeping()]).get("mock", WORDS) as adapter:
        stream = adapter.submit(_task())
        await anext(stream)
        await anext(stream)
        if how == "aclose":
            await stream.aclose()
        elif how == "cancel":
            assert await adapter.cancel(stream.job_id)
        elif how == "adapter":
            await adapter.aclose()
        else:
            assert [event async for event in stream]
        assert (outer.closed, inner.closed) == (1, 1)
        with nullcontext() if how == "end" else pytest.raises(Cancelled):
            assert [event async for event in given[0]] == []


async def test_a_deadline_holds_around_middleware() -> None:
    """The task's deadline ends a job whose middleware takes its time."""
    recorder = Recorder()
    registry = Registry(middleware=[Changing()], observers=[recorder])
    async with registry.get("mock", {"stall_after": 1}) as adapter:
        with pytest.raises(WorkerTimeout):
            await adapter.submit(_task(deadline_s=0.05)).text()
    assert recorder.last("job_failed").code == "DEADLINE_UNMET"


class Cache:
    """Answers the prompt "known" by itself."""

    def __init__(self, *, as_stream: bool) -> None:
        self.as_stream = as_stream

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        events = yield
        if task.prompt != "known":
            return events
        answer = self.answer(task)
        return TokenStream(answer, task) if self.as_stream else answer

    async def answer(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(task.job_id, "cache", "1")
        yield Token("known answer", 0)
        yield End(Metrics(1, prompt_tokens=7), "stop", "finish_reason")


@pytest.mark.parametrize("as_stream", [False, True])
async def test_an_answer_from_a_cache_is_reported(as_stream: bool) -> None:
    """The job is reported as the caller sees it, and the engine receives no request (ORCH-3027)."""
    recorder = Recorder()
    registry = Registry(middleware=[Cache(as_stream=as_stream)], observers=[recorder])
    async with registry.get("mock", {"error_code": "WORKER_RESET"}) as adapter:
        assert await adapter.submit(_task("known")).text() == "known answer"
    ended = recorder.last("job_ended")
    assert (ended.engine, ended.tokens_in, ended.tokens_out) == ("cache", 7, 1)
    assert recorder.outcomes() == ["job_ended"]


async def test_another_adapter_may_answer() -> None:
    """Middleware may hand the job to another observed adapter: each reports its part."""
    recorder = Recorder()

    class Elsewhere:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            yield
            return other.submit(task)

    async with Registry(observers=[recorder]).get("mock", WORDS) as other:
        outer = Registry(middleware=[Elsewhere()], observers=[recorder])
        async with outer.get("mock", {"replica_id": "r1"}) as adapter:
            assert await adapter.submit(_task()).text() == "one two three"
    ended = [notice for hook, notice in recorder.told if hook == "job_ended"]
    assert {notice.adapter.replica_id for notice in ended} == {None, "r1"}
    assert recorder.hooks().count("job_submitted") == len(ended) == 2


async def test_middleware_that_gives_no_stream() -> None:
    """A wrapper that forgets to return the stream fails its job, which is reported."""

    class Forgetful:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            yield

    recorder = Recorder()
    registry = Registry(middleware=[Forgetful()], observers=[recorder])
    async with registry.get("mock", WORDS) as adapter:
        with pytest.raises(InternalError, match="NoneType"):
            await adapter.submit(_task())
    assert recorder.outcomes() == ["job_failed"]


class Failing(Changing):
    """Fails on the way."""

    async def change(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
        async for event in events:
            yield event
            if isinstance(event, Token):
                raise ValueError("its text")


class FailingAtOnce:
    """Fails before there is a stream."""

    @hookimpl(wrapper=True)
    def submit(self, task: TaskRequest) -> Any:
        yield
        raise ValueError("its text")


@pytest.mark.parametrize("middleware", [Failing(), FailingAtOnce()])
async def test_failing_middleware_is_not_called_the_adapter(middleware: object) -> None:
    """The message leaves open whose defect it is, and the cause tells."""
    async with Registry(middleware=[middleware]).get("mock", WORDS) as adapter:
        with pytest.raises(InternalError, match="adapter or its middleware failed with") as caught:
            await adapter.submit(_task()).text()
    assert isinstance(caught.value.__cause__, ValueError)
    assert "its text" not in str(caught.value)


async def test_errors_of_the_contract_pass_middleware() -> None:
    """A WorkerError propagates unchanged, whether the adapter or middleware raised it."""

    class Refusing:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            yield
            raise WorkerTimeout("DEADLINE_UNMET", "too late")

    options = {"error_code": "WORKER_RESET", "error_after": 1}
    async with Registry(middleware=[Changing()]).get("mock", options) as adapter:
        with pytest.raises(WorkerReset):
            await adapter.submit(_task()).text()
    async with Registry(middleware=[Refusing()]).get("mock", {}) as adapter:
        with pytest.raises(WorkerTimeout):
            await adapter.submit(_task()).text()


@pytest.mark.parametrize("order", [{}, {"tryfirst": True}, {"trylast": True}])
async def test_closing_closes_all_in_any_order(order: dict[str, bool]) -> None:
    """Also where a middleware asks to be the first or the last."""

    class Ordered(Changing):
        @hookimpl(wrapper=True, specname="submit", **order)
        def around(self, task: TaskRequest) -> Any:
            return self._around((yield))

        submit = None  # type: ignore[assignment]

    layers = [Changing(), Ordered(), Changing(), Ordered()]
    async with Registry(middleware=layers).get("mock", WORDS) as adapter:
        stream = adapter.submit(_task())
        await anext(stream)
        await stream.aclose()
        assert [layer.closed for layer in layers] == [1, 1, 1, 1]


async def test_middleware_may_submit_to_its_own_adapter() -> None:
    """A job within a job: each closes what is its own."""
    outer = Changing()

    class Asking:
        @hookimpl(wrapper=True)
        def submit(self, task: TaskRequest) -> Any:
            events = yield
            return events if task.prompt == "asked" else self.asking(events)

        async def asking(self, events: AsyncIterator[TokenEvent]) -> AsyncIterator[TokenEvent]:
            assert await adapter.submit(_task("asked")).text() == "one two three"
            async for event in events:
                yield event

    recorder = Recorder()
    registry = Registry(middleware=[outer, Asking()], observers=[recorder])
    async with registry.get("mock", WORDS) as adapter:
        assert await adapter.submit(_task()).text() == "one two three"
    assert recorder.outcomes() == ["job_ended", "job_ended"]
    assert outer.closed == 2
