"""`worker-adapters serve`: a real process, fed with lines, on real engines."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.registry.cli.conftest import Engine
from tests.registry.cli.serving import Frame, Serving, workers
from tests.word_server import WordServer

Serve = Callable[..., WordServer]


Until = Callable[[Callable[[], bool]], None]


def test_tasks_become_frames(run: Callable[..., Serving], serve: Serve) -> None:
    """Each line is a task, each frame a line with its job_id; at the end of input all is done."""
    serving = run(workers(serve().base_url), fresh=True)
    for number in range(3):
        serving.say({"pool": "p", "prompt": "x", "max_tokens": 4, "job_id": f"j{number}"})
    status, frames, err = serving.end()
    assert status == 0
    assert "INFO replica r0 of pool p is ready\n" in err
    assert err.endswith("INFO jobs: 3 answered, 0 failed\n")
    for number in range(3):
        mine = [frame["type"] for frame in frames if frame["job_id"] == f"j{number}"]
        assert mine == ["started", "token", "token", "token", "token", "end"]
    assert not serving.snapshot()["running"]


def test_a_tool_is_called_and_its_result_goes_back(run: Callable[..., Serving]) -> None:
    """Lines take tools and wire messages; frames carry the calls, whole and in pieces."""
    function = {"name": "get_weather", "parameters": {"type": "object"}}
    tool = {"type": "function", "function": function}
    question = {"role": "user", "content": "Weather in Oslo?"}
    pieces = ['{"city": ', '"Oslo"}']
    first = {"index": 0, "id": "call_a", "type": "function"}
    deltas: list[Frame] = [
        {"reasoning_content": "I need the weather."},
        {"tool_calls": [{**first, "function": {"name": "get_weather", "arguments": pieces[0]}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": pieces[1]}}]},
    ]
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    events = "".join(f"data: {json.dumps({'choices': [chunk]})}\n\n" for chunk in chunks)
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    server = Engine(f"{head}{events}data: [DONE]\n\n".encode())
    try:
        serving = run(workers(server.base_url))
        task = {"tools": [tool], "tool_choice": "required", "include_reasoning": True}
        serving.say({"job_id": "a", "messages": [question], **task})
        *rest, end = serving.frames("a")
        assert rest[1]["reasoning"] == "I need the weather."
        parts = [frame["tool_call"] for frame in rest[2:]]
        assert [part["arguments"] for part in parts] == pieces
        assert parts[0] | {"arguments": ""} == {
            "call": 0, "id": "call_a", "name": "get_weather", "arguments": "",
        }  # fmt: skip
        assert end["tool_calls"] == [
            {"id": "call_a", "name": "get_weather", "arguments": "".join(pieces)}
        ]
        call = {"id": "call_a", "type": "function",
                "function": {"name": "get_weather", "arguments": "".join(pieces)}}  # fmt: skip
        turn = [
            question,
            {"role": "assistant", "content": None, "tool_calls": [call], **end["message_extra"]},
            {"role": "tool", "tool_call_id": "call_a", "content": "21 degrees"},
        ]
        serving.say({"job_id": "b", "messages": turn, **task})
        assert serving.frames("b")[-1]["type"] == "end"
        assert serving.end()[0] == 0
        sent = server.bodies
    finally:
        server.close()
    assert sent[0]["tools"] == [tool]
    assert sent[0]["tool_choice"] == "required"
    assert [message["role"] for message in sent[1]["messages"]] == ["user", "assistant", "tool"]
    assert sent[1]["messages"][1]["tool_calls"] == [call]
    assert sent[1]["messages"][1]["reasoning_content"] == "I need the weather."


def test_jobs_run_side_by_side(run: Callable[..., Serving], serve: Serve, until: Until) -> None:
    """A slow job does not keep a later one waiting, and frames come as they are made."""
    slow, quick = serve(delay_s=0.05), serve()
    serving = run(workers(slow.base_url) + workers(quick.base_url).replace('"p"', '"q"'))
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 400, "job_id": "slow"})
    until(lambda: slow.running == 1)
    serving.say({"pool": "q", "prompt": "x", "max_tokens": 3, "job_id": "quick"})
    assert serving.frames("quick")[-1]["type"] == "end"
    assert slow.running == 1


def test_bad_lines_are_error_frames(run: Callable[..., Serving], serve: Serve) -> None:
    """An invalid line gets an error frame with its number, and the run continues."""
    serving = run(workers(serve().base_url))
    lines: dict[int, tuple[object, str, str | None]] = {
        1: ("nonsense", "the line is not JSON", None),
        2: ("[]", "expected an object", None),
        3: ({"pool": 7, "prompt": "x"}, "pool must be the name of a pool", None),
        4: ({"pool": "p"}, "exactly one of prompt and messages", None),
        5: ({"pool": "p", "prompt": "x", "seed": "1", "job_id": "j"}, "seed must be", "j"),
        6: ({"pool": "p", "prmopt": "x"}, "unknown key 'prmopt'; did you mean 'prompt'?", None),
        7: ({"pool": "p", "prompt": "x", "priority": "urgent"}, "priority must be one of", None),
        8: ({"cancel": "absent"}, "no job with the id 'absent' is running", None),
        9: ({"cancel": 7}, 'write {"cancel": job_id} and nothing else', None),
    }
    for line, _, _ in lines.values():
        serving.say(line)
    for number, (_, message, job_id) in lines.items():
        frame = serving.frame()
        assert (frame["type"], frame["code"]) == ("error", "INVALID_PARAMS")
        assert (frame["line"], frame["job_id"]) == (number, job_id)
        assert message in frame["message"]
    serving.say({"pool": "absent", "prompt": "x", "job_id": "j"})
    assert serving.frames("j")[-1]["code"] == "POOL_UNAVAILABLE"
    serving.say("")
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 2, "job_id": "good"})
    assert serving.frames("good")[-1]["type"] == "end"
    status, _, log = serving.end()
    assert status == 1
    assert log.endswith("INFO jobs: 1 answered, 1 failed (POOL_UNAVAILABLE 1), 9 lines refused\n")


def test_a_line_without_end_is_bounded(run: Callable[..., Serving], serve: Serve) -> None:
    """A line of 5 MB is refused, and the next one is read."""
    serving = run(workers(serve().base_url))
    serving.say("x" * 5_000_000)
    assert "the line is longer than" in serving.frame()["message"]
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 2, "job_id": "good"})
    assert serving.frames("good")[-1]["type"] == "end"


def test_a_job_is_cancelled(run: Callable[..., Serving], serve: Serve, until: Until) -> None:
    """A cancel line ends the job, whose engine stops; its id is not free before (AH-1002)."""
    server = serve(delay_s=0.02)
    serving = run(workers(server.base_url))
    task = {"pool": "p", "prompt": "x", "max_tokens": 400, "job_id": "j"}
    serving.say(task)
    until(lambda: server.running == 1)
    serving.say(task)
    while (frame := serving.frame())["job_id"] is not None:
        pass
    assert "a job with the id j is running already" in frame["message"]
    serving.say({"cancel": "j"})
    assert serving.frames("j")[-1]["code"] == "CANCELLED"
    until(lambda: server.running == 0)


def test_a_job_can_be_cancelled_while_others_wait(
    run: Callable[..., Serving], serve: Serve
) -> None:
    """With --jobs 1 the lines behind the job that runs are read, as far as one more job."""
    serving = run(workers(serve(delay_s=0.02).base_url), "--jobs", "1")
    for job_id in ("runs", "waits"):
        serving.say({"pool": "p", "prompt": "x", "max_tokens": 400, "job_id": job_id})
    serving.say({"cancel": "waits"})
    (frame,) = serving.frames("waits")  # it never began
    assert frame["code"] == "CANCELLED"
    serving.say({"cancel": "runs"})
    assert serving.frames("runs")[-1]["code"] == "CANCELLED"
    assert serving.end()[:2] == (0, [])


def test_no_more_is_read_than_can_run(run: Callable[..., Serving], serve: Serve) -> None:
    """With --jobs 2 the third task waits in the input, and is not refused."""
    text = workers(serve(delay_s=0.01).base_url, head="[pools.p]\nmax_queue = 2\n")
    serving = run(text + "limit = 1\n", "--jobs", "2")
    for number in range(6):
        serving.say({"pool": "p", "prompt": "x", "max_tokens": 10, "job_id": f"j{number}"})
    status, frames, _ = serving.end()
    assert status == 0
    assert [frame["type"] for frame in frames if frame["type"] in ("end", "error")] == ["end"] * 6


def test_no_line_is_lost_to_a_full_queue(run: Callable[..., Serving], serve: Serve) -> None:
    """Many tasks for a pool whose queue takes one are all answered, each exactly once."""
    text = workers(serve(delay_s=0.002).base_url, head="[pools.p]\nmax_queue = 1\n")
    serving = run(text + "limit = 1\n")
    for number in range(40):
        serving.say({"pool": "p", "prompt": "x", "max_tokens": 2, "job_id": f"j{number}"})
    status, frames, err = serving.end()
    assert status == 0
    ends = [frame["job_id"] for frame in frames if frame["type"] in ("end", "error")]
    assert sorted(ends) == sorted(f"j{number}" for number in range(40))
    assert err.endswith("INFO jobs: 40 answered, 0 failed\n")
    assert serving.snapshot()["totals"]["answered"] == 40


def test_failed_jobs_are_a_status(run: Callable[..., Serving], engine: Callable[..., Any]) -> None:
    """A job that fails makes the run end with 1, and the state has it among the last failures."""
    serving = run(workers(engine("half", whole=False).base_url))
    serving.say({"pool": "p", "prompt": "x", "job_id": "j"})
    status, _, err = serving.end()
    assert status == 1
    assert err.endswith("INFO jobs: 0 answered, 1 failed (STREAM_TRUNCATED 1)\n")
    (failure,) = serving.snapshot()["failures"]
    assert (failure["job_id"], failure["code"]) == ("j", "STREAM_TRUNCATED")


def test_the_state_holds_no_prompt(run: Callable[..., Serving], tmp_path: Path) -> None:
    """Not even where a server's refusal repeats it."""
    prompt = "my grandmother's secret recipe has 3 eggs"
    refusal = json.dumps({"error": {"message": f"invalid prompt: {prompt.upper()}"}}).encode()
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(refusal)}\r\n\r\n"
    server = Engine(head.encode() + refusal)
    try:
        serving = run(workers(server.base_url))
        serving.say({"pool": "p", "prompt": prompt, "job_id": "j"})
        assert serving.frames("j")[-1]["code"] == "INVALID_PARAMS"
        assert serving.end()[0] == 1
    finally:
        server.close()
    kept = b"".join(path.read_bytes() for path in serving.state.iterdir())
    assert b'"j"' in kept
    for word in (b"grandmother", b"recipe", b"eggs"):
        assert word not in kept.lower()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_drains(
    run: Callable[..., Serving], serve: Serve, until: Until, number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM, SIGHUP: running jobs come to their end, new lines are not read, status 0."""
    server = serve(delay_s=0.02)
    serving = run(workers(server.base_url))
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 40, "job_id": "j"})
    until(lambda: server.running == 1)
    serving.signal(number)
    frames = serving.frames("j")
    assert (len(frames), frames[-1]["type"]) == (42, "end")
    status, rest, err = serving.end()
    assert (status, rest) == (0, [])
    assert "error" not in err
    assert not serving.snapshot()["running"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_drain_has_its_limit(
    run: Callable[..., Serving], serve: Serve, until: Until, number: signal.Signals, code: int
) -> None:
    """Jobs that have not ended by then are cancelled, with a last frame and the status."""
    server = serve(delay_s=0.05)
    serving = run(workers(server.base_url), "--drain", "0.1")
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 400, "job_id": "j"})
    until(lambda: server.running == 1)
    serving.signal(number)
    assert serving.frames("j")[-1]["code"] == "CANCELLED"
    assert serving.end()[0] == code
    until(lambda: server.running == 0)


def test_the_second_signal_does_not_wait(
    run: Callable[..., Serving], serve: Serve, until: Until
) -> None:
    """A second Ctrl-C ends the run without waiting for the jobs."""
    server = serve(delay_s=0.05)
    serving = run(workers(server.base_url))
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 400, "job_id": "j"})
    until(lambda: server.running == 1)
    serving.signal(signal.SIGINT)
    serving.hear("the jobs have 30 s to end; a second signal ends them")
    serving.signal(signal.SIGINT)
    assert serving.process.wait(10) == 130
    until(lambda: server.running == 0)


def test_a_signal_cancels_what_was_only_read_ahead(
    run: Callable[..., Serving], serve: Serve, until: Until
) -> None:
    """A job that has not begun does not begin any more; the one that runs comes to its end."""
    server = serve(delay_s=0.02)
    serving = run(workers(server.base_url), "--jobs", "1")
    for job_id in ("runs", "ahead"):
        serving.say({"pool": "p", "prompt": "x", "max_tokens": 60, "job_id": job_id})
    until(lambda: server.running == 1)
    serving.say({"pool": "p", "prompt": "", "job_id": "x" * 300})  # its error: all was read
    assert serving.frames_until(lambda frame: frame.get("line") == 3)
    serving.signal(signal.SIGTERM)
    (frame,) = serving.frames("ahead")
    assert frame["code"] == "CANCELLED"
    assert serving.frames("runs")[-1]["type"] == "end"
    assert serving.end()[0] == 1  # a line was refused


def test_a_reader_that_leaves_ends_it(
    run: Callable[..., Serving], serve: Serve, until: Until
) -> None:
    """When the reader of the frames goes away, jobs are cancelled: status 141, no error."""
    server = serve(delay_s=0.01)
    serving = run(workers(server.base_url))
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 400, "job_id": "j"})
    serving.frame()
    serving.process.stdout.close()  # type: ignore[union-attr]
    assert serving.process.wait(10) == 141
    assert "error" not in serving.process.stderr.read()  # type: ignore[union-attr]
    until(lambda: server.running == 0)


def test_a_reader_that_does_not_read_stops_nothing_else(
    run: Callable[..., Serving], serve: Serve, until: Until
) -> None:
    """While frames wait for their reader the state is kept, and SIGTERM ends the run in time."""
    serving = run(workers(serve(max_words=5000).base_url), "--drain", "0.1")
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 5000, "job_id": "j"})
    until(lambda: serving.snapshot()["host"]["pools"] != [])
    before = serving.snapshot()["at_s"]
    until(lambda: serving.snapshot()["at_s"] > before)
    serving.signal(signal.SIGTERM)
    assert serving.process.wait(20) == 143
