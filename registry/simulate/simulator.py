"""A pool in virtual time: tries policies on a trace, quickly and the same every time.

The host is the real one, on a loop whose time passes only when there is nothing to do. Only the
engines are simulated: adapters that sleep. Two runs with one seed give the same report. Two
policies with one seed get the same jobs with the same service times.
"""

import asyncio
import math
import random
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import attrs

from adapter_api.errors import ErrorCode, InternalError, WorkerError
from adapter_api.events import End, Metrics, Started, Token, TokenEvent
from adapter_api.health import EngineProps, HealthState, HealthStatus
from adapter_api.hookspecs import hookimpl
from adapter_api.notices import BreakerNotice
from adapter_api.task import TaskRequest
from registry.adapter import BoundAdapter
from registry.host.host import AdapterHost
from registry.host.policy import PoolPolicy
from registry.simulate.trace import Arrival, Outage, Report, SimulatedReplica, Transition, quantile
from registry.simulate.virtual import VirtualLoop

POOL = "simulated"

CACHED = 0.25
"""The fraction of the first-token time that remains if the prompt's beginning is cached."""

HEALTHY = HealthStatus(HealthState.HEALTHY)
DOWN = HealthStatus(HealthState.UNHEALTHY, "connection refused", live=False, ready=False)


def simulate(
    trace: Sequence[Arrival],
    replicas: Sequence[SimulatedReplica],
    policy: PoolPolicy | None = None,
    *,
    hosts: int = 1,
    first_token_timeout_s: float = 30.0,
    seed: int = 0,
) -> Report:
    """Run a trace through a pool.

    Args:
        trace: The jobs, in the order of their arrival.
        replicas: The engines; all are ready at the beginning.
        policy: The pool's limits; the host's defaults if None.
        hosts: The number of hosts that share the engines. Jobs go to them in turn. The hosts do
            not know of each other; limits and checks are those of each host.
        first_token_timeout_s: The limit of the adapters.
        seed: The same seed gives the same report.

    Raises:
        ValueError: If two replicas have one name, or there is none, or no host.
        InternalError: If the routing policy fails; its exception is the cause.
        RuntimeError: In a running event loop.
    """
    names = {replica.replica_id for replica in replicas}
    if not names or len(names) < len(replicas):
        raise ValueError("give replicas, each with a name of its own")
    if hosts < 1:
        raise ValueError(f"hosts must be at least 1, got {hosts}")
    simulation = _Simulation(seed, first_token_timeout_s)
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(0.0)) as runner:
        return runner.run(simulation.run(trace, replicas, policy or PoolPolicy(), hosts))


@attrs.define(eq=False)
class _Simulation:
    """The shared state of the simulated engines, and the counts."""

    seed: int
    timeout_s: float
    outcomes: Counter[str] = attrs.field(factory=Counter)
    load: Counter[str] = attrs.field(factory=Counter)
    tries: dict[str, int] = attrs.field(factory=dict)  # attempts of jobs under way
    came_at: dict[str, float] = attrs.field(factory=dict)  # when they came
    waited: list[float] = attrs.field(factory=list)
    first: list[float] = attrs.field(factory=list)
    transitions: list[Transition] = attrs.field(factory=list)
    swaps: int = 0
    cache_hits: int = 0
    refused: int = 0
    ended_s: float = 0.0
    defect: WorkerError | None = None

    async def run(
        self,
        trace: Sequence[Arrival],
        replicas: Sequence[SimulatedReplica],
        policy: PoolPolicy,
        count: int,
    ) -> Report:
        """Bind the engines to each host, send the jobs, and report."""
        engines = [_Engine(spec, self) for spec in replicas]
        async with AsyncExitStack() as stack:
            hosts = [
                await stack.enter_async_context(self._host(policy, engines, number))
                for number in range(count)
            ]
            await asyncio.gather(*(host.check(POOL) for host in hosts))
            running: set[asyncio.Task[None]] = set()
            for number, arrival in enumerate(trace):
                await asyncio.sleep(max(0.0, arrival.at_s - _now()))
                if self.defect is not None:
                    break
                job = asyncio.create_task(self._job(hosts[number % count], str(number), arrival))
                running.add(job)
                job.add_done_callback(running.discard)
            if running:
                await asyncio.wait(running)
            retries = sum(host.snapshot().pools[0].retries for host in hosts)
        if self.defect is not None:
            raise self.defect
        return Report(
            jobs=self.outcomes.total(),
            outcomes=dict(self.outcomes),
            attempts=self.load.total(),
            retries=retries,
            waited_s=(quantile(self.waited, 0.5), quantile(self.waited, 0.99)),
            first_token_s=(quantile(self.first, 0.5), quantile(self.first, 0.99)),
            first_token_p95_s=quantile(self.first, 0.95),
            refused=self.refused,
            transitions=tuple(self.transitions),
            load=dict(sorted(self.load.items())),
            ended_s=round(self.ended_s, 6),
            swaps=self.swaps,
            cache_hits=self.cache_hits,
        )

    def _host(self, policy: PoolPolicy, engines: Sequence["_Engine"], number: int) -> AdapterHost:
        """Return a host of its own over the engines."""
        rng = random.Random(self.seed + number)
        host = AdapterHost(defaults=policy, observers=[self], rng=rng)
        for engine in engines:
            spec = engine.spec
            host.bind(
                POOL,
                spec.replica_id,
                BoundAdapter(engine, name=POOL),
                limit=spec.limit,
                weight=spec.weight,
                priority=spec.priority,
            )
        return host

    async def _job(self, host: AdapterHost, job_id: str, arrival: Arrival) -> None:
        task = TaskRequest(
            prompt=arrival.prompt,
            model=arrival.model,
            job_id=job_id,
            session_id=arrival.session_id,
            deadline_s=arrival.deadline_s,
        )
        outcome = "ok"
        self.came_at[job_id] = arrival.at_s
        try:
            async with host.submit(POOL, task, priority=arrival.priority) as stream:
                async for event in stream:
                    if isinstance(event, Token):
                        self.first.append(_now() - arrival.at_s)
        except WorkerError as error:
            outcome = str(error.code)
            if isinstance(error, InternalError):
                self.defect = error  # the routing policy is what is being tried
        self.tries.pop(job_id, None)
        del self.came_at[job_id]
        self.outcomes[outcome] += 1
        self.ended_s = _now()

    def note_attempt(self, replica_id: str, task: TaskRequest) -> int:
        """Count an attempt; returns how many the job had before."""
        self.load[replica_id] += 1
        earlier = self.tries.get(task.job_id, 0)
        self.tries[task.job_id] = earlier + 1
        if not earlier:
            self.waited.append(_now() - self.came_at[task.job_id])
        return earlier

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """Note a change of a breaker."""
        self.transitions.append(
            Transition(round(_now(), 6), change.replica_id, change.before, change.after)
        )


@attrs.define(eq=False)
class _Engine:
    """An adapter whose engine is data: it sleeps, answers with one token, or fails."""

    spec: SimulatedReplica
    simulation: _Simulation
    model: str | None = None  # the one that is loaded
    streams: int = 0
    cache: OrderedDict[str, None] = attrs.field(factory=OrderedDict)

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        """Answer according to the current outage."""
        spec = self.spec
        earlier = self.simulation.note_attempt(spec.replica_id, task)
        outage = spec.outage(_now())
        kind = "none" if outage is None else outage.kind
        if kind == "refuse":
            raise _failure(ErrorCode.POOL_UNAVAILABLE)
        if kind == "busy" or (spec.slots is not None and self.streams >= spec.slots):
            self.simulation.refused += 1
            raise _failure(ErrorCode.ADMISSION_REJECT)
        self.streams += 1
        try:
            async for event in self._answer(task, earlier, outage):
                yield event
        finally:
            self.streams -= 1

    async def _answer(
        self, task: TaskRequest, earlier: int, outage: Outage | None
    ) -> AsyncIterator[TokenEvent]:
        spec, timeout_s = self.spec, self.simulation.timeout_s
        kind = "none" if outage is None else outage.kind
        if kind == "hang":
            await asyncio.sleep(timeout_s)
            raise _failure(ErrorCode.POOL_UNAVAILABLE)
        factor = outage.factor if outage is not None and kind == "slow" else 1.0
        first_s, decode_s = self._times(task, earlier, factor)
        dies_at = min(
            (o.from_s for o in spec.outages if o.kind == "refuse" and o.from_s > _now()),
            default=math.inf,
        )
        await self._sleep(min(first_s, timeout_s), dies_at, ErrorCode.WORKER_RESET)
        if first_s > timeout_s:
            raise _failure(ErrorCode.POOL_UNAVAILABLE)
        yield Started(task.job_id, "simulated", "1")
        yield Token("x", 0)
        cut_at = dies_at if kind != "cut" else _now() + decode_s / 2
        await self._sleep(decode_s, cut_at, ErrorCode.STREAM_TRUNCATED)
        yield End(Metrics(1), "stop", "finish_reason")

    def _times(self, task: TaskRequest, earlier: int, factor: float) -> tuple[float, float]:
        """Return the times to the first token and from there to the end."""
        spec, simulation = self.spec, self.simulation
        # Of the job and the attempt only, so that another policy meets the same times.
        rng = random.Random((simulation.seed * 1_000_003 + int(task.job_id)) * 97 + earlier)
        first_s = spec.first_token_s * rng.lognormvariate(0, spec.spread) * factor
        decode_s = spec.decode_s * rng.lognormvariate(0, spec.spread) * factor
        if task.prompt and spec.cached_prompts:
            if task.prompt in self.cache:
                simulation.cache_hits += 1
                first_s *= CACHED
            self.cache[task.prompt] = None
            self.cache.move_to_end(task.prompt)
            if len(self.cache) > spec.cached_prompts:
                self.cache.popitem(last=False)
        if task.model is not None and task.model != self.model:
            simulation.swaps += 1
            first_s += spec.swap_s
            self.model = task.model
        return first_s, decode_s

    async def _sleep(self, for_s: float, dies_at: float, code: ErrorCode) -> None:
        """Work for a while, or until the engine dies."""
        left_s = dies_at - _now()
        await asyncio.sleep(min(for_s, left_s))
        if left_s < for_s:
            raise _failure(code)

    @hookimpl
    async def health(self) -> HealthStatus:
        """Return the health that a server could report at this moment."""
        outage = self.spec.outage(_now())
        if outage is not None and outage.kind == "refuse":
            return DOWN
        if outage is not None and outage.kind == "hang":
            await asyncio.Event().wait()
        return HEALTHY

    @hookimpl
    async def props(self) -> EngineProps:
        """List the models."""
        return EngineProps("simulated", "1", models=self.spec.models)


def _failure(code: ErrorCode) -> WorkerError:
    return WorkerError.of(code, "simulated")


def _now() -> float:
    return asyncio.get_running_loop().time()
