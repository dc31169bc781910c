"""A host's records of a job: its ledger, and its log (ORCH-3027)."""

import asyncio
import json
import logging
import pickle

import attrs
import cattrs
import pytest

from adapter_api import (
    AdapterNotice,
    CapacityExceeded,
    End,
    EngineUnavailable,
    Error,
    ErrorCode,
    InvalidRequest,
    JobNotice,
    Metrics,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
    hookimpl,
)
from adapter_api.frames import from_frame, to_frame
from adapter_api.ledger import Explanation
from registry import AdapterHost, PoolPolicy, Registry
from registry.host.breaker import BreakerPolicy
from registry.host.jobs import Ledger, copied
from tests.engines_in_process import Engine, task
from tests.virtual_time import in_virtual_time

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")


async def test_explain_shows_every_step(host: AdapterHost) -> None:
    """Every attempt, skip and choice is in the ledger; unknown jobs are None."""
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    await host.submit("p", task()).text()
    explanation = host.explain("job")
    assert explanation is not None
    kinds = [(step.kind, step.replica_id) for step in explanation.steps]
    assert kinds == [
        ("choose", "a"),
        ("attempt", "a"),
        ("retry", None),
        ("skip", "a"),
        ("choose", "b"),
        ("attempt", "b"),
        ("end", None),
    ]
    assert explanation.outcome == "ok"
    assert host.explain("unknown") is None


async def test_end_and_error_tell_every_attempt(host: AdapterHost) -> None:
    """The ledger travels with the outcome: in End, in its frame, in an error that is pickled."""
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    end = [event async for event in host.submit("p", task())][-1]
    assert isinstance(end, End)
    attempts = [step for step in end.metrics.ledger if step["kind"] == "attempt"]
    assert [(step["replica_id"], step["reason"]) for step in attempts] == [
        ("a", "WORKER_RESET"),
        ("b", "ok"),
    ]
    assert end.metrics.ledger[-1]["kind"] == "end"
    explained = host.explain("job")
    assert explained is not None
    assert end.metrics.ledger == tuple(attrs.asdict(step) for step in explained.steps)
    assert from_frame(json.loads(json.dumps(to_frame(end)))) == end
    await host.unbind("p", "b")
    with pytest.raises(WorkerError) as caught:
        await host.submit("p", task("lost")).text()
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.ledger == caught.value.ledger
    assert {"attempt", "end"} <= {step["kind"] for step in again.ledger}


async def test_a_missed_deadline_has_the_ledger_too(host: AdapterHost) -> None:
    """An error that the clock made, and no replica, has the steps up to there."""
    host.bind("p", "a", Engine("a", gate=asyncio.Event()).bound())
    await host.check("p")
    with pytest.raises(WorkerTimeout) as caught:
        await host.submit("p", task(deadline_s=0.05)).text()
    assert caught.value.ledger[-1]["reason"] == "DEADLINE_UNMET"


async def test_without_a_host_there_is_no_ledger() -> None:
    """A job that no host ran says nothing of one, in its frames neither."""
    async with Engine("a").bound() as adapter:
        frames = [frame async for frame in adapter.submit(task()).frames()]
    assert "ledger" not in frames[-1]["metrics"]


def steps_of(host: AdapterHost, kind: str, job_id: str = "job") -> list[tuple[str | None, str]]:
    explained = host.explain(job_id)
    assert explained is not None
    return [(step.replica_id, step.reason) for step in explained.steps if step.kind == kind]


async def test_a_refused_job_names_who_could_not_take_it(host: AdapterHost) -> None:
    """Each replica that was passed over, with the reason, also where none was left."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=1), max_attempts=1))
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    with pytest.raises(WorkerReset):
        await host.submit("p", task("failing"))
    with pytest.raises(EngineUnavailable):
        await host.submit("p", task(deadline_s=1.0))
    assert steps_of(host, "skip") == [("a", "circuit_open")]


@pytest.mark.parametrize(
    ("failure", "most", "reasons"),
    [
        (InvalidRequest(ErrorCode.INVALID_PARAMS, "no"), 3, ["not_retriable"]),
        (RESET, 2, ["granted", "attempts_used_up"]),
        (CapacityExceeded(ErrorCode.ADMISSION_REJECT, "no", None, 60_000), 3, ["no_replica"]),
    ],
)
async def test_the_ledger_says_why_there_was_no_other_attempt(
    host: AdapterHost, failure: WorkerError, most: int, reasons: list[str]
) -> None:
    """After each failure: that another attempt is granted, or why not."""
    host.set_policy("p", PoolPolicy(max_attempts=most))
    host.bind("p", "a", Engine("a", failure=failure).bound())
    with pytest.raises(WorkerError):
        await host.submit("p", task())
    assert [reason for _, reason in steps_of(host, "retry")] == reasons


async def test_a_cancelled_job_has_its_ledger(host: AdapterHost) -> None:
    """The same without a reader at the time of the cancel."""
    host.bind("p", "a", Engine("a", count=100).bound())
    stream = await host.submit("p", task())
    assert await host.cancel("p", "job")
    *_, last = [event async for event in _until_error(stream)]
    assert isinstance(last, Error)
    assert [step["kind"] for step in last.error.ledger][-2:] == ["attempt", "end"]


async def _until_error(stream):
    async for event in stream:
        yield event
        if isinstance(event, Error):
            return


async def test_the_log_names_the_place_where_an_adapter_is_bound(
    host: AdapterHost, caplog: pytest.LogCaptureFixture
) -> None:
    """One record per attempt that failed and per outcome names the host's pool and replica."""
    caplog.set_level(logging.INFO, "worker_adapters.jobs")
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    host.bind("p", "b", Engine("b").bound())
    await host.check("p")
    caplog.clear()
    await host.submit("p", task("whole", session_id=None)).text()
    await host.unbind("p", "b")
    host.set_policy("p", PoolPolicy(max_attempts=1))
    with pytest.raises(WorkerReset):
        await host.submit("p", task("failed"))
    moved, whole, failed = [r for r in caplog.records if hasattr(r, "job_id")][:3]
    assert (moved.human, moved.replica_id) == ("attempt 1 failed with WORKER_RESET", "a")
    assert (whole.human, whole.job_id, whole.pool_id, whole.replica_id) == (
        "the answer is whole",
        "whole",
        "p",
        "b",
    )
    assert (whole.engine, whole.engine_version, whole.attempts) == ("toy", "1", 2)
    assert (whole.tokens_out, whole.levelno) == (3, logging.INFO)
    failed = next(r for r in caplog.records if r.levelno == logging.WARNING)
    assert (failed.human, failed.code) == ("the job failed with WORKER_RESET", "WORKER_RESET")


class Witness:
    """Records the replicas in job notices."""

    def __init__(self) -> None:
        self.places: list[tuple[str | None, str | None]] = []

    @hookimpl
    def adapter_started(self, adapter: AdapterNotice) -> None:
        self.places.append((adapter.pool_id, adapter.replica_id))

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        self.places.append((job.pool_id, job.replica_id))

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        self.places.append((job.pool_id, job.replica_id))


@pytest.mark.parametrize("rebound", [False, True])
async def test_notices_name_the_place_where_an_adapter_is_bound(rebound: bool) -> None:
    """From its start to its jobs' ends, whatever its config and its answers say."""
    witness = Witness()
    adapter = Registry(observers=[witness]).get("mock", replica_id="configured")
    async with AdapterHost() as host:
        if rebound:
            host.bind("chat", "gpu-1", Engine().bound())
            await host.rebind("chat", "gpu-1", adapter)
        else:
            host.bind("chat", "gpu-1", adapter)
        await host.submit("chat", task()).text()
    assert set(witness.places) == {("chat", None), ("chat", "gpu-1")}


class MyEnd(End):
    """An adapter's own kind of End, with another layout."""


@pytest.mark.parametrize("kind", [End, MyEnd])
def test_a_copy_differs_in_what_was_changed_only(kind: type[End]) -> None:
    """The original stays, both are frozen, and a subclass is copied, too."""
    end = kind(Metrics(1), "stop", "finish_reason", refused=True)
    copy = copied(end, metrics=Metrics(2))
    assert type(copy) is kind
    assert attrs.evolve(end, metrics=Metrics(2)) == copy != end
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        copy.refused = False  # type: ignore[misc]


@in_virtual_time
async def test_the_ledger_forgets_ended_jobs_only() -> None:
    """The oldest ended job goes first; a job in flight is kept, however many there are."""
    ledger = Ledger(max_jobs=2)
    running = [ledger.open(f"running {number}", "p", 0.0) for number in range(5)]
    for number in range(3):
        done = ledger.open(f"done {number}", "p", 0.0)
        done.end("ok")
        ledger.close(done)
    assert [ledger.outcome(f"done {number}") for number in range(3)] == [None, "ok", "ok"]
    assert all(ledger.explain(record.job_id) for record in running)
    assert len(ledger) == 7


@in_virtual_time
async def test_a_record_keeps_its_end() -> None:
    """However many steps there are, the end is one of them, and the rest is counted."""
    ledger = Ledger(max_steps=3)
    record = ledger.open("job", "p", asyncio.get_running_loop().time())
    for _ in range(5):
        await asyncio.sleep(1.0)
        record.note("attempt", "WORKER_RESET", "a", took_s=0.5, detail="reset")
    record.end("WORKER_RESET")
    record.end("ok")
    explanation = ledger.explain("job")
    assert explanation is not None
    assert [(step.kind, step.at_ms, step.took_ms) for step in explanation.steps] == [
        ("attempt", 500, 500),
        ("attempt", 1500, 500),
        ("end", 5000, 5000),
    ]
    assert (explanation.outcome, explanation.omitted) == ("WORKER_RESET", 3)
    assert "3 more steps" in str(explanation)
    assert cattrs.structure(cattrs.unstructure(explanation), Explanation) == explanation
