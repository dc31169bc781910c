"""TokenStream: one place for opening, order and the last word, for every adapter."""

import asyncio
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import (
    Cancelled,
    Error,
    ErrorCode,
    InternalError,
    MetricsFrame,
    StreamingError,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    WorkerReset,
)
from tests.scripted import END, STARTED, TASK, Script, collect, facts, reading, tokens, turns

# Opening


@pytest.mark.parametrize("how", ["await", "async with", "async for"])
async def test_three_ways_to_open(how: str) -> None:
    """Awaiting, entering and iterating give the same events, Started included."""
    stream = Script(STARTED, *tokens(2), END).stream()
    if how == "await":
        assert await stream is stream
    if how == "async with":
        async with stream as entered:
            assert entered is stream
            assert await collect(entered) == [STARTED, *tokens(2), END]
        return
    assert await collect(stream) == [STARTED, *tokens(2), END]


async def test_opening_twice_sends_the_job_once() -> None:
    """`await` and then `async with`, as in `async with await submit(...)`, is one opening."""
    script = Script(STARTED, *tokens(1), END)
    async with await script.stream() as stream:
        assert await stream is stream
        assert await collect(stream) == [STARTED, *tokens(1), END]


async def test_nothing_happens_before_it_is_opened() -> None:
    """submit returns at once; the adapter runs from the opening on."""
    script = Script(STARTED, END)
    stream = script.stream()
    await turns(3)
    assert script.at == -1
    await stream.aclose()


@pytest.mark.parametrize("how", ["await", "enter", "iterate"])
async def test_a_failure_before_started_raises(how: str) -> None:
    """A failure before the engine accepted the job is raised by each opening."""
    stream = Script(WorkerReset("WORKER_RESET", "no")).stream()
    for _ in range(3):
        with pytest.raises(WorkerReset) as caught:
            if how == "await":
                await stream
            elif how == "enter":
                async with stream:
                    pass
            else:
                await anext(stream)
        assert (caught.value.job_id, caught.value.tokens_emitted) == ("job", 0)


# Reading


async def test_the_happy_path_is_started_tokens_metrics_end() -> None:
    """ADAPT-3001, WA-INT-3001: events come through as they are, then iteration stops
    permanently."""
    steps = [STARTED, *tokens(3), MetricsFrame({"a": 1}), END]
    script = Script(*steps)
    stream = script.stream()
    assert await collect(stream) == steps
    assert script.closed
    assert await collect(stream) == []


async def test_a_failure_after_started_is_the_last_event_then_raises() -> None:
    """A loop that ignores Error cannot take half an answer for a whole one."""
    stream = Script(STARTED, *tokens(2), WorkerReset("WORKER_RESET", "gone")).stream()
    seen = await collect(stream)
    assert seen[:3] == [STARTED, *tokens(2)]
    assert isinstance(seen[3], Error)
    assert facts(seen[3].error) == facts(seen[4])
    assert (seen[4].tokens_emitted, seen[4].job_id) == (2, "job")
    for _ in range(3):
        with pytest.raises(WorkerReset):
            await anext(stream)


async def test_a_yielded_error_is_the_same_as_a_raised_one() -> None:
    """An adapter may yield Error, after Started or instead of it."""
    error = WorkerReset("WORKER_RESET", "gone")
    seen = await collect(Script(STARTED, Error(error), Token("never", 0)).stream())
    assert seen[:2] == [STARTED, Error(error)]
    assert facts(seen[2]) == facts(error)
    with pytest.raises(WorkerReset):
        await Script(Error(error)).stream()


async def test_an_error_names_the_job_it_ended() -> None:
    """An adapter that keeps one error object for all jobs does not mix them up."""
    error = WorkerReset("WORKER_RESET", "gone")
    for job_id in ("one", "two"):
        events = Script(STARTED, error).events()
        await collect(TokenStream(events, TaskRequest(prompt="x", job_id=job_id)))
        assert error.job_id == job_id


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([Token("x", 0)], "Token after nothing"),
        ([END], "End after nothing"),
        ([MetricsFrame({})], "MetricsFrame after nothing"),
        ([STARTED, STARTED], "Started after Started"),
        ([STARTED, Token("x", 1)], "index 1, expected 0"),
        ([STARTED, Token("x", -1)], "index -1, expected 0"),
        ([STARTED, Token("x", 0), Token("y", 0)], "index 0, expected 1"),
        ([STARTED, Token("x", 0), Token("y", 2)], "index 2, expected 1"),
        ([STARTED, Token("x", 0), STARTED], "Started after Token"),
        ([STARTED, MetricsFrame({}), Token("x", 0)], "Token after MetricsFrame"),
        ([STARTED, MetricsFrame({}), MetricsFrame({})], "MetricsFrame after MetricsFrame"),
        ([STARTED, "text"], "a str, which is not an event"),
        ([STARTED, None], "a NoneType, which is not an event"),
        ([STARTED, Token("x", None)], "index None, expected 0"),
        ([STARTED, Token("x", False)], "index False, expected 0"),
        ([STARTED, Token("x", 0, "high")], "a logprob that is not a number"),
        ([STARTED, Token("x", 0), MetricsFrame({"a": object()})], "a mapping of plain values"),
        ([attrs.evolve(STARTED, seed="1")], "a seed that is not an integer"),
        ([attrs.evolve(STARTED, model=b"m")], "model that is not a string"),
        ([attrs.evolve(STARTED, replica_id=5)], "replica_id that is not a string"),
        ([STARTED, attrs.evolve(END, message_extra={"a": {1: 2}})], "a mapping of plain values"),
        ([STARTED, attrs.evolve(END, message_extra=[])], "a mapping of plain values"),
    ],
)
async def test_the_order_is_enforced(steps: list[Any], says: str) -> None:
    """ADAPT-3001: a violation ends the stream as INTERNAL and closes the adapter's generator."""
    script = Script(*steps, END)
    seen = await collect(script.stream())
    assert isinstance(seen[-1], InternalError)
    assert says in seen[-1].message
    assert script.closed


_PIECES: list[Any] = [
    STARTED,
    Token("a", 0),
    Token("b", 1),
    Token("c", 2),
    MetricsFrame({}),
    END,
    Error(WorkerReset("WORKER_RESET", "x")),
    WorkerReset("WORKER_RESET", "x"),
    KeyError("x"),
]


@given(st.lists(st.sampled_from(_PIECES), max_size=7))
def test_whatever_an_adapter_gives_the_reader_sees_a_legal_stream(steps: list[Any]) -> None:
    """ADAPT-3001: Started, Token 0, 1, 2, ..., MetricsFrame?, then End, or an error that raises."""
    script = Script(*steps)
    seen = asyncio.run(collect(script.stream()))
    kinds = [type(item).__name__ for item in seen]
    if kinds[-1] == "End":
        assert seen == steps[: len(seen)]
    elif kinds[0] == "Started":
        assert kinds[-2] == "Error"
        assert facts(seen[-2].error) == facts(seen[-1])
        assert seen[:-2] == steps[: len(seen) - 2]
        del kinds[-2]
    else:
        assert len(seen) == 1
    *before, _ = kinds
    assert before[:1] in ([], ["Started"])
    middle = before[1:]
    assert "MetricsFrame" not in middle[:-1]
    assert [e.index for e in seen if isinstance(e, Token)] == list(range(middle.count("Token")))
    assert set(middle) <= {"Token", "MetricsFrame"}
    assert script.closed or not steps


async def test_nothing_comes_after_the_end() -> None:
    """The stream does not read events after End."""
    script = Script(STARTED, END, Token("late", 0), END)
    assert await collect(script.stream()) == [STARTED, END]
    assert script.at == 1


async def test_events_that_just_stop_are_truncation() -> None:
    """No End, no Error: the answer has no proof (completion proof for every adapter)."""
    seen = await collect(Script(STARTED, *tokens(1)).stream())
    assert isinstance(seen[-1], StreamingError)
    assert seen[-1].code is ErrorCode.STREAM_TRUNCATED
    with pytest.raises(StreamingError):
        await Script().stream()


async def test_a_foreign_exception_is_internal_with_its_cause() -> None:
    """A bug in an adapter is named by type, its text (which may hold anything) is not shown."""
    seen = await collect(Script(STARTED, KeyError("sk-secret")).stream())
    assert isinstance(seen[-1], InternalError)
    assert "KeyError" in seen[-1].message
    assert "sk-secret" not in str(seen[-1])
    assert isinstance(seen[-1].__cause__, KeyError)


async def test_base_exceptions_propagate() -> None:
    """A KeyboardInterrupt propagates; the job is over."""
    script = Script(STARTED, KeyboardInterrupt("now"))
    stream = await script.stream()
    await anext(stream)
    with pytest.raises(KeyboardInterrupt, match="now"):
        await anext(stream)
    assert script.closed
    with pytest.raises(Cancelled):
        await anext(stream)


async def test_events_without_aclose_are_fine() -> None:
    """Any async iterator will do."""

    class Plain:
        def __init__(self) -> None:
            self.rest: list[TokenEvent] = [STARTED, END]

        def __aiter__(self) -> "Plain":
            return self

        async def __anext__(self) -> TokenEvent:
            return self.rest.pop(0)

    assert await TokenStream(Plain(), TASK).text() == ""
    stream = await TokenStream(Plain(), TASK)
    assert await stream.cancel()


@pytest.mark.parametrize("phase", ["opening", "reading"])
async def test_two_readers_are_refused(phase: str) -> None:
    """The second reader gets a RuntimeError, however it begins; the first continues."""
    steps = (0.05, STARTED, END) if phase == "opening" else (STARTED, 0.05, END)
    stream = Script(*steps).stream()
    reader, seen = await reading(stream, 0 if phase == "opening" else 1)
    with pytest.raises(RuntimeError, match="two tasks read the stream of job job"):
        await anext(stream)
    if phase == "opening":
        with pytest.raises(RuntimeError, match="two tasks read"):
            await stream
    await reader
    assert seen == [STARTED, END]


async def test_readers_may_take_turns() -> None:
    """One task reads at a time, not always the same (asyncio.wait_for makes a task of its own)."""
    stream = Script(STARTED, 0.001, *tokens(2), END).stream(deadline_s=10)
    seen = [await asyncio.create_task(anext(stream)) for _ in range(3)]
    seen += [await asyncio.wait_for(anext(stream), 1)]
    assert seen == [STARTED, *tokens(2), END]


# The whole answer


async def test_text_is_whole_or_raises() -> None:
    """text() joins the tokens of a whole answer and raises for any other."""
    assert await Script(STARTED, *tokens(2), END).stream().text() == "t0t1"
    script = Script(STARTED, *tokens(2), WorkerReset("WORKER_RESET", "gone"))
    with pytest.raises(WorkerReset):
        await script.stream().text()
    assert script.closed
    with pytest.raises(WorkerReset):
        await Script(WorkerReset("WORKER_RESET", "no")).stream().text()


@pytest.mark.parametrize("whole", [TokenStream.text, TokenStream.answer])
async def test_the_rest_of_a_stream_does_not_pass_for_the_whole(whole: Any) -> None:
    """text() and answer() raise after a Token or End was read; Started alone does no harm."""
    stream = Script(STARTED, *tokens(3), END).stream()
    assert [await anext(stream), await anext(stream)] == [STARTED, *tokens(1)]
    with pytest.raises(
        RuntimeError, match="the stream of job job was read already, .* only once: submit"
    ):
        await whole(stream)
    await stream.aclose()
    stream = Script(STARTED, END).stream()
    assert [event async for event in stream] == [STARTED, END]
    with pytest.raises(RuntimeError, match="was read already"):
        await whole(stream)
    stream = Script(STARTED, *tokens(2), END).stream()
    assert await anext(stream) == STARTED
    assert getattr(result := await whole(stream), "text", result) == "t0t1"


@pytest.mark.parametrize("before", [(), (STARTED,), (STARTED, *tokens(2))])
async def test_frames_never_raise(before: tuple[Any, ...]) -> None:
    """WA-INT-3008: a failure before or after Started is the last frame, and the only error."""
    script = Script(*before, WorkerReset("WORKER_RESET", "a"))
    frames = [frame async for frame in script.stream().frames()]
    assert [f["type"] for f in frames[:-1]] == [type(e).__name__.lower() for e in before]
    assert frames[-1]["type"] == "error"
    assert frames[-1]["code"] == "WORKER_RESET"
    assert script.closed


async def test_frames_of_a_whole_answer_end_with_end() -> None:
    """The frames are the events, one by one."""
    steps = (STARTED, *tokens(2), MetricsFrame({"a": 1}), END)
    frames = [frame async for frame in Script(*steps).stream().frames()]
    assert [f["type"] for f in frames] == ["started", "token", "token", "metrics", "end"]


async def test_frames_that_are_left_close_the_stream() -> None:
    """Closing the frames closes the job; so does cancelling it meanwhile, with an error frame."""
    script = Script(STARTED, *tokens(2), 60)
    frames: Any = script.stream().frames()
    await anext(frames)
    await frames.aclose()
    assert script.closed
    stream = Script(STARTED, 60).stream()
    codes = []
    async for frame in stream.frames():
        codes.append(frame.get("code"))
        await stream.cancel()
    assert codes == [None, "CANCELLED"]
