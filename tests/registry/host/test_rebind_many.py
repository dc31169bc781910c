"""Rebinding many replicas at once."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import attrs
import pytest

from adapter_api import (
    ErrorCode,
    TaskRequest,
    Token,
    WorkerReset,
    hookimpl,
)
from registry import AdapterHost, PoolPolicy
from registry.host import Binding, Candidate, Choice, SwapError, places
from registry.host.breaker import BreakerPolicy
from tests.engines_in_process import LOADING, Engine, task, until

RESET = WorkerReset(ErrorCode.WORKER_RESET, "scripted")


# Many at once


async def test_a_swap_is_one_moment(host: AdapterHost) -> None:
    """No job sees a partial swap, even if one adapter takes long to be ready (AH-1001)."""
    gate = asyncio.Event()

    class Slow(Engine):
        @hookimpl
        async def health(self):
            await gate.wait()
            return await super().health()

    olds = [Engine(name) for name in "abc"]
    for engine in olds:
        host.bind("p", engine.name, engine.bound())
    await host.check("p")
    news = {("p", "a"): Engine("A"), ("p", "b"): Slow("B"), ("q", "d"): Engine("D")}
    bindings = {key: Binding(engine.bound(), limit=7) for key, engine in news.items()}
    policies = {"p": PoolPolicy(max_queue=5)}
    swapping = asyncio.create_task(host.swap(bindings, [("p", "c"), ("p", "gone")], policies))
    await until(lambda: news["p", "a"].checks == 1)
    assert names(host) == {"p": ["toy-a", "toy-b", "toy-c"]}
    gate.set()
    await swapping
    assert names(host) == {"p": ["toy-A", "toy-B"], "q": ["toy-D"]}
    assert [r.state for pool in host.snapshot().pools for r in pool.replicas] == ["ready"] * 3
    await until(lambda: [engine.closed for engine in olds] == [1, 1, 1])


def names(host: AdapterHost) -> dict[str, list[str]]:
    return {pool.pool_id: [r.adapter for r in pool.replicas] for pool in host.snapshot().pools}


async def test_no_waiting_job_is_served_during_a_swap() -> None:
    """A job that waits goes to what the swap brings, never to what a part of it leaves."""
    policy = PoolPolicy(breaker=BreakerPolicy(failures=1), max_attempts=1, ready_wait_s=0.5)
    async with AdapterHost(defaults=policy) as host:
        broken, loading = Engine("a", failure=RESET), Engine("b", status=LOADING)
        host.bind("p", "a", broken.bound())
        with pytest.raises(WorkerReset):
            await host.submit("p", task("failing"))
        host.bind("q", "b", loading.bound())
        await host.check("q")
        jobs = [
            asyncio.create_task(host.submit(pool, task(pool, deadline_s=60.0)).text())
            for pool in "pq"
        ]
        await until(lambda: [p.queued_interactive for p in host.snapshot().pools] == [1, 1])
        await host.swap(
            {("p", "a"): Binding(Engine("A").bound()), ("q", "c"): Binding(Engine("C").bound())},
            [("q", "b")],
            {name: attrs.evolve(policy, max_queue=0) for name in "pq"},
        )
        assert await asyncio.gather(*jobs) == ["A0 A1 A2 ", "C0 C1 C2 "]
        assert len(broken.tasks) == 1


class Watching:
    """A routing policy that records its candidates."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def choose(self, task: TaskRequest, candidates: Sequence[Candidate]) -> Choice:
        """The first."""
        self.seen.append([candidate.replica_id for candidate in candidates])
        return Choice(candidates[0].replica_id, "first")


async def test_those_in_line_choose_among_all_that_a_swap_brings() -> None:
    """Not among the one that happened to be put in place first."""
    routing = Watching()
    async with AdapterHost(defaults=PoolPolicy(routing=routing)) as host:
        for name in "ab":
            host.bind("p", name, Engine(name, gate=asyncio.Event()).bound(), limit=1)
        await host.check("p")
        jobs = [asyncio.create_task(host.submit("p", task(str(n))).text()) for n in range(3)]
        await until(lambda: host.snapshot().pools[0].queued_interactive == 1)
        routing.seen.clear()
        await host.swap({("p", name): Binding(Engine(name).bound()) for name in "ab"})
        assert routing.seen == [["a", "b"]]
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)


async def test_a_swap_that_fails_changes_nothing(host: AdapterHost) -> None:
    """Every failure is in the error, by place; the adapters stay the caller's."""
    host.bind("p", "a", Engine("a").bound())
    bad, good = Engine("A", start_failure=OSError("no")), Engine("B")
    bindings = {("p", "a"): Binding(bad.bound()), ("p", "b"): Binding(good.bound())}
    with pytest.raises(SwapError, match=r"because of p/a \(OSError\)") as caught:
        await host.swap(bindings, policies={"p": PoolPolicy(max_queue=0)})
    assert list(caught.value.failures) == [("p", "a")]
    assert names(host) == {"p": ["toy-a"]}
    assert good.closed == 0


async def test_a_swap_does_not_undo_what_others_did_meanwhile(host: AdapterHost) -> None:
    """A change of a place while a swap is prepared wins over the swap."""
    host.bind("p", "a", Engine("a").bound())
    gate = asyncio.Event()

    class Slow(Engine):
        @hookimpl
        async def start(self):
            await gate.wait()

    swapping = asyncio.create_task(host.swap({("p", "a"): Binding(Slow("A").bound())}))
    await asyncio.sleep(0.01)
    await host.rebind("p", "a", Engine("mine").bound())
    gate.set()
    with pytest.raises(SwapError) as caught:
        await swapping
    assert "another task" in str(caught.value.failures["p", "a"])
    assert names(host) == {"p": ["toy-mine"]}


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_start_may_do_what_it_likes_to_a_swap(
    host: AdapterHost, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """A start that cancels itself or ignores its cancellation is an ordinary failure."""
    monkeypatch.setattr(places, "START_S", 0.05)
    free = asyncio.Event()

    class Odd(Engine):
        @hookimpl
        async def start(self):
            while hangs and not free.is_set():
                with suppress(asyncio.CancelledError):
                    await free.wait()
            raise asyncio.CancelledError

    async with asyncio.timeout(10):
        with pytest.raises(SwapError) as caught:
            await host.swap({("p", "a"): Binding(Odd().bound())})
    said = str(caught.value.failures["p", "a"])
    assert said == ("it takes more than 0.05 s" if hangs else "the call cancelled itself")
    free.set()


async def test_a_cancelled_swap_changes_nothing(host: AdapterHost) -> None:
    """The old adapters continue."""
    host.bind("p", "a", Engine("a").bound())
    bindings = {("p", "a"): Binding(Engine("A", hung=True).bound())}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await host.swap(bindings)
    assert await host.submit("p", task()).text() == "a0 a1 a2 "


async def test_events_already_read_are_not_given_twice(host: AdapterHost) -> None:
    """A stream that is read across a rebind has each index once."""
    old = Engine("a", count=50)
    host.bind("p", "r", old.bound())
    seen = []
    async with host.submit("p", task()) as stream:
        async for event in stream:
            if isinstance(event, Token):
                seen.append(event.index)
                if event.index == 10:
                    await host.rebind("p", "r", Engine("b").bound())
    assert seen == list(range(50))
