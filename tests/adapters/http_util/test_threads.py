"""Threads of our own for calls that may hang."""

import asyncio
import sys
from collections.abc import Callable
from contextvars import ContextVar
from threading import Event, current_thread

import pytest

from adapters.http_util import DaemonThreads
from adapters.http_util.threads import _forget_all


async def test_results_errors_and_context_pass() -> None:
    """A call is like asyncio.to_thread's, in a daemon thread with a name."""
    threads = DaemonThreads(2, "example")
    variable = ContextVar("variable", default=0)
    variable.set(7)
    assert await threads.call(lambda a: (a, variable.get()), 1) == (1, 7)
    thread = await threads.call(current_thread)
    assert thread.daemon
    assert thread.name == "example"
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 // 0)


@pytest.mark.parametrize("leave", [sys.exit, lambda: next(iter(()))], ids=["exit", "stop"])
async def test_what_a_future_cannot_hold_is_an_error(leave: Callable[[], None]) -> None:
    """SystemExit and StopIteration of a foreign function neither hang the wait nor end anything."""
    with pytest.raises(RuntimeError, match="the function raised (SystemExit|StopIteration)"):
        await asyncio.wait_for(DaemonThreads(1, "example").call(leave), 5)


async def test_calls_beyond_the_bound_wait_in_order() -> None:
    """A cancelled call that has not begun never begins."""
    threads, gate, begun = DaemonThreads(2, "example"), Event(), []

    def work(number: int) -> int:
        begun.append(number)
        gate.wait(5)
        return number

    calls = [asyncio.create_task(threads.call(work, number)) for number in range(5)]
    while len(begun) < 2:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert sorted(begun) == [0, 1]
    calls[2].cancel()
    await asyncio.sleep(0)
    gate.set()
    assert [await call for call in calls if call is not calls[2]] == [0, 1, 3, 4]
    assert 2 not in begun


async def test_a_cancelled_wait_ends_at_once() -> None:
    """The function continues alone, and its thread serves the next call."""
    threads, gate = DaemonThreads(1, "example"), Event()
    call = asyncio.create_task(threads.call(gate.wait, 5))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.set()
    assert await threads.call(lambda: "next") == "next"


async def test_a_child_process_begins_without_the_threads_of_its_parent() -> None:
    """Calls that ran or waited in the parent do not block the child."""
    threads, gate = DaemonThreads(1, "example"), Event()
    call = asyncio.create_task(threads.call(gate.wait, 5))
    await asyncio.sleep(0.01)
    _forget_all()  # as after a fork
    assert await asyncio.wait_for(threads.call(lambda: "next"), 5) == "next"
    gate.set()
    assert await call
