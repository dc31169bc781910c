"""What an adapter makes of every fault that the server knows, a chapter each."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import attrs

from adapter_api.conformance.check import Check, Run, Violation
from adapter_api.conformance.checks.errors import crash, misjudged
from adapter_api.conformance.lab.subject import HttpSubject
from adapter_api.conformance.subject import Outcome, Subject, listed, run, settled
from adapter_api.faults import CHAPTERS, LIMIT_S, FaultServer, Request, Scenario

UNDERSTOOD = "faults-understood"
"""The check without which no other against the fault server means anything."""

DEADLINE_S = 5.0
"""Within this a job must end however its server misbehaves, if its own limits are no shorter."""

SIDE_BY_SIDE = 8
"""How many faults are tried at a time; most of their time is waiting."""

_LIE = "it took a broken answer for a whole one"

_FOR_GOOD = {
    "INVALID_PARAMS",
    "CONTEXT_OVERFLOW",
    "UPSTREAM_AUTH",
    "UPSTREAM_NOT_FOUND",
    "QUOTA_EXHAUSTED",
    "CONTENT_FILTER",
}
"""What a refusal means after which the same request is not sent again."""

_EARLY = 0.8
"""The part of a wait that shows that it was waited for."""


@attrs.frozen
class _Verdict:
    """What an adapter made of one fault.

    Args:
        fault: The scenario's name.
        wrong: How the adapter lied, hung, crashed, leaked or insisted; "" if it did not.
        differs: What it may do, and openai-http does not; "" if nothing.
    """

    fault: str
    wrong: str = ""
    differs: str = ""


async def _plain(subject: Subject) -> None:
    assert isinstance(subject, HttpSubject)
    lab_subject = subject.at(subject.lab.engine_url)
    async with lab_subject.adapter() as adapter:
        outcome = await run(adapter, lab_subject.job(model="fault", max_tokens=4))
    if outcome.error is not None:
        raise Violation(f"it made of it: {outcome}")


async def _chapter(scenarios: Iterable[Scenario], subject: Subject) -> str:
    assert isinstance(subject, HttpSubject)
    slots = asyncio.Semaphore(SIDE_BY_SIDE)
    if not subject.has_dialects:  # such an adapter cannot know what one kind of server means
        scenarios = [fault for fault in scenarios if fault.server is None]

    async def one(fault: Scenario) -> _Verdict:
        async with slots:
            return await _try(subject, fault)

    verdicts = await asyncio.gather(*map(one, scenarios))
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    if wrong:
        raise Violation(f"{len(wrong)} of {len(verdicts)} faults: {_by_wrong(wrong)}")
    differing = [f"{v.fault} ({v.differs})" for v in verdicts if v.differs]
    remark = f"{len(verdicts)} faults"
    return (
        f"{remark}; not as docs/reference/faults.md says: {listed(differing)}"
        if differing
        else remark
    )


def _by_wrong(verdicts: Iterable[_Verdict]) -> str:
    """What was done wrong, and at which faults: lies first, then what happened most."""
    faults: dict[str, list[str]] = {}
    for verdict in verdicts:
        faults.setdefault(verdict.wrong, []).append(verdict.fault)
    groups = sorted(faults.items(), key=lambda group: (group[0] != _LIE, -len(group[1])))
    return "; ".join(f"{wrong} ({listed(names, 20)})" for wrong, names in groups)


async def _try(subject: HttpSubject, fault: Scenario) -> _Verdict:
    """Send the fault's jobs, and compare what comes of the last one with what is right."""
    server = subject.lab.server
    first = len(server.requests)
    outcome: Outcome | None = None
    try:
        faulty = subject.at(server.url(fault.name), fault.server)
        async with faulty.adapter() as adapter:
            for _ in range(fault.jobs):
                fields: dict[str, Any] = {"deadline_s": DEADLINE_S, "model": "fault", **fault.task}
                outcome = await run(adapter, faulty.job(**fields), 2 * DEADLINE_S)
            seen = [one for one in server.requests[first:] if _is_job(one, fault)]
            closed = not fault.expect.closes or await _closed(server, seen)
    except Violation as violation:
        return _Verdict(fault.name, wrong=str(violation))
    except Exception as exc:
        return _Verdict(fault.name, wrong=f"the adapter raised {type(exc).__name__}: {exc}")
    assert outcome is not None
    if not closed:
        return _Verdict(fault.name, wrong="it left the connection open")
    wrong = _wrong(fault, outcome) or _repeated(fault, server, seen)
    return _Verdict(fault.name, wrong, "" if wrong else _differs(fault, outcome, len(seen)))


def _is_job(request: Request, fault: Scenario) -> bool:
    return request.scenario == fault.name and request.method == "POST"


async def _closed(server: FaultServer, seen: Sequence[Request]) -> bool:
    """Whether the client closes the fault's connections, soon."""
    return await settled(lambda: all(request.connection.closed for request in seen))


def _wrong(fault: Scenario, outcome: Outcome) -> str:
    """What no adapter may do, "" if it did nothing of that."""
    expect, error = fault.expect, outcome.error
    if outcome.took_s > DEADLINE_S + LIMIT_S:
        return f"it took {outcome.took_s:.1f} s"
    if error is not None:
        return crash(error) or misjudged(error)
    if expect.proof is None:
        return _LIE
    if expect.text is not None and outcome.text != expect.text:
        return f"it read {outcome.text[:40]!r}, not {expect.text[:40]!r}"
    return ""


def _repeated(fault: Scenario, server: FaultServer, seen: Sequence[Request]) -> str:
    """Whether a request was sent again, just as it was, that the server had refused for good.

    Without a field that the server does not know, or with a new key, it is another request.
    """
    statuses = [n for one in seen for n in one.connection.statuses]
    for_good = fault.jobs == 1 and bool(fault.expect.codes) and fault.expect.codes <= _FOR_GOOD
    if not for_good or not all(400 <= status < 500 for status in statuses):
        return ""
    sent = [(one.path, one.body, one.headers.get("authorization")) for one in seen]
    most = max(map(sent.count, sent), default=0)
    return "" if most < 2 else f"it sent {most} times what was refused for good"


def _differs(fault: Scenario, outcome: Outcome, requests: int) -> str:
    """What an adapter may do, and openai-http does not; "" if there is nothing."""
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
    if outcome.took_s + outcome.stood_s < expect.after_s * _EARLY:
        found.append(f"after {outcome.took_s:.1f} s, not {expect.after_s:g} s")
    return ", ".join(found)


def _checks() -> Iterable[Check]:
    rule = "The fault server's engine is understood; without that its faults mean nothing."
    yield Check(UNDERSTOOD, rule, _plain, "OC-ADAPT-OAI-6001")
    for title, scenarios in CHAPTERS.items():
        name = "faults-" + "-".join(title.lower().replace(",", "").split())
        rule = f"No fault makes the adapter lie, hang, crash, leak or insist: {title.lower()}."
        examine: Run = partial(_chapter, tuple(scenarios))
        yield Check(name, rule, examine, "WA-INT-3002 WA-INT-3003", (UNDERSTOOD,))


CHAPTER_CHECKS: tuple[Check, ...] = tuple(_checks())
"""The checks of an HttpSubject against the fault server, a chapter each."""
