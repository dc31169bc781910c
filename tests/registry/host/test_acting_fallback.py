"""Fallback pools, and overviews of a host."""

import asyncio

import pytest

from adapter_api import (
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthState,
    InvalidRequest,
    TaskRequest,
    WorkerError,
    WorkerReset,
)
from registry.host import AdapterHost, BreakerPolicy, PoolPolicy
from tests.engines_in_process import Engine, bound, states, task, until

INVALID = InvalidRequest(ErrorCode.INVALID_PARAMS, "bad request", status=400)
RESET = WorkerReset(ErrorCode.WORKER_RESET, "reset")


# Fallback


async def test_a_pool_that_cannot_serve_falls_back(host: AdapterHost) -> None:
    """Before the first token, over pools that are missing, with a line in the ledger."""
    host.set_policy("p", PoolPolicy(fallback=("nowhere", "spare"), ready_wait_s=0.0))
    host.bind("spare", "s", Engine("s").bound())
    await host.check("spare")
    assert await host.submit("p", task()).text() == "s0 s1 s2 "
    kinds = [(step.kind, step.reason) for step in host.explain("job").steps]  # type: ignore[union-attr]
    assert kinds.count(("fallback", "POOL_UNAVAILABLE")) == 2
    host.bind("p", "a", Engine("a", failure=RESET).bound())
    await host.check("p")
    assert await host.submit("p", task("2", max_attempts=1)).text() == "s0 s1 s2 "
    broken = Engine("b", failure=RESET, fail_after=1)
    await host.rebind("p", "a", broken.bound())
    with pytest.raises(WorkerReset):
        await host.submit("p", task("3")).text()
    await host.rebind("p", "a", Engine("a", failure=INVALID).bound())
    with pytest.raises(InvalidRequest):
        await host.submit("p", task("4")).text()


async def test_a_fallback_that_cannot_be_used_is_named(host: AdapterHost) -> None:
    """Pools can be made later, so a missing one is no error before a job needs it."""
    host.set_policy("p", PoolPolicy(fallback=("nowhere", "spare"), max_attempts=1))
    host.bind("spare", "s", Engine("s").bound())
    assert await host.drain("spare")
    await bound(host, Engine("a", failure=RESET))
    with pytest.raises(WorkerReset) as caught:
        await host.submit("p", task())
    assert str(caught.value).endswith(
        "; no fallback: there is no pool 'nowhere'; pools: p, spare; pool 'spare' is draining"
    )


async def test_a_pool_is_never_its_own_fallback(host: AdapterHost) -> None:
    """Defaults of all pools may name one of them: its jobs fail as they would without."""
    host.set_policy("p", PoolPolicy(fallback=("p",), max_attempts=1))
    engine = Engine("a", failure=RESET)
    await bound(host, engine)
    with pytest.raises(WorkerReset):
        await host.submit("p", task()).text()
    assert "fallback" not in [step.kind for step in host.explain("job").steps]  # type: ignore[union-attr]


async def test_without_a_working_fallback_the_first_failure_is_reported(host: AdapterHost) -> None:
    """The last pool's refusal hides nothing."""
    host.set_policy("p", PoolPolicy(fallback=("spare",), max_attempts=1))
    host.set_policy("spare", PoolPolicy(ready_wait_s=0.0))
    await bound(host, Engine("a", failure=RESET))
    with pytest.raises(WorkerReset):
        await host.submit("p", task())


# Overviews


async def test_overviews_never_wait_and_show_breakers() -> None:
    """health and props return the known facts, also about an engine that hangs."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1), max_attempts=1)
    async with AdapterHost(defaults=policy) as host:
        hung = Engine("a", hung=True)
        host.bind("p", "a", hung.bound())
        host.bind("p", "b", Engine("b", failure=RESET).bound())
        await until(lambda: states(host)["b"] == "ready")
        loop = asyncio.get_running_loop()
        before = loop.time()
        health, props = await host.health("p"), await host.props("p")
        assert loop.time() - before < 0.1
        assert health.replicas["a"].message == "not checked yet"
        assert props["a"] == EngineProps()
        with pytest.raises(WorkerReset):
            await host.submit("p", task())
        health = await host.health("p")
        assert (health.state, health.ready) == (HealthState.UNHEALTHY, False)
        assert health.breakers["b"] == "open"
        assert "breaker of b is open" in health.message


async def test_a_pool_is_an_adapter(host: AdapterHost) -> None:
    """submit, cancel, health, props and version of a pool; closing it leaves the host alone."""
    engine = Engine("a", slots=2, count=100)
    await bound(host, engine, Engine("b", slots=3, count=100))
    pool = host.pool("p")
    await pool.start()
    assert (await pool.health()).ready
    props = await pool.props()
    assert (props.engine, props.slots_total) == ("toy", 5)
    assert await pool.engine_version() == "1"
    stream = await pool.submit(task())
    assert stream.job_id == "job"
    assert await pool.cancel("job")
    assert not await pool.cancel("job")
    engine.gate = asyncio.Event()
    await host.unbind("p", "b")
    running = asyncio.create_task(pool.submit(task("running")).text())
    await until(lambda: engine.streams == 1)
    await pool.aclose()
    with pytest.raises(WorkerError, match="closed before its end"):
        await running
    engine.gate = None
    assert await host.submit("p", task("on", max_tokens=2)).text() == "a0 a1 "
    assert not (await host.pool("nowhere").health()).live


async def test_a_host_in_another_loop_says_so(host: AdapterHost) -> None:
    """It does not fail somewhere within."""
    await bound(host, Engine("a"))

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(host.submit("p", TaskRequest(prompt="x")).text())

    async def submit() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            host.submit("p", TaskRequest(prompt="x"))

    await asyncio.to_thread(asyncio.run, submit())


def test_a_host_outside_of_an_event_loop_says_where_it_belongs() -> None:
    """bind at the top of a script is an error that names `async def` and the blocking host."""
    with pytest.raises(RuntimeError, match=r"inside one `async def`, or use registry\.sync\.host"):
        AdapterHost().bind("p", "r", Engine("a"))


async def test_a_task_in_the_place_of_the_pool() -> None:
    """The arguments the wrong way round are a TypeError about the task."""
    async with AdapterHost() as host:
        with pytest.raises(TypeError, match="submit takes a task.*of type str$"):
            host.submit(TaskRequest(prompt="Hello"), "p")  # type: ignore[arg-type]


async def test_an_unknown_pool_is_refused_with_the_known_ones() -> None:
    """A misspelt pool is an error that lists the pools; without any it says what to do."""
    async with AdapterHost() as host:
        with pytest.raises(EngineUnavailable, match="no pool 'caht'; pools: none; bind a replica"):
            await host.submit("caht", TaskRequest(prompt="Hello")).text()
        host.bind("chat", "r", Engine("a"))
        with pytest.raises(EngineUnavailable, match="there is no pool 'caht'; pools: chat$"):
            await host.submit("caht", TaskRequest(prompt="Hello")).text()
