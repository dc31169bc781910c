"""Checks of every fault of the completions protocol, one for each chapter."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import attrs

from adapter_api.conformance.check import Check, Run
from adapter_api.conformance.checks.errors import contradiction_in, crash
from adapter_api.conformance.jobs import Outcome, becomes_true, listed, run, sent_again
from adapter_api.conformance.subject import Network, Subject
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.faults import CHAPTERS, Request, Scenario
from adapter_api.faults.wire import TEXT

DEADLINE_S = 5.0
"""The deadline of a job on a misbehaving server. A job that takes twice as long hangs."""

SIDE_BY_SIDE = 16
"""The number of faults that are tried concurrently; most of their time is waiting."""

TRIES = 3
"""How often a fault is tried if its first job fails."""

LIE = "it reported a broken answer as whole"

_PERMANENT = {
    "INVALID_PARAMS",
    "CONTEXT_OVERFLOW",
    "UPSTREAM_AUTH",
    "UPSTREAM_NOT_FOUND",
    "QUOTA_EXHAUSTED",
    "CONTENT_FILTER",
}
"""Codes of refusals after which the same request must not be sent again."""

_EARLY = 0.8
"""The fraction of a requested delay after which the adapter counts as having waited."""


@attrs.frozen
class _Verdict:
    """The adapter's behaviour at one fault.

    Args:
        fault: The scenario's name.
        wrong: How the adapter lied, hung, crashed, leaked or insisted; "" if it did not.
        differs: How it differs from openai-http within the contract; "" if it does not.
    """

    fault: str
    wrong: str = ""
    differs: str = ""


def _network(subject: Subject) -> Network:
    """Return the network of an adapter that speaks the completions protocol.

    Raises:
        Absent: If it speaks another one, and its own engine is there.
        NotExamined: If it speaks another one, and its own engine is not.
    """
    network = subject.net
    subject.require_engine()
    if not network.completions:
        raise Absent(
            f"it speaks another protocol ({listed(network.requests_seen)}): "
            "the proxy-* checks examine it"
        )
    return network


async def _understood(subject: Subject) -> None:
    network = _network(subject)
    at_lab = network.at(network.lab.engine_url)
    async with at_lab.adapter() as adapter:
        outcome = await run(adapter, at_lab.job(model="fault", max_tokens=4))
    if outcome.error is not None:
        raise Violation(f"the job failed: {outcome}")


async def _chapter(scenarios: Sequence[Scenario], subject: Subject) -> str:
    network = _network(subject)
    slots = asyncio.Semaphore(SIDE_BY_SIDE)
    if not network.has_dialects:  # such an adapter cannot know a server's conventions
        scenarios = tuple(fault for fault in scenarios if fault.server is None)

    async def one(fault: Scenario) -> _Verdict:
        async with slots:
            return await _try(network, fault)

    # Requests of many megabytes would use up the time limits of the others.
    heavy = [fault for fault in scenarios if fault.early]
    verdicts = await asyncio.gather(*(one(fault) for fault in scenarios if not fault.early))
    verdicts += [await one(fault) for fault in heavy]
    wrong = [(verdict.wrong, verdict.fault) for verdict in verdicts if verdict.wrong]
    if wrong:
        raise Violation(f"{len(wrong)} of {len(verdicts)} faults: {by_wrong(wrong, 20)}")
    differing = [f"{v.fault} ({v.differs})" for v in verdicts if v.differs]
    remark = f"{len(verdicts)} faults"
    return (
        f"{remark}; not as docs/reference/faults.md says: {listed(differing)}"
        if differing
        else remark
    )


def by_wrong(found: Iterable[tuple[str, str]], limit: int = 5) -> str:
    """Return what was wrong and where, of pairs of both: lies first, then by frequency."""
    places: dict[str, list[str]] = {}
    for wrong, place in found:
        places.setdefault(wrong, []).append(place)
    groups = sorted(places.items(), key=lambda group: (group[0] != LIE, -len(group[1])))
    return "; ".join(f"{wrong} ({listed(names, limit)})" for wrong, names in groups)


async def _try(network: Network, fault: Scenario) -> _Verdict:
    """Return the adapter's behaviour at one fault; the best of a few tries.

    A try counts only if no job failed whose answer was whole: on a busy machine one can be late.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            return await _run_fault(network, fault)
        except _EarlierJobFailed as spoilt:
            if not tries_left:
                return _Verdict(fault.name, wrong=str(spoilt))
            network.lab.server.forget(fault.name)
        except Violation as violation:
            return _Verdict(fault.name, wrong=str(violation))
        except Exception as exc:
            return _Verdict(fault.name, wrong=f"the adapter raised {type(exc).__name__}: {exc}")
    raise AssertionError


class _EarlierJobFailed(Exception):
    """A job before the last one failed, although its answer was whole."""


async def _run_fault(network: Network, fault: Scenario) -> _Verdict:
    """Send the fault's jobs, and compare the outcome of the last one with the expectation.

    Raises:
        _EarlierJobFailed: If one of the others failed, although its answer was whole.
    """
    server = network.lab.server
    first = len(server.requests)
    faulty = network.at(server.url(fault.name), fault.server)
    fields: dict[str, Any] = {"deadline_s": DEADLINE_S, "model": "fault", **fault.task}

    def seen() -> list[Request]:
        return [one for one in server.requests[first:] if _is_job(one, fault)]

    async def send_jobs() -> tuple[Outcome, bool]:
        before = _whole_answers(seen())
        outcome = await run(adapter, faulty.job(**fields), 2 * DEADLINE_S)
        return outcome, _whole_answers(seen()) > before

    async with faulty.adapter() as adapter:
        for number in range(1, fault.jobs):
            outcome, answered = await send_jobs()
            if outcome.error is not None:
                # The server counts requests, so the next job would not meet the fault.
                if answered:
                    raise _EarlierJobFailed(
                        f"a job failed although its answer was whole: {outcome}"
                    )
                return _Verdict(fault.name, differs=f"job {number} failed")
        outcome, answered = await send_jobs()
        # While it does not read, the server of an early answer cannot see its client close.
        closes = fault.expect.closes and not fault.early
        closed = not closes or await _closed(seen())
    if not closed:
        return _Verdict(fault.name, wrong="it left the connection open")
    wrong = _wrong(fault, outcome, answered=answered) or _repeated(fault, seen())
    return _Verdict(fault.name, wrong, "" if wrong else _differs(fault, outcome, len(seen())))


def _whole_answers(seen: Iterable[Request]) -> int:
    """Return how many whole answers these requests got."""
    connections = {id(request.connection): request.connection for request in seen}
    return sum(connection.whole_answers for connection in connections.values())


def _is_job(request: Request, fault: Scenario) -> bool:
    return request.scenario == fault.name and request.method == "POST"


async def _closed(seen: Sequence[Request]) -> bool:
    """Return whether the client closes the fault's connections soon."""
    return await becomes_true(lambda: all(request.connection.closed for request in seen))


def _wrong(fault: Scenario, outcome: Outcome, *, answered: bool = False) -> str:
    """Return how the outcome breaks the contract; "" if it does not.

    Args:
        fault: The fault.
        outcome: The outcome of its last job.
        answered: Whether the server answered one of the job's requests as a whole.
    """
    expect, error = fault.expect, outcome.error
    if error is not None:
        return crash(error) or contradiction_in(error)
    if expect.proof is None and not answered:
        return LIE
    text = expect.text if expect.proof is not None else TEXT
    if text is not None and outcome.text != text:
        return f"it read {outcome.text[:40]!r}, not {text[:40]!r}"
    return ""


def _repeated(fault: Scenario, seen: Sequence[Request]) -> str:
    """Return a text if a request was sent again unchanged after a permanent refusal."""
    statuses = [n for one in seen for n in one.connection.statuses]
    permanent = fault.jobs == 1 and bool(fault.expect.codes) and fault.expect.codes <= _PERMANENT
    if not permanent or not all(400 <= status < 500 for status in statuses):
        return ""
    return sent_again(seen)


def _differs(fault: Scenario, outcome: Outcome, requests: int) -> str:
    """Return how the adapter differs from openai-http within the contract; "" if it does not."""
    expect, error = fault.expect, outcome.error
    found = []
    if error is not None and expect.proof is not None:
        found.append(f"refused with {error.code}")
    elif error is not None and error.code not in expect.codes:
        found.append(f"{error.code}, not {'/'.join(sorted(expect.codes))}")
    elif error is not None and error.retry_after_ms != expect.retry_after_ms:
        found.append(f"retry_after_ms {error.retry_after_ms}, not {expect.retry_after_ms}")
    if requests != expect.requests:
        found.append(f"{requests} request{'s' * (requests != 1)}, not {expect.requests}")
    if outcome.took_s + outcome.preempted_s < expect.after_s * _EARLY:
        found.append(f"after {outcome.took_s:.1f} s, not {expect.after_s:g} s")
    return ", ".join(found)


def _checks() -> Iterable[Check]:
    rule = "A sound completions server is understood."
    yield Check("faults-understood", rule, _understood, "OC-ADAPT-OAI-6001", ("answers",))
    for title, scenarios in CHAPTERS.items():
        name = "faults-" + "-".join(title.lower().replace(",", "").split())
        rule = f"No fault makes the adapter lie, hang, crash, leak or insist: {title.lower()}."
        examine: Run = partial(_chapter, tuple(scenarios))
        yield Check(name, rule, examine, "WA-INT-3002 WA-INT-3003", ("faults-understood",))


FAULTS: tuple[Check, ...] = tuple(_checks())
