"""Limits that other processes cannot use up, and that what hangs cannot escape."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from adapter_api.conformance import fair_timeout
from adapter_api.conformance.fair_timeout import FairTimeout, delayed_s

BURN = """
import time
print("begun", flush=True)
end = time.monotonic() + 20
while time.monotonic() < end: pass
"""


async def test_what_hangs_is_found() -> None:
    """The limit passes while nothing is done."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with FairTimeout(0.1) as limit:
            await asyncio.Event().wait()
    assert time.monotonic() - began >= 0.1
    assert limit.took_s > 0.09


@pytest.mark.parametrize("work", [time.sleep, lambda seconds: _use_processor(seconds)])
async def test_what_blocks_or_works_for_too_long_is_found(work: object) -> None:
    """The loop gets no turn, but neither does another process: it counts."""
    assert callable(work)
    with pytest.raises(TimeoutError):
        async with FairTimeout(0.05) as limit:
            work(0.1)
            await asyncio.sleep(20)
    assert 0.09 < limit.took_s < 10


async def test_what_ends_within_the_limit_goes_on() -> None:
    """Nothing is raised, then or later."""
    async with FairTimeout(1.0) as limit:
        await asyncio.sleep(0)
    took_s = limit.took_s
    await asyncio.sleep(1.1)
    assert limit.took_s == took_s < 1.0


async def test_what_other_processes_take_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the machine for all but a tenth of the time."""
    began = time.monotonic()
    monkeypatch.setattr(fair_timeout, "delayed_s", lambda: 0.9 * (time.monotonic() - began))
    async with FairTimeout(0.3) as limit:
        await asyncio.sleep(0.6)
    assert limit.preempted_s > 0.5
    assert limit.took_s < 0.3
    with pytest.raises(TimeoutError):
        async with FairTimeout(0.03):
            await asyncio.sleep(20)


async def test_cancelling_passes() -> None:
    """The CancelledError of the caller is not turned into anything."""
    task = asyncio.ensure_future(_wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _wait() -> None:
    async with FairTimeout(5):
        await asyncio.Event().wait()


def _use_processor(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def shared_processor() -> Iterator[None]:
    """One processor for this thread and an endless loop."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    with subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield
        other.kill()
    os.sched_setaffinity(0, ours)


@pytest.mark.usefixtures("shared_processor")
def test_the_system_reports_time_of_other_processes() -> None:
    """While it is ready to run; waiting for something else is not meant."""
    before = delayed_s()
    _use_processor(0.1)
    taken_s = delayed_s() - before
    assert taken_s > 0.03 if os.path.isdir("/proc/self/task") else taken_s == 0


def test_a_system_that_does_not_report_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a limit is a limit."""
    monkeypatch.setattr(fair_timeout, "_THREADS", "/nowhere")
    assert delayed_s() == 0.0
