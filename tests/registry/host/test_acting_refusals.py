"""The host acts on refusals: a job moves on, and a replica is no black hole."""

import asyncio

import pytest

from adapter_api import (
    AuthenticationFailed,
    CapacityExceeded,
    ErrorCode,
    InvalidRequest,
    NotFound,
    StreamingError,
    WorkerError,
    WorkerReset,
)
from registry.host import AdapterHost, BreakerPolicy, PoolPolicy
from tests.engines_in_process import Engine, answered_by, bound, task, until

NO_KEY = AuthenticationFailed(ErrorCode.UPSTREAM_AUTH, "invalid key", status=401)
NO_MODEL = NotFound(ErrorCode.UPSTREAM_NOT_FOUND, "no model m", status=404)
NO_QUOTA = CapacityExceeded(ErrorCode.QUOTA_EXHAUSTED, "no credit left", status=402)
NOT_HERE = InvalidRequest(ErrorCode.INVALID_PARAMS, "method not allowed", status=405)
MOVED = StreamingError(ErrorCode.UPSTREAM_PROTOCOL, "it points elsewhere", status=308)
INVALID = InvalidRequest(ErrorCode.INVALID_PARAMS, "bad request", status=400)
RESET = WorkerReset(ErrorCode.WORKER_RESET, "reset")


# Refusals


@pytest.mark.parametrize("failure", [NO_KEY, NO_MODEL, NO_QUOTA, NOT_HERE, MOVED])
async def test_a_replica_that_keeps_refusing_is_not_a_black_hole(
    host: AdapterHost, failure: WorkerError
) -> None:
    """The job moves on once, the replica's health is checked, and two in a row rest it."""
    bad = Engine("a", failure=failure)
    await bound(host, bad, Engine("b"))
    checks = bad.checks
    assert await answered_by(host, 20) == {"b": 20}
    assert len(bad.tasks) == 2
    await until(lambda: bad.checks > checks)
    (replica, _) = host.snapshot().pools[0].replicas
    assert (replica.failures, replica.breaker) == (0, "closed")
    assert replica.rests_s > 0


async def test_a_defect_of_one_adapter_loses_no_job(host: AdapterHost) -> None:
    """A job that failed with INTERNAL before its answer moves on, once; the replica is not
    counted_against,
    since another task may be what its adapter cannot handle."""
    broken = WorkerError.of(ErrorCode.INTERNAL, "the adapter failed with ValueError")
    bad = Engine("a", failure=broken)
    await bound(host, bad, Engine("b"))
    assert await answered_by(host, 6) == {"b": 6}
    replica = host.snapshot().pools[0].replicas[0]
    assert (replica.failures, replica.rests_s, replica.breaker) == (0, 0, "closed")
    bad.fail_after = 1
    with pytest.raises(WorkerError, match="INTERNAL"):
        await answered_by(host, 2)


async def test_a_replica_with_unreadable_answers_is_not_a_black_hole(host: AdapterHost) -> None:
    """A sign-in page instead of an answer: the job moves on once, the breaker counts it."""
    page = StreamingError(ErrorCode.UPSTREAM_PROTOCOL, "HTML", status=200, retriable=False)
    bad = Engine("a", failure=page)
    await bound(host, bad, Engine("b"))
    assert await answered_by(host, 12) == {"b": 12}
    assert len(bad.tasks) == 5
    assert host.snapshot().pools[0].replicas[0].breaker == "open"
    both = Engine("b", failure=page)
    await host.rebind("p", "a", Engine("a", failure=page).bound())
    await host.rebind("p", "b", both.bound())
    with pytest.raises(StreamingError):
        await host.submit("p", task("x"))
    assert len(host.attempted_replicas("x")) == 2


async def test_a_job_that_moved_on_gets_the_refusal_when_the_other_replica_goes(
    host: AdapterHost,
) -> None:
    """It waits for the only replica that is left to it; that one is unbound, and closes."""
    bad, other = Engine("a", failure=NO_KEY), Engine("b", gate=asyncio.Event())
    host.bind("p", "a", bad.bound())
    host.bind("p", "b", other.bound(), limit=1)
    await host.check("p")
    busy = asyncio.create_task(host.submit("p", task("0")).text())
    await until(lambda: len(bad.tasks) + len(other.tasks) == 2)
    waiting = asyncio.create_task(host.submit("p", task("1")).text())
    await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
    await host.unbind("p", "b")
    with pytest.raises(AuthenticationFailed):
        await waiting
    assert other.gate is not None
    other.gate.set()
    assert await busy == "b0 b1 b2 "
    await until(lambda: other.closed == 1)


async def test_without_another_replica_a_refusal_is_reported_at_once(host: AdapterHost) -> None:
    """The only replica does not rest: no job waits to hear that the key is wrong."""
    bad = Engine("a", failure=NO_KEY)
    await bound(host, bad)
    for number in range(6):
        with pytest.raises(AuthenticationFailed):
            await host.submit("p", task(str(number)))
    assert host.snapshot().pools[0].replicas[0].rests_s == 0
    assert len(bad.tasks) == 6


async def test_a_refusal_moves_a_job_only_once(host: AdapterHost) -> None:
    """A key that is wrong everywhere is two requests, not one for each replica."""
    engines = [Engine(name, failure=NO_KEY) for name in "abcd"]
    await bound(host, *engines)
    with pytest.raises(AuthenticationFailed):
        await host.submit("p", task())
    assert sum(len(engine.tasks) for engine in engines) == 2
    await host.unbind("p", "b")
    with pytest.raises(InvalidRequest):
        await bound(host, Engine("e", failure=INVALID))
        await host.drain("p", "a", timeout_s=0)
        await host.drain("p", "c", timeout_s=0)
        await host.drain("p", "d", timeout_s=0)
        await host.submit("p", task())


@pytest.mark.parametrize(
    "failure",
    [
        INVALID,
        WorkerReset(ErrorCode.WORKER_RESET, "image input is not supported", status=500),
        WorkerReset(ErrorCode.WORKER_RESET, "tensor of shape 3 expected", status=500),
        WorkerReset(ErrorCode.WORKER_RESET, "jinja: roles must alternate", status=500),
    ],
)
async def test_one_users_bad_requests_close_no_replica(
    host: AdapterHost, failure: WorkerError
) -> None:
    """Neither a 400, nor a 500 that refuses, nor the same words from two replicas count."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=2), retry_floor_per_s=100.0))
    engines = [Engine(name, failure=failure) for name in "ab"]
    await bound(host, *engines)
    for number in range(10):
        with pytest.raises(type(failure)):
            await host.submit("p", task(str(number)))
    assert [r.breaker for r in host.snapshot().pools[0].replicas] == ["closed"] * 2
    for engine in engines:
        engine.failure = None
    assert (await answered_by(host, 4)).total() == 4


async def test_a_job_counts_once_against_a_replica(host: AdapterHost) -> None:
    """Three attempts of one job at the only replica are one failure for its breaker."""
    host.set_policy("p", PoolPolicy(breaker=BreakerPolicy(failures=2)))
    await bound(host, Engine("a", failure=RESET))
    with pytest.raises(WorkerReset):
        await host.submit("p", task())
    assert host.snapshot().pools[0].replicas[0].breaker == "closed"
    with pytest.raises(WorkerReset):
        await host.submit("p", task())
    assert host.snapshot().pools[0].replicas[0].breaker == "open"
