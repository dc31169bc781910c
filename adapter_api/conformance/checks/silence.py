"""Checks of an adapter whose engine falls silent: its own limits end the job.

The limits may be long. So the job runs in an event loop whose clock the kit moves forward.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.damaged import Baseline, baseline
from adapter_api.conformance.checks.errors import contradiction_in, crash
from adapter_api.conformance.checks.faults import LIE
from adapter_api.conformance.fair_timeout import FairTimeout
from adapter_api.conformance.jobs import Adapter
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import Violation
from adapter_api.errors import WorkerError
from adapter_api.faults import proxy
from adapter_api.task import TaskRequest

WARP_AFTER_S = 1.0
"""How long a job may wait in silence until the kit moves the clock of its event loop. The config's
timeouts are set to less than half of it."""

WARP_S = 3600.0
"""How far the clock is moved: longer than any limit on waiting for an engine."""

WARPS = 12
"""How often the clock is moved: once for each attempt of the adapter."""

AFTER_WARP_S = 0.3
"""How long a job may take to notice, in addition to the duration of a whole job."""

_CLOSE_S = 1.0


@check("HTU-ERR-4002", needs=("proxied",))
async def proxy_silence(subject: Subject) -> str:
    """The adapter itself limits how long it waits for its engine, before and within an answer."""
    base = await baseline(subject)
    found = await asyncio.gather(
        *(
            asyncio.to_thread(_in_warped_time, partial(_silent, subject, base, after))
            for after in (-1, 0, base.middle)
        )
    )
    wrong = [said for said in found if said]
    if wrong:
        raise Violation("; ".join(wrong))
    return "before the head, before the first piece, in the middle"


class _WarpedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def _in_warped_time(work: Callable[[], Any]) -> str:
    with asyncio.Runner(loop_factory=_WarpedLoop) as runner:
        result: str = runner.run(work())
        return result


async def _silent(subject: Subject, base: Baseline, after: int) -> str:
    """Return what is wrong about a job whose engine falls silent; "" if nothing."""
    network = subject.net
    damage = proxy.stall(after)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _WarpedLoop)
    with network.lab.proxied(network.engine_url, damage, base.path) as front:
        adapter = network.at(front.base_url).make()
        reading = asyncio.ensure_future(_end_of(adapter, base.job()))
        over = await _ends(reading, WARP_AFTER_S)
        for _ in range(WARPS):
            if over:
                break
            loop.ahead_s += WARP_S
            over = await _ends(reading, AFTER_WARP_S + base.outcome.took_s)
        if over:
            said = reading.result()
        else:
            reading.cancel()
            await _ends(reading, AFTER_WARP_S)
            said = "no limit ended the job: give the connect and every read a timeout"
        await _ends(asyncio.ensure_future(adapter.aclose()), _CLOSE_S)
    return f"{damage.name}: {said}" if said else ""


async def _ends(work: "asyncio.Future[Any]", limit_s: float) -> bool:
    """Return whether some work ends within `limit_s` seconds, not counting other processes."""
    try:
        async with FairTimeout(limit_s):
            await asyncio.wait([work])
    except TimeoutError:
        return False
    return True


async def _end_of(adapter: Adapter, job: TaskRequest) -> str:
    """Run a job to its end. Return what is wrong about it; "" if nothing."""
    try:
        async with adapter.submit(job) as stream:
            async for event in stream:
                error = getattr(event, "error", None)
                if error is not None:
                    return crash(error) or contradiction_in(error)
    except WorkerError as error:
        return crash(error) or contradiction_in(error)
    return LIE


SILENCE: tuple[Check, ...] = (proxy_silence,)
