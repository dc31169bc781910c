"""Exceptions of checks become verdicts; only the user ends a run."""

import asyncio
import signal
import threading
from collections.abc import Callable

import pytest

from adapter_api.conformance import Check, Result, Status, Subject, run_check
from adapter_api.conformance.runner import run_in_new_loop


def _judge(run: Callable[[Subject], object]) -> Result:
    check = Check("sample", "Nothing happens.", run, "X")  # type: ignore[arg-type]
    return run_check(check, Subject(lambda: None))  # type: ignore[arg-type, return-value]


def test_a_task_that_refuses_to_end_does_not_hold_up_the_runner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An adapter's task may swallow its cancellation; the kit continues."""
    monkeypatch.setattr("adapter_api.conformance.runner._TIDY_S", 0.05)

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def work() -> str:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        tasks.append(task)
        return "done"

    tasks: list[object] = []
    assert run_in_new_loop(work()) == "done"


def test_an_exception_of_the_adapter_is_a_verdict() -> None:
    """An exception of an adapter's hook fails the check, and the remark names it."""

    async def explode(_: Subject) -> None:
        raise ConnectionResetError("peer")

    result = _judge(explode)
    assert result.status is Status.FAILED
    assert result.remark == "the adapter raised ConnectionResetError: peer"


def test_a_check_without_end_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """No check runs forever."""
    monkeypatch.setattr("adapter_api.conformance.runner.CHECK_LIMIT_S", 0.05)

    async def hang(_: Subject) -> None:
        await asyncio.Event().wait()

    result = _judge(hang)
    assert result.status is Status.FAILED
    assert "was not over" in result.remark


@pytest.mark.parametrize(
    ("exc", "remark"),
    [
        (SystemExit(7), "the adapter raised SystemExit: 7; no hook may end the whole process"),
        (KeyboardInterrupt(), "the adapter raised KeyboardInterrupt; no hook may end"),
        (asyncio.CancelledError(), "raised CancelledError, although nothing had cancelled it"),
        (GeneratorExit("x"), "the adapter raised GeneratorExit: x; no hook may end"),
    ],
)
@pytest.mark.parametrize("beside", [False, True], ids=["itself", "a-task"])
def test_base_exceptions_are_verdicts_too(exc: BaseException, remark: str, beside: bool) -> None:
    """An adapter cannot end the run, from wherever it raises."""

    async def explode(_: Subject) -> None:
        if beside:
            await asyncio.create_task(explode_beside())
        raise exc

    async def explode_beside() -> None:
        raise exc

    result = _judge(explode)
    assert result.status is Status.FAILED
    assert remark in result.remark


def test_what_tidying_up_raises_ends_nothing() -> None:
    """A task that answers its cancellation with SystemExit does not get through."""

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit(7)

    async def work(_: Subject) -> str:
        tasks.append(asyncio.create_task(stubborn()))
        await asyncio.sleep(0)
        return "done"

    tasks: list[object] = []
    assert _judge(work).remark == "done"


def test_the_users_interrupt_ends_the_run() -> None:
    """Ctrl-C is never a verdict; afterwards it acts as before."""

    async def press(_: Subject) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _judge(press)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_users_interrupt_cannot_be_swallowed() -> None:
    """It ends the run even if an adapter converts it to something else."""

    async def swallow(_: Subject) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ConnectionError("peer") from None

    with pytest.raises(KeyboardInterrupt):
        _judge(swallow)


def test_beside_the_main_thread() -> None:
    """Signals do not come there, so every KeyboardInterrupt is the adapter's."""

    async def explode(_: Subject) -> None:
        raise KeyboardInterrupt

    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(_judge(explode)))
    thread.start()
    thread.join()
    assert results[0].status is Status.FAILED
