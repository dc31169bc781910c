"""The host acts on what it knows: models, refusals, busy answers, readiness, speed, priorities."""

import asyncio
import logging

import pytest

from adapter_api import (
    EngineProps,
    ErrorCode,
    HealthState,
    HealthStatus,
    NotFound,
    Started,
    hookimpl,
)
from registry.host import AdapterHost, LeastLoaded, LoadedModel, PoolPolicy
from tests.engines_in_process import Engine, answered_by, bound, task, until
from tests.virtual_time import in_virtual_time

NO_MODEL = NotFound(ErrorCode.UPSTREAM_NOT_FOUND, "no model m", status=404)


class Serving(Engine):
    """An engine that lists models, and answers as one."""

    models: tuple[str, ...] = ()
    says: str | None = None

    @hookimpl
    async def props(self) -> EngineProps:
        return EngineProps("toy", self.version, slots_total=self.slots, models=self.models)

    @hookimpl
    async def submit(self, task):  # type: ignore[no-untyped-def]
        async for event in super().submit(task):
            if isinstance(event, Started):
                yield Started(event.job_id, event.engine, event.engine_version, self.says)
            else:
                yield event


def serving(name: str, *models: str, says: str | None = None, **fields: object) -> Serving:
    engine = Serving(name, **fields)  # type: ignore[arg-type]
    engine.models, engine.says = models, says
    return engine


# Models


async def test_a_job_goes_to_a_replica_that_lists_its_model(host: AdapterHost) -> None:
    """Others only get it if none lists it, and the ledger says why they were passed over."""
    await bound(host, serving("a", "other"), serving("b", "m"), serving("c"))
    assert await answered_by(host, 6, model="m") == {"b": 6}
    assert "other_model" in str(host.explain("0"))
    assert set(await answered_by(host, 24, model="unlisted")) == {"a", "b", "c"}


@in_virtual_time
async def test_models_are_read_again_while_a_replica_is_ready() -> None:
    """At once where its own model is missing, else each minute: servers change what they load."""
    async with AdapterHost(defaults=PoolPolicy(probe_interval_s=10.0)) as host:
        engine = serving("a", "m")
        await bound(host, engine)
        engine.models = ("n",)
        await asyncio.sleep(40.0)
        assert host.models() == {"p": ("m",)}
        await asyncio.sleep(40.0)
        assert host.models() == {"p": ("n",)}
        engine.models = ("o",)
        engine.status = HealthStatus(HealthState.DEGRADED, "not listed", model_listed=False)
        await asyncio.sleep(12.0)
        assert host.models() == {"p": ("o",)}


async def test_the_tag_of_the_latest_model_may_be_left_out(host: AdapterHost) -> None:
    """A task for "m" goes where "m:latest" is listed."""
    await bound(host, serving("a", "m:8b"), serving("b", "m:latest"))
    assert await answered_by(host, 6, model="m") == {"b": 6}
    assert await answered_by(host, 6, model="m:8b") == {"a": 6}


async def test_models_are_listed_again_after_a_refusal(host: AdapterHost) -> None:
    """A replica that no longer has a model stops being a candidate for it, without a restart."""
    losing = serving("a", "m", failure=NO_MODEL)
    await bound(host, losing, serving("b", "m"))
    losing.models = ("other",)
    assert await answered_by(host, 2, model="m") == {"b": 2}
    await until(lambda: "other" in host.models()["p"])
    losing.failure = None
    assert await answered_by(host, 6, model="m") == {"b": 6}
    assert await answered_by(host, 1, model="other") == {"a": 1}


async def test_a_replica_that_lacks_its_own_model_is_passed_over(host: AdapterHost) -> None:
    """A health check that missed the configured model keeps jobs without a model away."""
    lacking = HealthStatus(HealthState.DEGRADED, "model not listed", model_listed=False)
    await bound(host, Engine("a", status=lacking), Engine("b"))
    assert await answered_by(host, 6) == {"b": 6}
    await host.unbind("p", "b")
    assert await answered_by(host, 2) == {"a": 2}


async def test_an_alias_becomes_the_replicas_own_name(host: AdapterHost) -> None:
    """Tasks name the alias; each engine gets its own name for the model."""
    first, second = Engine("a"), Engine("b")
    host.bind("p", "a", first.bound(), model="org/m-awq", aliases=["m"])
    host.bind("p", "b", second.bound(), model="m.gguf", aliases=["m"])
    await host.check("p")
    await answered_by(host, 4, model="m")
    assert {asked.model for asked in first.tasks} == {"org/m-awq"}
    assert {asked.model for asked in second.tasks} == {"m.gguf"}
    assert host.models() == {"p": ("m", "m.gguf", "org/m-awq")}
    await host.submit("p", task("own", model="m.gguf")).text()
    assert second.tasks[-1].model == "m.gguf"


async def test_an_answer_of_another_model_is_reported(
    host: AdapterHost, caplog: pytest.LogCaptureFixture
) -> None:
    """In the ledger of each job, and once in the log; a dated name is the same model."""
    caplog.set_level(logging.WARNING, "worker_adapters.host")
    await bound(host, serving("a", "m", says="quite-another"))
    await answered_by(host, 3, model="m")
    assert "other_model" in str(host.explain("2"))
    warnings = [r for r in caplog.records if "answers with another model" in r.getMessage()]
    assert len(warnings) == 1
    await host.rebind("p", "a", serving("a", "m", says="M-2024-08-06.gguf").bound())
    await answered_by(host, 1, model="m")
    assert "other_model" not in str(host.explain("0"))


async def test_a_job_goes_where_its_model_is_loaded(host: AdapterHost) -> None:
    """Two models on two engines that hold one each: two loads for forty jobs."""
    host.set_policy("p", PoolPolicy(routing=LoadedModel()))
    engines = [serving("a", "m", "n"), serving("b", "m", "n")]
    await bound(host, *engines)
    for number in range(40):
        await host.submit("p", task(str(number), model="mn"[number % 2])).text()
    asked = [{sent.model for sent in engine.tasks} for engine in engines]
    assert sorted(map(sorted, asked)) == [["m"], ["n"]]


# Choice


async def test_weight_and_priority_of_replicas_count(host: AdapterHost) -> None:
    """A spare gets work only when the others have no room; weights share the load."""
    host.set_policy("p", PoolPolicy(routing=LeastLoaded()))
    gate = asyncio.Event()
    heavy, light, spare = (Engine(name, gate=gate) for name in "abc")
    host.bind("p", "a", heavy.bound(), weight=3.0, limit=6)
    host.bind("p", "b", light.bound(), limit=2)
    host.bind("p", "c", spare.bound(), priority=1)
    await host.check("p")
    jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(8)]
    await until(lambda: heavy.streams + light.streams + spare.streams == 8)
    assert (heavy.streams, light.streams, spare.streams) == (6, 2, 0)
    jobs += [asyncio.create_task(host.submit("p", task(f"more {n}")).text()) for n in range(2)]
    await until(lambda: spare.streams == 2)
    gate.set()
    await asyncio.gather(*jobs)


@in_virtual_time
async def test_a_slow_replica_gets_little_at_low_load() -> None:
    """One after another, jobs go to the quick ones, equally; the slow one is tried seldom."""

    class Timed(Engine):
        first_s = 0.05

        @hookimpl
        async def submit(self, task):  # type: ignore[no-untyped-def]
            await asyncio.sleep(self.first_s)
            async for event in super().submit(task):
                yield event

    async with AdapterHost() as host:
        engines = [Timed(name) for name in "abc"]
        engines[0].first_s = 1.0
        await bound(host, *engines)
        counts = await answered_by(host, 41)
        assert counts["a"] == 1
        assert abs(counts["b"] - counts["c"]) <= 1
