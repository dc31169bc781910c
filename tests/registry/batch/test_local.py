"""Runs in this process: what costs an attempt, what stops a run, and how fast rows are sent."""

import asyncio
import json
import random
from pathlib import Path
from unittest import mock

import pytest

from adapter_api import ErrorCode, TaskRequest, WorkerError
from registry.batch import BatchError, Limits, Summary, pace, run
from registry.batch.local import LocalRun
from tests.registry.batch.scripted_pool import ScriptedEngine, ids, pool, tasks
from tests.virtual_time import in_virtual_time, now_s

BUSY = WorkerError.of(ErrorCode.ADMISSION_REJECT, "too many requests", retry_after_ms=2000)
RESET = WorkerError.of(ErrorCode.WORKER_RESET, "the connection was reset")
INVALID = WorkerError.of(ErrorCode.INVALID_PARAMS, "the prompt is refused")
DOWN = WorkerError.of(ErrorCode.POOL_UNAVAILABLE, "cannot connect")


async def run_all(
    engine: ScriptedEngine, count: int, output: Path | None = None, **limits: object
) -> Summary:
    """Run this many tasks over the engine."""
    async with pool(engine) as host:
        return await run(tasks(count), host, output=output, limits=Limits(**limits))  # type: ignore[arg-type]


@in_virtual_time
async def test_a_busy_engine_costs_no_attempt() -> None:
    """A row that is refused ten times with Retry-After waits each time and is answered."""
    engine = ScriptedEngine(lambda prompt, nth: BUSY if nth <= 10 else None)
    summary = await run_all(engine, 1, max_attempts=1)
    assert (summary.answered, summary.failed) == (1, 0)
    pauses = [b - a for a, b in zip(engine.times, engine.times[1:], strict=False)]
    assert len(pauses) == 10 and min(pauses) >= 2.0


@in_virtual_time
async def test_waits_for_a_busy_engine_grow() -> None:
    """Without Retry-After, the random wait grows to at most ten seconds."""
    random.seed(1)
    down = WorkerError.of(ErrorCode.ADMISSION_REJECT, "busy")
    engine = ScriptedEngine(lambda prompt, nth: down if nth <= 30 else None)
    await run_all(engine, 1)
    pauses = [b - a for a, b in zip(engine.times, engine.times[1:], strict=False)]
    assert max(pauses[:2]) < 1.0 < max(pauses[10:]) <= 10.1


@in_virtual_time
async def test_an_engine_that_fails_is_given_max_attempts(tmp_path: Path) -> None:
    """A row at which the engine always fails is an error row after max_attempts requests."""
    engine = ScriptedEngine(lambda prompt, nth: RESET if prompt == "1" else None)
    summary = await run_all(engine, 3, tmp_path / "out.jsonl", max_attempts=4)
    assert (summary.answered, summary.failed, dict(summary.failures)) == (2, 1, {"worker_reset": 1})
    assert engine.asked == {"0": 1, "1": 4, "2": 1}
    (error,) = map(json.loads, (tmp_path / "out.errors.jsonl").read_text().splitlines())
    assert error["custom_id"] == "1"
    assert error["error"] == {"code": "worker_reset", "message": "the connection was reset"}
    assert error["response"]["status_code"] == 502


@in_virtual_time
async def test_a_refused_row_is_not_sent_again(tmp_path: Path) -> None:
    """One row that the engine refuses is one error row; the others are answered."""
    engine = ScriptedEngine(lambda prompt, nth: INVALID if prompt == "1" else None)
    summary = await run_all(engine, 3, tmp_path / "out.jsonl")
    assert engine.asked == {"0": 1, "1": 1, "2": 1}
    assert (summary.answered, summary.failed, summary.stopped) == (2, 1, "")
    assert ids(tmp_path / "out.jsonl") == ["0", "2"]
    assert ids(tmp_path / "out.errors.jsonl") == ["1"]


@in_virtual_time
async def test_an_outage_stops_the_run_and_keeps_rows_open(tmp_path: Path) -> None:
    """After outage_s in which every attempt failed the run stops; the next call does the rest."""
    engine = ScriptedEngine(lambda prompt, nth: DOWN)
    began_s = now_s()
    summary = await run_all(engine, 50, tmp_path / "out.jsonl", outage_s=60.0)
    assert 60.0 <= now_s() - began_s <= 60.0 + 2 * 10.0
    assert (summary.answered, summary.failed, summary.left) == (0, 0, 50)
    assert "every attempt has failed for 60 s" in summary.stopped
    assert "cannot connect" in summary.stopped
    summary = await run_all(ScriptedEngine(), 50, tmp_path / "out.jsonl")
    assert summary.answered == 50


@in_virtual_time
async def test_an_outage_that_ends_loses_nothing() -> None:
    """Rows wait while no engine can be reached, and are answered when one can."""
    began_s = now_s()
    engine = ScriptedEngine(lambda prompt, nth: DOWN if now_s() < began_s + 250.0 else None)
    summary = await run_all(engine, 50, max_attempts=1)
    assert (summary.answered, summary.stopped) == (50, "")


@in_virtual_time
@pytest.mark.parametrize("code", ["UPSTREAM_AUTH", "QUOTA_EXHAUSTED", "EGRESS_DENIED"])
async def test_a_failure_of_every_row_stops_the_run(code: str) -> None:
    """A refused key, an empty account or a forbidden address keeps the rows open."""
    engine = ScriptedEngine(lambda prompt, nth: WorkerError.of(code, "no"), slots=2)
    summary = await run_all(engine, 1000)
    assert (summary.failed, summary.left) == (0, 1000)
    assert summary.stopped == f"every row would fail with {code}: no"
    assert engine.asked.total() <= 3


@in_virtual_time
async def test_max_failures_stops_the_run() -> None:
    """Once more rows than max_failures have failed, no row is sent; those in flight finish."""
    engine = ScriptedEngine(lambda prompt, nth: INVALID if int(prompt) % 2 else None, slots=4)
    summary = await run_all(engine, 1000, max_failures=10)
    assert 10 < summary.failed <= 10 + engine.peak
    assert summary.stopped.endswith("rows failed, the limit is 10")
    assert summary.done == engine.asked.total() == summary.answered + summary.failed


@in_virtual_time
async def test_max_tokens_stops_the_run() -> None:
    """Once the tokens of prompts and answers reach the limit, no row is sent."""
    engine = ScriptedEngine(slots=4)
    summary = await run_all(engine, 1000, max_tokens=500)
    used = summary.tokens_in + summary.tokens_out
    assert 500 <= used <= 500 + 10 * engine.peak
    assert summary.stopped.endswith("the limit is 500")


@in_virtual_time
async def test_requests_a_minute_are_spread() -> None:
    """With 60 requests a minute, two requests are one second apart, repeated ones too."""
    engine = ScriptedEngine(lambda prompt, nth: RESET if nth == 1 else None)
    await run_all(engine, 20, requests_per_minute=60)
    pauses = [b - a for a, b in zip(engine.times, engine.times[1:], strict=False)]
    assert engine.asked.total() == 40
    assert min(pauses) >= 1.0 - 1e-6
    assert engine.times[-1] - engine.times[0] == pytest.approx(39.0, abs=0.1)


@in_virtual_time
async def test_tokens_a_minute_are_kept() -> None:
    """In no minute are more tokens used than allowed, but for the rows that begin it."""
    engine = ScriptedEngine(answer_s=3.0)
    await run_all(engine, 60, tokens_per_minute=100)  # ten tokens a row: a row each six seconds
    for begin_s in engine.times:
        assert sum(begin_s <= at_s < begin_s + 60.0 for at_s in engine.times) <= 11
    assert engine.times[-1] - engine.times[0] == pytest.approx(59 * 6.0, rel=0.02)


@in_virtual_time
async def test_as_many_rows_as_the_replicas_take() -> None:
    """The replica's slots are always full, and max_in_flight bounds the rows."""
    engine = ScriptedEngine(slots=8)
    began_s = now_s()
    await run_all(engine, 800)
    assert engine.peak == 8
    assert now_s() - began_s == pytest.approx(800 / 8 * engine.answer_s, rel=0.1)
    engine = ScriptedEngine(slots=8)
    await run_all(engine, 100, max_in_flight=3)
    assert engine.peak == 3


@in_virtual_time
@pytest.mark.parametrize("maximum", [64, pytest.param(256, marks=pytest.mark.exhaustive)])
async def test_more_rows_at_once_are_tried_while_that_pays(maximum: int) -> None:
    """On an engine whose limit is not known, up to a maximum."""
    with mock.patch.object(pace, "MAX_AT_ONCE", maximum):
        engine = ScriptedEngine(slots=None, answer_s=1.0)
        await run_all(engine, 10 * maximum)
    assert maximum < engine.peak <= maximum * 1.25


@in_virtual_time
async def test_an_engine_that_only_queues_is_not_flooded() -> None:
    """More rows at once than it answers do not pay, so they are not kept."""
    engine = ScriptedEngine(slots=None, answer_s=1.0, batches=24)
    await run_all(engine, 500)
    assert 24 <= engine.peak <= 24 * 1.5 * 1.5 * 1.25


@in_virtual_time
async def test_interactive_jobs_go_first() -> None:
    """An interactive job that comes in the middle of a run waits for a slot, not for the rows."""
    engine = ScriptedEngine(slots=2, answer_s=1.0)
    async with pool(engine) as host:
        batch = asyncio.create_task(run(tasks(100), host))
        await asyncio.sleep(10.5)
        (task,) = tasks(1)
        began_s = now_s()
        await host.submit("default", task).text()
        assert now_s() - began_s <= 2.0
        await batch


@in_virtual_time
async def test_stop_drains(tmp_path: Path) -> None:
    """After stop, rows in flight finish and no further row is sent; waiting rows stay open."""
    engine = ScriptedEngine(lambda p, nth: BUSY if p == "0" else None, answer_s=1.0)
    begun: list[LocalRun] = []
    async with pool(engine) as host:
        loop = asyncio.get_running_loop()
        loop.call_later(2.5, lambda: begun[0].stop("interrupted"))
        output = tmp_path / "out.jsonl"
        summary = await run(tasks(100), host, output=output, begin=begun.append)
        assert summary.stopped == "interrupted"
        assert summary.answered == engine.asked.total() - engine.asked["0"]
        assert "0" not in ids(output)
        engine.fail = lambda prompt, nth: None
        before = engine.asked.copy()
        assert (await run(tasks(100), host, output=output)).answered == 100
        assert ids(output) == [str(n) for n in range(100)]
        again = {prompt for prompt in before if engine.asked[prompt] > before[prompt]}
        assert again == {"0"}


@in_virtual_time
async def test_cancellation_keeps_what_is_finished(tmp_path: Path) -> None:
    """A cancelled run cancels its rows; the results hold what was finished."""
    engine = ScriptedEngine(answer_s=1.0, slots=4)
    async with pool(engine) as host:
        output = tmp_path / "out.jsonl"
        running = asyncio.create_task(run(tasks(100), host, output=output))
        await asyncio.sleep(3.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.1)
        assert engine.running == 0
        assert len(ids(output)) == 12


@in_virtual_time
async def test_a_failing_callback_ends_the_run(tmp_path: Path) -> None:
    """An exception of on_result is raised when the rows in flight have finished."""

    def show(name: str, result: bytes) -> None:
        raise RuntimeError("no more")

    async with pool(ScriptedEngine()) as host:
        with pytest.raises(RuntimeError, match="no more"):
            await run(tasks(100), host, output=tmp_path / "out.jsonl", on_result=show)
    assert 0 < len(ids(tmp_path / "out.jsonl")) < 100


@in_virtual_time
async def test_two_tasks_with_one_id_are_refused() -> None:
    """Results are identified by job_id, so two tasks cannot share one."""
    async with pool(ScriptedEngine()) as host:
        with pytest.raises(BatchError, match="same job_id"):
            await run([*tasks(2), *tasks(1)], host)


@in_virtual_time
async def test_any_job_id_makes_a_readable_result(tmp_path: Path) -> None:
    """Quotes and backslashes in a job_id are escaped in the results."""
    name = 'a"b\\ {}'
    async with pool(ScriptedEngine()) as host:
        await run([TaskRequest(prompt="x", job_id=name)], host, output=tmp_path / "out.jsonl")
    assert ids(tmp_path / "out.jsonl") == [name]
