"""Cancelling at every await point leaves nothing behind (WA-INT-3002, ORCH-3026, AH-1004).

A job is let go for k steps of the event loop and then cancelled, for every k from before the
connect to after the end, in several ways, over plain TCP, over TLS, by a name that is looked up, in
the backoff of a retry, and while it queues for a connection. A step is one callback: many of them
run in one turn of the loop.
"""

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from adapter_api import TaskRequest, WorkerError
from adapter_api.faults import Request, ScriptServer, Wire
from adapters.http_util import StreamTransport
from adapters.openai_http import OpenAIHttpAdapter
from tests.adapters.openai_http.cancelling import WAYS, Job, Place, Steps, at, slow_answer
from tests.openai_chunks import piece
from tests.silent_port import silent_port


async def busy_then_whole(request: Request, wire: Wire) -> None:
    """Every second request is refused as busy."""
    if request.connection.requests % 2:
        await wire.reply({"error": "busy"}, 503)
    else:
        await slow_answer(request, wire)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The callbacks of this test's loop."""
    return Steps(monkeypatch)


# With room for one connection, each that is lost stops everything.
PLACES: dict[str, Callable[[], Any]] = {
    "plain": lambda: at(slow_answer, max_connections=1),
    "tls": lambda: at(slow_answer, max_connections=1, tls=True),
    "name": lambda: at(slow_answer, max_connections=1, host="localhost"),
    "retry": lambda: at(busy_then_whole, max_connections=1),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "used"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place_name", PLACES)
async def test_cancel_after_every_step(
    place_name: str, way: str, fresh: bool, steps: Steps
) -> None:
    """Every callback from the first to the end, on a fresh connection and on a used one."""
    phases: set[str] = set()
    async with PLACES[place_name]() as place:
        for count in range(1000):
            if fresh:
                await place.close_idle()
            job = Job(place)
            steps.after(count, lambda job=job: job.cancel(way))  # type: ignore[misc]
            await asyncio.wait([job.task], timeout=2)
            steps.stop()
            await job.done()
            await place.nothing_is_left()
            phases.add(job.phase)
            if job.phase in ("", "ended"):
                break
    assert phases >= {"begun", "asked", "tokens", "ended"}
    assert count >= 30


@pytest.mark.parametrize(
    ("stride", "pauses"), [(9, 3), pytest.param(2, 6, marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("place_name", ["plain", "tls"])
async def test_cancelling_again_while_it_cleans_up(
    place_name: str, stride: int, pauses: int, steps: Steps
) -> None:
    """Impatience leaks nothing: the task is cancelled a second time while it ends."""
    async with PLACES[place_name]() as place:
        for count in range(0, 60, stride):
            for pause in range(pauses):
                await place.close_idle()
                job = Job(place)

                def twice(job: Job = job, pause: int = pause) -> None:
                    job.cancel("task")
                    steps.after(pause, job.task.cancel)

                steps.after(count, twice)
                await asyncio.wait([job.task], timeout=2)
                steps.stop()
                await job.done()
                async with asyncio.timeout(1):  # the closing continues by itself
                    while place.in_use:
                        await asyncio.sleep(0)
                await place.nothing_is_left()


@pytest.mark.parametrize("rounds", [10, pytest.param(60, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("way", WAYS)
async def test_cancel_while_queued_for_a_connection(way: str, rounds: int) -> None:
    """With one connection for many jobs, cancelling some never costs the others their turn."""
    rng = random.Random(5)
    async with at(slow_answer, max_connections=1) as place:
        place.others = 1
        for _ in range(rounds):
            jobs = [Job(place) for _ in range(6)]
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)
            doomed = rng.sample(jobs, 3)
            for job in doomed:
                job.cancel(way)
            async with asyncio.timeout(3):
                for job in jobs:
                    await job.done()
            assert all(job.ended for job in jobs if job not in doomed)
            await place.nothing_is_left()


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_cancel_at_random_moments_of_many_jobs(tls: bool, rounds: int) -> None:
    """Many jobs, a random way and moment each, twenty at a time for ten connections."""
    rng = random.Random(11)
    async with at(slow_answer, tls=tls, max_connections=10) as place:
        place.others = 10

        async def one() -> None:
            job = Job(place)
            await asyncio.sleep(rng.uniform(0, 0.02 if tls else 0.01))
            job.cancel(rng.choice(WAYS))
            await job.done()

        for _ in range(rounds):
            await asyncio.gather(*(one() for _ in range(20)))
            assert place.transport.open_connections <= 10
            assert place.in_use == 0
        await place.nothing_is_left()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("accepts", [True, False], ids=["mute", "full"])
async def test_cancel_while_the_server_is_silent(scheme: str, accepts: bool) -> None:
    """A connect, a handshake or an answer that never comes is given up at once; no socket stays."""
    context = ssl.create_default_context()
    transport = StreamTransport(ssl_context=lambda: context, max_connections=20)
    with silent_port(accepts=accepts) as port:
        async with (
            ScriptServer(slow_answer) as unused,
            OpenAIHttpAdapter(f"{scheme}://127.0.0.1:{port}", transport=transport) as adapter,
        ):
            place = Place(unused, adapter, transport)
            place.others = 20
            for way in WAYS:
                jobs = [Job(place) for _ in range(25)]  # more than there is room for
                await asyncio.sleep(0.02)
                for job in jobs:
                    job.cancel(way)
                for job in jobs:
                    await job.done()
                assert transport.open_connections == 0
            # httpx's own pool is left without slots by this.
            with pytest.raises(WorkerError, match="deadline"):
                await adapter.submit(TaskRequest(prompt="x", deadline_s=0.1)).text()
            assert transport.open_connections == 0


async def test_a_server_that_never_stops_sending_is_cut_off() -> None:
    """After cancel() returns the connection is closed, however eager the server."""

    async def endless(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.event(piece("x" * 500))
            await asyncio.sleep(0)

    async with at(endless) as place:
        for way in WAYS:
            job = Job(place)
            while len(job.events) < 5:
                await asyncio.sleep(0)
            job.cancel(way)
            await job.done()
            assert place.transport.open_connections == 0
            await asyncio.wait_for(place.server.connections[-1].gone.wait(), 1)


async def test_cancelling_what_ended_or_never_was_is_false() -> None:
    """ORCH-3026: unknown ids, and jobs whose answer is whole; both may be cancelled in peace."""
    async with at(slow_answer) as place:
        assert not await place.adapter.cancel("no such job")
        job = Job(place)
        await job.done()
        assert job.ended
        assert not await place.adapter.cancel(job.stream.job_id)
        assert not await job.stream.cancel()
        assert place.transport.idle_connections == 1
