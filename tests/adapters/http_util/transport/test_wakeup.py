"""A Wakeup is a future to the task that awaits it, and lets it continue at once."""

import asyncio
from contextvars import ContextVar

import pytest

from adapters.http_util.transport.wakeup import Wakeup


async def _wait(wakeup: Wakeup, said: list[str]) -> None:
    await wakeup
    said.append("woken")


async def _waiting(wakeup: Wakeup, said: list[str]) -> "asyncio.Task[None]":
    task = asyncio.create_task(_wait(wakeup, said))
    await asyncio.sleep(0)
    return task


async def test_the_task_goes_on_before_wake_returns() -> None:
    """From a callback of the loop, no turn of the loop lies between."""
    loop, said = asyncio.get_running_loop(), []
    wakeup = Wakeup(loop)
    task = await _waiting(wakeup, said)

    def callback() -> None:
        wakeup.wake()
        said.append("returned")

    loop.call_soon(callback)
    await task
    assert said == ["woken", "returned"]


async def test_within_a_task_the_other_waits_for_its_turn() -> None:
    """asyncio runs one task at a time: `wake` never runs one inside of another."""
    wakeup, said = Wakeup(asyncio.get_running_loop()), []
    task = await _waiting(wakeup, said)
    wakeup.wake()
    assert said == []
    await task
    assert said == ["woken"]


async def test_it_is_awaited_again_and_again() -> None:
    """One object serves all waits of a connection."""
    loop, said = asyncio.get_running_loop(), []
    wakeup = Wakeup(loop)
    for count in range(1, 4):
        task = await _waiting(wakeup, said)
        loop.call_soon(wakeup.wake)
        await task
        assert len(said) == count


async def test_without_a_waiting_task_nothing_happens() -> None:
    """A wake without a waiting task is not remembered."""
    wakeup, said = Wakeup(asyncio.get_running_loop()), []
    wakeup.wake()
    task = await _waiting(wakeup, said)
    assert said == []
    asyncio.get_running_loop().call_soon(wakeup.wake)
    await task


async def test_cancelling_the_task_ends_its_wait() -> None:
    """As with a future, its message included; a later wait is a new one."""
    wakeup, said = Wakeup(asyncio.get_running_loop()), []
    task = await _waiting(wakeup, said)
    assert task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("enough",)
    assert said == []
    task = await _waiting(wakeup, said)
    asyncio.get_running_loop().call_soon(wakeup.wake)
    await task
    assert said == ["woken"]


@pytest.mark.parametrize("first", ["wake", "cancel"])
async def test_wake_and_cancel_in_one_turn(first: str) -> None:
    """A cancellation is never lost, whichever came first."""
    wakeup, said = Wakeup(asyncio.get_running_loop()), []
    task = await _waiting(wakeup, said)
    if first == "wake":
        wakeup.wake()
        task.cancel()
    else:
        task.cancel()
        wakeup.wake()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == []


async def test_the_task_keeps_its_context() -> None:
    """Context variables are those of the task, not of what woke it."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    wakeup = Wakeup(asyncio.get_running_loop())
    seen = []

    async def wait() -> None:
        variable.set("the task's")
        await wakeup
        seen.append(variable.get())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(wakeup.wake)
    await task
    assert seen == ["the task's"]
    assert variable.get() == "unset"


async def test_a_timeout_ends_its_wait() -> None:
    """asyncio.timeout works on it."""
    wakeup = Wakeup(asyncio.get_running_loop())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await wakeup


async def test_what_the_task_raises_stays_in_the_task() -> None:
    """It does not come out of `wake`."""
    loop = asyncio.get_running_loop()
    wakeup = Wakeup(loop)

    async def fails() -> None:
        await wakeup
        raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    loop.call_soon(wakeup.wake)
    with pytest.raises(ValueError):
        await task


async def test_a_task_may_wait_again_while_it_is_woken() -> None:
    """The reader takes a piece and waits for the next, all inside of one `wake`."""
    loop, said = asyncio.get_running_loop(), []
    wakeup = Wakeup(loop)

    async def read() -> None:
        for _ in range(3):
            await wakeup
            said.append("piece")

    task = asyncio.create_task(read())
    await asyncio.sleep(0)

    def bring() -> None:
        for _ in range(3):
            wakeup.wake()

    loop.call_soon(bring)
    await task
    assert said == ["piece"] * 3
