"""Runs checks, each in an event loop of its own, and turns what they raise into results."""

import asyncio
import signal
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping
from time import monotonic
from types import FrameType
from typing import Any, Self

from adapter_api.conformance.check import Absent, Check, Violation
from adapter_api.conformance.patience import Patience
from adapter_api.conformance.report import Result, Status
from adapter_api.conformance.subject import Subject

CHECK_LIMIT_S = 120.0
"""No check runs for longer, however slow the engine."""

_TIDY_S = 1.0
"""How long tasks that a check left behind get to end."""

_MOST_RAISED = 100
"""How many of them may raise SystemExit meanwhile."""


def judge(check: Check, subject: Subject) -> Result:
    """Run one check on a subject, outside of any event loop.

    Warnings are recorded rather than shown: the check `leaks` reports those that matter.

    Raises:
        KeyboardInterrupt: Of the user's.
    """
    reason = subject.absent.get(check.capability or "")
    if reason is not None:
        return Result.of(check, Status.ABSENT, reason)
    began = monotonic()

    def result(status: Status, remark: str) -> Result:
        return Result.of(check, status, remark, round((monotonic() - began) * 1000))

    with warnings.catch_warnings(record=True), _Interrupts() as interrupts:
        warnings.simplefilter("always")
        try:
            remark = run_in_new_loop(_examine(check, subject))
        except Absent as absent:
            return result(Status.ABSENT, str(absent))
        except Violation as violation:
            return result(Status.FAILED, str(violation))
        except BaseException as exc:
            # Of the adapter's hooks; the kit's own code raises nothing but the two above.
            return result(Status.FAILED, _raised(exc))
        finally:
            if interrupts.pressed:
                raise KeyboardInterrupt
    return result(Status.PASSED, remark or "")


class _Interrupts:
    """Notes, while entered, that the user pressed Ctrl-C: a hook may raise KeyboardInterrupt too.

    Signals reach the main thread only. In another the user's KeyboardInterrupt cannot come.
    """

    pressed = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        self._set = callable(self._before)
        try:
            if self._set:
                signal.signal(signal.SIGINT, self._note)
        except ValueError:  # not the main thread
            self._set = False
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._set:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        if callable(self._before):
            self._before(number, frame)


def _raised(exc: BaseException) -> str:
    said = f"the adapter raised {type(exc).__name__}" + (f": {exc}" if str(exc) else "")
    if isinstance(exc, asyncio.CancelledError):
        return f"{said}, and nobody had cancelled it"
    return said if isinstance(exc, Exception) else f"{said}; no hook may end the whole process"


async def _examine(check: Check, subject: Subject) -> str | None:
    if check.capability is not None:
        declared = getattr(subject.make().adapter, "ABSENT", None)
        if isinstance(declared, Mapping) and check.capability in declared:
            raise Absent(str(declared[check.capability]))
    try:
        async with Patience(CHECK_LIMIT_S):
            return await check.run(subject)
    except TimeoutError:
        raise Violation(f"the check was not over after {CHECK_LIMIT_S:g} s") from None


def judge_all(
    checks: Iterable[Check],
    subject: Subject,
    tell: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run checks in order. One whose needs are not fulfilled is blocked, not failed.

    Args:
        checks: What to examine; a check comes after those it needs.
        subject: The adapter.
        tell: Called with each result as it comes.
    """
    results: dict[str, Result] = {}
    for check in checks:
        result = blocked(check, results) or judge(check, subject)
        results[check.name] = result
        tell(result)
    return list(results.values())


def blocked(check: Check, results: dict[str, Result]) -> Result | None:
    """The result of a check that cannot tell anything, as what it needs has failed."""
    bad = [
        name
        for name in check.needs
        if name in results and results[name].status in (Status.FAILED, Status.BLOCKED)
    ]
    return Result.of(check, Status.BLOCKED, f"needs {', '.join(bad)}") if bad else None


def run_in_new_loop(work: Coroutine[Any, Any, str | None]) -> str | None:
    """Like asyncio.run, but tasks that refuse to end cannot keep it from returning."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.set_exception_handler(lambda *_: None)  # of what is about to be torn down
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        _finish(loop, asyncio.wait(left, timeout=_TIDY_S) if left else None)
        _finish(loop, loop.shutdown_asyncgens())
        loop.close()


def _finish(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | None) -> None:
    """Run what tidies up to its end, though hooks raise what goes through the event loop."""
    if work is None:
        return
    task = loop.create_task(work)
    for _ in range(_MOST_RAISED):
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):  # the user's is noted by his signal
            continue
        return
