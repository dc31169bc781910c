"""One timer of a loop rings for the limits of all its jobs."""

import asyncio
import gc
from contextvars import ContextVar
from typing import Any
from weakref import ref

import pytest

from adapter_api.alarms import MIN_CHECKED, Alarms, cancel_alarm, set_alarm
from registry.simulate.virtual import VirtualLoop
from tests.virtual_time import in_virtual_time, now_s


class _Bell:
    """Notes when it rings."""

    def __init__(self) -> None:
        self.rang: list[float] = []

    def ring(self) -> None:
        self.rang.append(now_s())


@in_virtual_time
async def test_alarms_ring_in_order_and_in_time() -> None:
    bells = [_Bell() for _ in range(4)]
    began = now_s()
    for bell, after in zip(bells, (3.0, 1.0, 2.0, 1.0), strict=True):
        set_alarm(began + after, bell)
    await asyncio.sleep(5)
    assert [[at - began for at in bell.rang] for bell in bells] == [
        [pytest.approx(after)] for after in (3.0, 1.0, 2.0, 1.0)
    ]


@in_virtual_time
async def test_an_alarm_rings_in_the_context_in_which_it_was_set() -> None:
    """A log record of a limit has what the application noted for the job."""
    said: ContextVar[str] = ContextVar("said", default="nothing")
    heard: list[str] = []

    class Listening:
        def ring(self) -> None:
            heard.append(said.get())

    for word in ("one", "two"):
        said.set(word)
        set_alarm(now_s() + 1, Listening())
    said.set("three")
    await asyncio.sleep(2)
    assert heard == ["one", "two"]


@in_virtual_time
async def test_a_cancelled_alarm_does_not_ring() -> None:
    first, second = _Bell(), _Bell()
    alarm = set_alarm(now_s() + 1, first)
    cancel_alarm(alarm)
    assert first not in alarm
    set_alarm(now_s() + 1, second)
    await asyncio.sleep(2)
    assert (first.rang, len(second.rang)) == ([], 1)


@in_virtual_time
async def test_a_ringing_owner_may_set_alarms_and_fail() -> None:
    """What one owner raises is reported, and the others ring."""

    class Failing:
        def ring(self) -> None:
            set_alarm(now_s(), last)
            raise ValueError("late() failed")

    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    bell, last = _Bell(), _Bell()
    due = now_s() + 1
    set_alarm(due, Failing())
    set_alarm(due, bell)
    await asyncio.sleep(1)
    await asyncio.sleep(0.001)
    assert (len(bell.rang), len(last.rang)) == (1, 1)
    assert [str(report["exception"]) for report in reports] == ["late() failed"]


@in_virtual_time
async def test_cancelled_alarms_are_dropped_long_before_they_are_due() -> None:
    """A million jobs whose limits are minutes away leave no million entries behind."""
    alarms, bell = Alarms(asyncio.get_running_loop()), _Bell()
    kept = [alarms.add(now_s() + 600, bell) for _ in range(10)]
    for _ in range(100 * MIN_CHECKED):
        cancel_alarm(alarms.add(now_s() + 300, bell))
    assert len(alarms._heap) <= 2 * MIN_CHECKED
    await asyncio.sleep(700)
    assert len(bell.rang) == len(kept)
    assert alarms._heap == []


def test_each_loop_has_alarms_of_its_own() -> None:
    """Loops in turn in one thread: each rings its own, whatever the other one did."""
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    rang: list[asyncio.AbstractEventLoop] = []

    class Noting:
        def ring(self) -> None:
            rang.append(asyncio.get_running_loop())

    async def wait(after_s: float) -> None:
        set_alarm(asyncio.get_running_loop().time() + 0.01, Noting())
        await asyncio.sleep(after_s)

    try:
        for loop in (first, second, first):
            loop.run_until_complete(wait(0.0))
        for loop in (second, first):
            loop.run_until_complete(wait(0.05))
    finally:
        first.close()
        second.close()
    assert rang == [second, second, first, first, first]


async def _rings_after_an_interrupt(bell: _Bell) -> None:
    """Set an alarm that the user interrupts, and one that is due later."""

    class Interrupted:
        def ring(self) -> None:
            raise KeyboardInterrupt

    set_alarm(now_s() + 1, Interrupted())
    set_alarm(now_s() + 2, bell)
    await asyncio.sleep(5)


def test_an_interrupt_while_one_rings_does_not_silence_the_others() -> None:
    """Ctrl-C propagates; a program that goes on has its limits still."""
    loop, bell = VirtualLoop(), _Bell()
    task = loop.create_task(_rings_after_an_interrupt(bell))
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        loop.run_until_complete(task)
    finally:
        loop.close()
    assert len(bell.rang) == 1


def test_a_closed_loop_is_not_kept_for_its_alarms() -> None:
    """Nor are the jobs whose limits would have passed in it."""

    async def wait() -> tuple[Any, Any]:
        bell = _Bell()
        set_alarm(now_s() + 60, bell)
        return ref(asyncio.get_running_loop()), ref(bell)

    gone = asyncio.run(wait())
    gc.collect()
    assert [one() for one in gone] == [None, None]
