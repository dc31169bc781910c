"""Runs checks, each in its own event loop, and turns their exceptions into results."""

import asyncio
import signal
import warnings
from collections.abc import Coroutine, Mapping
from time import monotonic
from types import FrameType
from typing import Any, Self

from adapter_api.conformance.check import Check
from adapter_api.conformance.fair_timeout import FairTimeout
from adapter_api.conformance.report import Result
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import Absent, NotExamined, Status, Violation

CHECK_LIMIT_S = 120.0
"""The limit for one check, however slow the engine."""

_TIDY_S = 1.0
"""The time allowed for a check's remaining tasks to end."""

_MAX_RAISED = 100
"""How many of them may raise SystemExit during that time."""


def run_check(check: Check, subject: Subject) -> Result:
    """Run one check on a subject, outside of any event loop.

    Warnings are recorded rather than shown: the check `leaks` reports those that matter.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C.
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
        except NotExamined as unknown:
            return result(Status.NOT_EXAMINED, str(unknown))
        except Violation as violation:
            return result(Status.FAILED, str(violation))
        except BaseException as exc:
            # It comes from the adapter's hooks: the kit raises only the three above.
            return result(Status.FAILED, _raised(exc))
        finally:
            if interrupts.pressed:
                raise KeyboardInterrupt
    return result(Status.PASSED, remark or "")


class _Interrupts:
    """Records, while entered, that the user pressed Ctrl-C: hooks may raise KeyboardInterrupt, too.

    Signals reach the main thread only, so in another thread there is nothing to record.
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
        return f"{said}, although nothing had cancelled it"
    return said if isinstance(exc, Exception) else f"{said}; no hook may end the whole process"


async def _examine(check: Check, subject: Subject) -> str | None:
    if check.capability is not None:
        declared = getattr(subject.make().adapter, "ABSENT", None)
        if isinstance(declared, Mapping) and check.capability in declared:
            raise Absent(str(declared[check.capability]))
    try:
        async with FairTimeout(CHECK_LIMIT_S):
            return await check.run(subject)
    except TimeoutError:
        raise Violation(f"the check was not over after {CHECK_LIMIT_S:g} s") from None


def blocked(check: Check, results: Mapping[str, Result]) -> Result | None:
    """Return the verdict of a check whose needs are not met; None if they are."""
    for statuses, status in (
        ((Status.FAILED, Status.BLOCKED), Status.BLOCKED),
        ((Status.NOT_EXAMINED,), Status.NOT_EXAMINED),
    ):
        names = [n for n in check.needs if n in results and results[n].status in statuses]
        if names:
            return Result.of(check, status, f"needs {', '.join(names)}")
    return None


def run_in_new_loop(work: Coroutine[Any, Any, str | None]) -> str | None:
    """Run a coroutine like asyncio.run, but return even if tasks refuse to end."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.set_exception_handler(lambda *_: None)  # for the tasks that are about to be cancelled
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        _finish(loop, asyncio.wait(left, timeout=_TIDY_S) if left else None)
        _finish(loop, loop.shutdown_asyncgens())
        loop.close()


def _finish(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | None) -> None:
    """Finish the cleanup, although hooks may raise SystemExit through the event loop."""
    if work is None:
        return
    task = loop.create_task(work)
    for _ in range(_MAX_RAISED):
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):  # the user's Ctrl-C is recorded by its signal
            continue
        return
