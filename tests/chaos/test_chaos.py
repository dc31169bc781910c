"""Everything goes wrong at once, for a while, and no job is lost."""

import asyncio
import gc
import os
import random
import resource
import sys
from collections import Counter

import attrs
import pytest

import registry
from adapter_api import (
    AttemptNotice,
    End,
    Error,
    Started,
    TaskRequest,
    Token,
    WorkerError,
    hookimpl,
)
from registry import AdapterHost, BoundAdapter, PoolPolicy
from registry.host.breaker import BreakerPolicy
from registry.host.policy import WINDOW_S
from tests.chaos.flaky import MOODS, FlakyServer
from tests.virtual_time import now_s

CHAOS_S = float(os.environ.get("CHAOS_S", "12"))
JOBS_AT_ONCE = 200
REPLICAS = 8
TOKENS = 20
DEADLINE_S = 8.0
GRACE_S = 0.5
"""How much later than its deadline a job may be seen to end."""

POLICY = PoolPolicy(
    max_queue=500,
    max_in_flight=60,
    probe_interval_s=0.3,
    probe_timeout_s=1.0,
    breaker=BreakerPolicy(failures=5, window_s=5.0, open_s=0.5, max_open_s=4.0),
)


@attrs.define
class Tally:
    """The outcomes of the jobs."""

    ends: Counter[str] = attrs.field(factory=Counter)
    attempts: Counter[int] = attrs.field(factory=Counter)
    wrong: list[str] = attrs.field(factory=list)
    latest_s: float = 0.0
    tokens: int = 0


@attrs.define(eq=False)
class FreeAttempts:
    """Counts attempts that cost the engine nothing: the retry budget does not pay for them."""

    count: int = 0

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        busy = attempt.code == "ADMISSION_REJECT"
        cut_off = attempt.code in ("POOL_UNAVAILABLE", "WORKER_RESET") and attempt.status is None
        self.count += busy or cut_off


def adapter_for(server: FlakyServer) -> BoundAdapter:
    return registry.get(
        "openai-http",
        base_url=server.base_url,
        model="m",
        connect_timeout_s=1.0,
        first_token_timeout_s=1.5,
        stall_timeout_s=1.5,
    )


async def run_job(host: AdapterHost, task: TaskRequest, tally: Tally) -> None:
    """Read one job to its end, checking what comes."""
    began_at, texts, started = now_s(), [], 0
    outcome = "nothing"
    try:
        async with host.submit("p", task) as stream:
            async for event in stream:
                match event:
                    case Started():
                        started += 1
                    case Token(text=text, index=index):
                        if index != len(texts):
                            tally.wrong.append(f"{task.job_id}: index {index} at {len(texts)}")
                        texts.append(text)
                    case End(metrics=metrics):
                        outcome = "End"
                        tally.attempts[metrics.attempts] += 1
                    case Error(error=error):
                        outcome = f"Error {error.code}"
                        break
    except WorkerError as error:
        outcome = f"raised {error.code}"
    tally.ends[outcome] += 1
    tally.tokens += len(texts)
    tally.latest_s = max(tally.latest_s, now_s() - began_at)
    whole = [f"{index} " for index in range(TOKENS)]
    if texts != whole[: len(texts)] or (outcome == "End" and texts != whole) or started > 1:
        tally.wrong.append(f"{task.job_id}: {outcome} after {texts}")
    if outcome == "nothing":
        tally.wrong.append(f"{task.job_id}: no last word")


async def keep_asking(host: AdapterHost, name: int, until: float, tally: Tally) -> None:
    number = 0
    while now_s() < until:
        number += 1
        task = TaskRequest(
            prompt="x",
            job_id=f"{name}-{number}",
            session_id=f"s{name}" if name % 2 else None,
            max_tokens=TOKENS,
            deadline_s=DEADLINE_S,
        )
        await run_job(host, task, tally)
        await asyncio.sleep(0.05)


async def make_trouble(
    host: AdapterHost, servers: list[FlakyServer], rng: random.Random, until: float
) -> Counter[str]:
    """One misfortune after another, each of one replica."""
    done: Counter[str] = Counter()
    while now_s() < until:
        await asyncio.sleep(rng.uniform(0.05, 0.3))
        place = rng.randrange(REPLICAS)
        server = servers[place]
        match rng.choice(["mood", "mood", "mood", "restart", "move", "rebind", "unbind"]):
            case "mood":
                server.mood = rng.choice(MOODS)
                done[server.mood] += 1
            case "restart":
                done["restart"] += 1
                await server.kill()
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                server.mood = "well"
                await server.start()
            case "move":
                done["move"] += 1
                servers[place] = FlakyServer(rng)
                await servers[place].start()
                servers[place].jobs = server.jobs
                await host.rebind("p", f"r{place}", adapter_for(servers[place]))
                await server.kill()
            case "rebind":
                done["rebind"] += 1
                await host.rebind("p", f"r{place}", adapter_for(server))
            case "unbind":
                done["unbind"] += 1
                await host.unbind("p", f"r{place}")
                await asyncio.sleep(rng.uniform(0.0, 0.2))
                host.bind("p", f"r{place}", adapter_for(server))
    return done


def ours() -> Counter[str]:
    """The live objects of our packages, but for definitions and what modules keep."""
    gc.collect()
    rooms = ("adapter_api.", "adapters.", "registry.")
    return Counter(
        type(thing).__qualname__
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith(rooms)
    )


@pytest.mark.timeout(CHAOS_S + 100)
@pytest.mark.exhaustive
async def test_no_job_is_lost_in_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    """8 replicas on real sockets and in virtual time are killed, hung, slowed, broken, restarted,
    moved and rebound under 200 concurrent jobs: every job ends whole or with a typed error in its
    time, no token is repeated or lost, retries stay within the budget, and nothing is left
    (AH-1001, ORCH-3602)."""
    seed = int(os.environ.get("CHAOS_SEED", "7"))
    rng = random.Random(seed)
    servers = [FlakyServer(rng) for _ in range(REPLICAS)]
    for server in servers:
        await server.start()
    before, tasks_before = ours(), asyncio.all_tasks()
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally = Tally()
    began_at = now_s()
    until = began_at + CHAOS_S
    free = FreeAttempts()
    async with AdapterHost(defaults=POLICY, observers=[free]) as host:
        for place, server in enumerate(servers):
            host.bind("p", f"r{place}", adapter_for(server))
        askers = [keep_asking(host, name, until, tally) for name in range(JOBS_AT_ONCE)]
        trouble, *_ = await asyncio.gather(make_trouble(host, servers, rng, until), *askers)
        took_s = now_s() - began_at
        (pool,) = host.snapshot().pools
    for server in servers:
        await server.kill()
    await asyncio.sleep(0.1)
    jobs = sum(tally.ends.values())
    sent = sum(server.jobs for server in servers)
    with capsys.disabled():
        memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before) / (
            1 << 10 if sys.platform == "linux" else 1 << 20
        )
        print(
            f"\nchaos: seed {seed}, {took_s:.1f} s, {jobs} jobs, {tally.tokens} tokens, "
            f"latest end {tally.latest_s:.1f} s\n"
            f"  ends: {dict(tally.ends.most_common())}\n"
            f"  attempts of whole answers: {dict(sorted(tally.attempts.items()))}\n"
            f"  retries: {pool.retries} ({pool.retries / jobs:.1%}), {free.count} attempts free; "
            f"requests: {sent}\n"
            f"  trouble: {dict(trouble.most_common())}; most memory: +{memory_mb:.0f} MB"
        )
    assert tally.wrong == []
    assert jobs == pool.jobs
    assert tally.latest_s < DEADLINE_S + GRACE_S
    assert tally.ends["End"] > jobs / 3
    allowed = POLICY.retry_ratio * jobs + POLICY.retry_floor_per_s * (took_s + WINDOW_S)
    assert pool.retries <= allowed + free.count
    assert sent <= jobs + allowed + free.count
    assert pool.queued_interactive == 0
    assert [replica.in_flight for replica in pool.replicas] == [0] * len(pool.replicas)
    assert asyncio.all_tasks() == tasks_before
    del host, pool, askers, trouble
    gc.collect()
    await asyncio.sleep(0.1)  # the loop closes the async generators that were collected
    left = ours() - before
    gone = ("TokenStream", "Job", "Lease", "Replica", "Members", "Pool", "Resolver")
    assert not {name for name in left if name in gone}, left
    assert left.total() < 120, left
