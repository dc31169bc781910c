"""Jobs whose answers are damaged in transit, in any protocol, and how their outcomes are judged.

This module knows no protocol. The outcome of a job with a damaged answer is compared with that of
the same job undamaged. `End` after only a part of the text is a lie.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs

from adapter_api.conformance.checks.errors import contradiction_in, crash
from adapter_api.conformance.checks.faults import LIE, by_wrong
from adapter_api.conformance.jobs import Adapter, Outcome, run
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import NotExamined, Violation
from adapter_api.faults import PASS, Damage, FaultProxy, Request, proxy
from adapter_api.task import TaskRequest

DEADLINE_S = 10.0
"""The deadline of jobs whose answers are damaged. A job that reaches it hung."""

SIDE_BY_SIDE = 16
"""The number of concurrent jobs."""


@attrs.frozen
class Baseline:
    """A job whose answer was not damaged.

    Args:
        job: Makes the job again; takes more fields.
        outcome: Its outcome.
        path: The path of the request that was answered with the stream.
        pieces: The pieces of that answer.
        reports_errors: Whether the stream is of a kind whose error events are known.
    """

    job: Callable[..., TaskRequest]
    outcome: Outcome
    path: str
    pieces: tuple[bytes, ...]
    reports_errors: bool

    @property
    def middle(self) -> int:
        """Return the number of pieces after which some text, but not all of it, has come."""
        return len(self.pieces) // 2


@asynccontextmanager
async def behind(
    subject: Subject, damage: Damage, path: str | None = None
) -> AsyncIterator[tuple[Adapter, FaultProxy]]:
    """Yield an adapter whose engine's answers are damaged, and the proxy that does it."""
    # The adapter has its own timeouts.
    network = subject.net
    with network.lab.proxied(network.engine_url, damage, path) as front:
        async with network.at(front.base_url, limit_s=None).adapter() as adapter:
            yield adapter, front


async def baseline(subject: Subject, **fields: Any) -> Baseline:
    """Run a job through the proxy without damage. `fields` are of its task.

    Raises:
        NotExamined: If it fails, or its answer cannot be damaged.
    """
    subject.require_engine()

    def job(**more: Any) -> TaskRequest:
        return subject.job(**fields, **more)

    async with behind(subject, PASS) as (adapter, front):
        outcome = await run(adapter, job())
        paths = [request.path for request in front.posts]
        answers = list(front.answers)
    if outcome.error is not None:
        raise NotExamined(f"the job failed through a proxy in front of its engine: {outcome}")
    if not answers:
        raise NotExamined("it sent its engine no POST request through the proxy")
    longest = max(range(len(answers)), key=lambda n: len(answers[n].sent))
    answer = answers[longest]
    known = bool(proxy.error_event(answer))
    return Baseline(job, outcome, paths[longest], tuple(answer.sent), known)


Judge = Callable[[Baseline, Outcome, Sequence[Request]], str]
"""Returns what is wrong about the outcome of a job, with the requests that it made; "" if nothing
is."""


def judge_broken(base: Baseline, outcome: Outcome, requests: Sequence[Request]) -> str:
    """Judge the outcome of an answer that was broken somewhere."""
    if outcome.error is None:
        return "" if outcome.same_answer(base.outcome) else LIE
    if outcome.error.code == "DEADLINE_UNMET":
        return f"it waited until its deadline, for {outcome.took_s:.0f} s"
    return crash(outcome.error) or contradiction_in(outcome.error)


def judge_error(base: Baseline, outcome: Outcome, requests: Sequence[Request]) -> str:
    """Judge the outcome of an answer that is, or has, an error."""
    if outcome.error is None:
        return "it reported an answer with an error in it as whole"
    return judge_broken(base, outcome, requests)


async def judge_all(
    subject: Subject, base: Baseline, damages: Iterable[Damage], judge: Judge
) -> str:
    """Run a job with each damage.

    Raises:
        Violation: With what was found wrong, and at which damages.
    """
    slots = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(damage: Damage) -> tuple[str, str]:
        async with slots:
            return await _try(subject, base, damage, judge), damage.name

    found = await asyncio.gather(*map(one, damages))
    wrong = [(said, name) for said, name in found if said]
    if wrong:
        raise Violation(f"{len(wrong)} of {len(found)}: {by_wrong(wrong)}")
    return f"{len(found)} damaged answers"


async def _try(subject: Subject, base: Baseline, damage: Damage, judge: Judge) -> str:
    """Return what is wrong about the outcome of a job with a damaged answer; "" if nothing."""
    try:
        async with behind(subject, damage, base.path) as (adapter, front):
            outcome = await run(adapter, base.job(deadline_s=DEADLINE_S), 2 * DEADLINE_S)
            requests = [request for request in front.posts if request.path == base.path]
            return judge(base, outcome, requests)
    except Violation as violation:
        return str(violation)
    except Exception as exc:
        return f"the adapter raised {type(exc).__name__}: {exc}"
