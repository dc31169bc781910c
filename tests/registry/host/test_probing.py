"""Health checks in the background, and what else teaches the host how its replicas are."""

import asyncio

import attrs
import pytest

from adapter_api import (
    BreakerNotice,
    Cancelled,
    EngineProps,
    EngineUnavailable,
    ErrorCode,
    HealthStatus,
    ReplicaNotice,
    WorkerReset,
    hookimpl,
)
from registry import AdapterHost, PoolPolicy
from registry.host.breaker import BreakerPolicy
from registry.host.probing import MAX_AT_ONCE
from tests.engines_in_process import BUSY, DOWN, LOADING, READY, Engine, states, task, until


@attrs.define(eq=False)
class Witness:
    """An observer that remembers."""

    replicas: list[ReplicaNotice] = attrs.field(factory=list)
    breakers: list[BreakerNotice] = attrs.field(factory=list)

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        self.replicas.append(change)

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        self.breakers.append(change)


QUICK = PoolPolicy(probe_interval_s=0.02, probe_timeout_s=0.2)


async def test_checks_go_on_in_the_background(host: AdapterHost) -> None:
    """loading, busy, down and ready are distinguished, as the engine changes (ORCH-3057)."""
    host.set_policy("p", QUICK)
    engine = Engine()
    host.bind("p", "a", engine.bound())
    for status, state in [(READY, "ready"), (BUSY, "busy"), (LOADING, "loading"), (DOWN, "down")]:
        engine.status = status
        await until(lambda state=state: states(host) == {"a": state})


class Rude(Engine):
    """An engine one of whose hooks leaves the program."""

    hook = ""
    leaves_by: type[BaseException] = SystemExit

    def _leave(self, hook: str) -> None:
        if hook == self.hook:
            raise self.leaves_by

    @hookimpl
    async def start(self) -> None:
        self._leave("start")

    @hookimpl
    async def health(self) -> HealthStatus:
        self._leave("health")
        return READY

    @hookimpl
    async def props(self) -> EngineProps:
        self._leave("props")
        return EngineProps("toy", "1")

    @hookimpl
    async def cancel(self, job_id: str) -> bool:
        self._leave("cancel")
        return True

    @hookimpl
    async def aclose(self) -> None:
        self._leave("aclose")


@pytest.mark.parametrize("leaves_by", [SystemExit, GeneratorExit])
@pytest.mark.parametrize("hook", ["start", "health", "props", "cancel", "aclose"])
async def test_an_adapter_that_leaves_the_program_harms_no_other(
    hook: str, leaves_by: type[BaseException]
) -> None:
    """`sys.exit()` in any hook is that replica's failure: the host and its siblings continue."""
    rude, well = Rude("a", gate=asyncio.Event()), Engine("b")
    rude.hook, rude.leaves_by = hook, leaves_by
    async with AdapterHost(defaults=QUICK) as host:
        host.bind("p", "a", rude.bound())
        host.bind("q", "b", well.bound())
        await host.check("p")
        if hook in ("start", "health"):
            assert states(host)["a"] == "down"
        else:
            stream = host.submit("p", task("1"))
            reading = asyncio.create_task(stream.text())
            await until(lambda: rude.streams == 1)
            assert await host.cancel("p", "1")
            with pytest.raises(Cancelled):
                await reading
        assert await host.submit("q", task("2")).text() == "b0 b1 b2 "
    assert well.closed == 1


async def test_a_change_is_reported_once() -> None:
    """Observers hear of each change of a replica, and not of checks that found nothing new."""
    witness, engine = Witness(), Engine()
    async with AdapterHost(defaults=QUICK, observers=[witness]) as host:
        host.bind("p", "a", engine.bound())
        await until(lambda: engine.checks > 3)
        engine.status = LOADING
        await until(lambda: states(host) == {"a": "loading"})
        checks = engine.checks
        await until(lambda: engine.checks > checks + 2)
        await host.drain("p", "a")
        await host.unbind("p", "a")
    changes = [(change.before, change.after) for change in witness.replicas]
    assert changes == [
        (None, "unknown"),
        ("unknown", "ready"),
        ("ready", "loading"),
        ("loading", "draining"),
        ("draining", None),
    ]
    assert witness.replicas[2] == ReplicaNotice("p", "a", "ready", "loading", "loading")


async def test_a_breaker_is_reported_once() -> None:
    """Each transition of a breaker reaches observers, with its reason and its next probe."""
    witness, engine = Witness(), Engine(failure=WorkerReset(ErrorCode.WORKER_RESET, "x"))
    policy = PoolPolicy(breaker=BreakerPolicy(failures=2, open_s=0.05), max_attempts=1)
    async with AdapterHost(defaults=policy, observers=[witness]) as host:
        host.bind("p", "a", engine.bound())
        for number in range(2):
            with pytest.raises(WorkerReset):
                await host.submit("p", task(str(number)))
        engine.failure = None
        await host.submit("p", task()).text()
    assert [(change.before, change.after) for change in witness.breakers] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert [change.reason for change in witness.breakers] == ["WORKER_RESET", "probe", "answered"]
    assert 0 < witness.breakers[0].retry_in_ms <= 50


async def test_a_failing_observer_affects_nothing(host: AdapterHost) -> None:
    """The host continues, and so do its jobs."""

    class Bad:
        @hookimpl
        def replica_changed(self, change: ReplicaNotice) -> None:
            raise OSError

    async with AdapterHost(observers=[Bad()]) as host:
        host.bind("p", "a", Engine().bound())
        assert await host.submit("p", task()).text() == "a0 a1 a2 "


async def test_a_hung_check_is_bounded_and_delays_no_other(host: AdapterHost) -> None:
    """However many checks hang, the others are made, and the hung ones count as down."""
    host.set_policy("p", QUICK)
    hung = [Engine(str(number), hung=True) for number in range(2 * MAX_AT_ONCE)]
    for engine in hung:
        host.bind("p", engine.name, engine.bound())
    host.bind("p", "well", Engine("well").bound())
    await until(lambda: states(host)["well"] == "ready", 5.0)
    await until(lambda: set(states(host).values()) == {"ready", "down"})
    assert "took more than 0.2 s" in host.snapshot().pools[0].replicas[0].message
    assert (await host.submit("p", task()).text()).startswith("well0")


async def test_a_check_that_raises_is_a_replica_that_is_down(host: AdapterHost) -> None:
    """A failing start keeps a replica down until it succeeds."""
    engine = Engine(start_failure=OSError("no"))
    host.bind("p", "a", engine.bound())
    await until(lambda: states(host) == {"a": "down"})
    engine.start_failure = None
    await until(lambda: states(host) == {"a": "ready"})


async def test_a_failing_job_has_the_replica_checked_at_once() -> None:
    """Facts from live traffic apply before the next interval."""
    engine = Engine("a")
    async with AdapterHost(defaults=PoolPolicy(probe_interval_s=60.0)) as host:
        host.bind("p", "a", engine.bound())
        host.bind("p", "b", Engine("b").bound())
        await host.check("p")
        engine.failure = EngineUnavailable(ErrorCode.POOL_UNAVAILABLE, "cannot connect")
        engine.status = DOWN
        assert (await host.submit("p", task()).text()).startswith("b0")
        await until(lambda: states(host) == {"a": "down", "b": "ready"})


async def test_answers_outweigh_a_check_that_fails(host: AdapterHost) -> None:
    """A replica that gives tokens while its health check hangs is busy, not down."""
    host.set_policy("p", QUICK)
    engine = Engine()
    host.bind("p", "a", engine.bound())
    await host.submit("p", task()).text()
    engine.hung = True
    checks = engine.checks
    await until(lambda: engine.checks > checks)
    await host.submit("p", task()).text()
    await until(lambda: states(host) != {"a": "ready"})
    assert states(host) == {"a": "busy"}


async def test_properties_are_queried_again_when_an_engine_comes_back(host: AdapterHost) -> None:
    """An engine that was down may come back as another version with other slots (ORCH-3603)."""
    host.set_policy("p", QUICK)
    engine = Engine(slots=2)
    host.bind("p", "a", engine.bound())
    await until(lambda: states(host) == {"a": "ready"})
    engine.status, engine.slots, engine.version = DOWN, 8, "2"
    await until(lambda: states(host) == {"a": "down"})
    engine.status = READY
    await until(lambda: states(host) == {"a": "ready"})
    (replica,) = host.snapshot().pools[0].replicas
    assert (replica.limit, replica.engine_version) == (8, "2")
    assert (await host.props("p"))["a"].slots_total == 8


async def test_no_check_outlives_the_host() -> None:
    """aclose, rebind and unbind end the checks of what they take away."""
    before = asyncio.all_tasks()
    host = AdapterHost(defaults=QUICK)
    gone, replaced, hung = Engine("a"), Engine("b"), Engine("c", hung=True)
    for engine in (gone, replaced, hung):
        host.bind("p", engine.name, engine.bound())
    await until(lambda: gone.checks and replaced.checks and hung.checks)
    await host.unbind("p", "a")
    await host.rebind("p", "b", Engine("d").bound())
    checks = gone.checks + replaced.checks
    await asyncio.sleep(0.1)
    assert gone.checks + replaced.checks == checks
    await host.aclose()
    assert asyncio.all_tasks() == before
