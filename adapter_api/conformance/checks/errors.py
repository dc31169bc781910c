"""The errors of jobs that cannot be done."""

import pickle

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.stream import WHOLE
from adapter_api.conformance.jobs import run
from adapter_api.conformance.subject import LONG_PROMPT, Subject
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.errors import ErrorCode, WorkerError

_PERMANENT = {ErrorCode.INVALID_PARAMS, ErrorCode.CONTEXT_OVERFLOW, ErrorCode.UPSTREAM_AUTH}
"""Errors that stay when the same job is sent again, here or elsewhere."""


def crash(error: WorkerError) -> str:
    """Return how the adapter crashed with this error; "" if it did not."""
    if error.code != ErrorCode.INTERNAL:
        return ""
    if error.__cause__ is None:
        return f"it made INTERNAL: {error.message}"
    return f"it crashed with {type(error.__cause__).__name__}"


def contradiction_in(error: WorkerError) -> str:
    """Return what is contradictory about an error; "" if nothing is."""
    if error.retriable and error.code in _PERMANENT:
        return f"it made {error.code} retriable, but the same job would fail again"
    return ""


@check("WA-INT-3003", needs=WHOLE)
async def failing_jobs(subject: Subject) -> str:
    """A job the engine cannot do fails with a WorkerError other than INTERNAL, or is answered.

    What cannot be served as it is written must not be retriable.
    """
    tasks = [
        subject.job(model="no-such-model"),
        subject.job(extra={"no_such_field": 1}),
        subject.job(LONG_PROMPT),
        subject.job("\N{GRINNING FACE} \u0000 \u202e"),
        subject.job(max_tokens=1),
        subject.job(stop=["\n", "e"]),
    ]
    failed = []
    async with subject.adapter() as adapter:
        for task in [*tasks, *([subject.failing] if subject.failing else [])]:
            outcome = await run(adapter, task)
            if outcome.error is None:
                if task is subject.failing:
                    raise Violation("the job that must fail was answered")
                continue
            wrong = crash(outcome.error) or contradiction_in(outcome.error)
            if wrong:
                raise Violation(
                    f"when a job failed, {wrong}: raise a WorkerError whose code says what "
                    "happened "
                    "(docs/reference/errors.md)"
                ) from outcome.error
            failed.append(str(outcome.error.code))
    return ", ".join(failed) or "all were answered"


@check("ADAPT-3002", needs=WHOLE)
async def error_pickles(subject: Subject) -> str:
    """An error can be pickled, so that it crosses processes, and keeps its code and message."""
    tasks = [subject.failing] if subject.failing else []
    tasks += [subject.job(model="no-such-model"), subject.job(LONG_PROMPT)]
    async with subject.adapter() as adapter:
        errors = [(await run(adapter, task)).error for task in tasks]
    found = [error for error in errors if error is not None]
    if not found:
        raise Absent("no job that fails is known")
    for error in found:
        try:
            again = pickle.loads(pickle.dumps(error))
            same = type(again) is type(error) and vars(again) == vars(error)
        except Exception as exc:
            raise Violation(f"{type(error).__name__} cannot be pickled: {exc}") from exc
        if not same:
            raise Violation(f"{error!r} became {again!r}")
    return f"{len(found)} errors"


ERRORS: tuple[Check, ...] = (failing_jobs, error_pickles)
