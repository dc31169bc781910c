"""The fault server beside an HTTP adapter: an engine that works, and every way to misbehave."""

import asyncio
import hashlib
from collections.abc import Iterable
from functools import partial
from threading import Thread
from typing import Any, Self

import attrs

from adapter_api.conformance.check import Check, Run, Violation
from adapter_api.conformance.faults import CHAPTERS, LIMIT_S, SCENARIOS, FaultServer, Scenario
from adapter_api.conformance.faults.scenario import scenario, whole
from adapter_api.conformance.faults.wire import Wire
from adapter_api.conformance.subject import (
    MakeAdapter,
    Outcome,
    Subject,
    listed,
    run,
    settled,
)

DEADLINE_S = 5.0
"""Within this a job must end however its server misbehaves, if its own limits are no shorter."""

SIDE_BY_SIDE = 8
"""How many faults are tried at a time; most of their time is waiting."""

_LIE = "it took a broken answer for a whole one"
_LIMITS = ("first_token_timeout_s", "stall_timeout_s")
_START_LIMIT_S = 10.0
_MOST_PACED_TOKENS = 256
_CONTEXT_CHARS = 100_000
_SYLLABLES = ("al", "be", "cor", "den", "el", "fa", "gro", "hin")


@scenario("answers like a sound engine with a small vocabulary", whole(text=None))
async def engine(wire: Wire) -> None:
    body = wire.request.json
    asked = body.get("prompt") or " ".join(str(m["content"]) for m in body.get("messages", []))
    most = int(body.get("max_tokens") or 16)
    if body.get("model") == "no-such-model":
        await wire.answer_json(404, wire.complaint("there is no such model"))
    elif len(asked) > _CONTEXT_CHARS:
        more = {"code": "context_length_exceeded"}
        await wire.answer_json(400, wire.complaint("the prompt is too long", **more))
    else:
        await _generate(wire, f"{asked} {body.get('seed')}", most)


async def _generate(wire: Wire, source: str, most: int) -> None:
    await wire.head()
    for index in range(most):
        digest = hashlib.blake2b(f"{source} {index}".encode()).digest()
        await wire.text(f" {_SYLLABLES[digest[0] % 8]}{_SYLLABLES[digest[1] % 8]}")
        if most <= _MOST_PACED_TOKENS:
            await wire.sleep(0.001)
    await wire.finish("length")
    await wire.usage({"prompt_tokens": 3, "completion_tokens": most, "total_tokens": 3 + most})
    await wire.done()
    await wire.end()


class Lab:
    """Runs the fault server in a thread of its own, while entered.

    It outlives the event loops of single checks, and an adapter that blocks its loop does not
    block the server.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="fault server", daemon=True)
        self.server = FaultServer({**SCENARIOS, engine.name: engine})

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self.server.__aenter__())
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._run(self.server.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_START_LIMIT_S)
            self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_LIMIT_S)

    @property
    def engine_url(self) -> str:
        """The base URL of the engine that works."""
        return self.server.url(engine.name)


@attrs.frozen
class _Verdict:
    """What an adapter made of one fault.

    Args:
        fault: The scenario's name.
        wrong: How the adapter lied, hung, crashed or leaked; "" if it did not.
        differs: What it did that is no lie and yet not what openai-http does; "" if nothing.
    """

    fault: str
    wrong: str = ""
    differs: str = ""


@attrs.define(eq=False)
class HttpSubject(Subject):
    """An adapter that takes a `base_url`, and the lab beside it.

    Args:
        lab: The running fault server.
        make_at: Makes the adapter; takes `base_url` among its options. `make` may do the same for
            an engine of its own.
    """

    lab: Lab = attrs.field(kw_only=True)
    make_at: MakeAdapter = attrs.field(kw_only=True)

    @classmethod
    def in_lab(cls, lab: Lab, make_at: MakeAdapter, **more: Any) -> Self:
        """An adapter whose engine is the lab's own."""
        make = partial(make_at, base_url=lab.engine_url)
        return cls(make, **more, lab=lab, make_at=make_at)

    @property
    def has_dialects(self) -> bool:
        """Whether the adapter can be told the kind of server."""
        return hasattr(self.make_at(base_url=self.lab.engine_url).config, "dialect")

    def at(self, url: str, server: str | None = None) -> Subject:
        """The adapter at another address, with short limits as far as its config has them.

        Args:
            url: The base URL.
            server: The kind of server, for an adapter that has a `dialect`.
        """
        config = self.make_at(base_url=url).config
        options: dict[str, Any] = {name: LIMIT_S for name in _LIMITS if hasattr(config, name)}
        if server is not None:
            options["dialect"] = server
        return Subject(partial(self.make_at, base_url=url, **options))


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
            closed = not fault.expect.closes or await _closed(server, fault, first)
    except Violation as violation:
        return _Verdict(fault.name, wrong=str(violation))
    except Exception as exc:
        return _Verdict(fault.name, wrong=f"the adapter raised {type(exc).__name__}: {exc}")
    assert outcome is not None
    if not closed:
        return _Verdict(fault.name, wrong="it left the connection open")
    return _compared(fault, outcome)


async def _closed(server: FaultServer, fault: Scenario, first: int) -> bool:
    """Whether the client closes the fault's connections, soon."""
    numbers = {r.connection for r in server.requests[first:] if r.scenario == fault.name}
    return await settled(lambda: all(server.connections[n - 1].closed for n in numbers))


def _compared(fault: Scenario, outcome: Outcome) -> _Verdict:
    expect, error = fault.expect, outcome.error
    if error is not None and error.code == "INTERNAL":
        return _Verdict(fault.name, wrong=f"it crashed with {type(error.__cause__).__name__}")
    if outcome.took_s > DEADLINE_S + LIMIT_S:
        return _Verdict(fault.name, wrong=f"it took {outcome.took_s:.1f} s")
    if expect.proof is None:
        if error is None:
            return _Verdict(fault.name, wrong=_LIE)
        if error.code not in expect.codes:
            return _Verdict(fault.name, differs=f"{error.code}, not {'/'.join(expect.codes)}")
    elif error is not None:
        return _Verdict(fault.name, differs=f"refused with {error.code}")
    elif expect.text is not None and outcome.text != expect.text:
        read = f"it read {outcome.text[:40]!r}, not {expect.text[:40]!r}"
        return _Verdict(fault.name, wrong=read)
    return _Verdict(fault.name)


def _fault_checks() -> Iterable[Check]:
    rule = "The fault server's engine is understood; without that its faults mean nothing."
    yield Check("faults-understood", rule, _plain, "OC-ADAPT-OAI-6001")
    for title, scenarios in CHAPTERS.items():
        name = "faults-" + "-".join(title.lower().replace(",", "").split())
        rule = f"No fault makes the adapter lie, hang, crash or leak: {title.lower()}."
        examine: Run = partial(_chapter, tuple(scenarios))
        yield Check(name, rule, examine, "WA-INT-3002 WA-INT-3003", ("faults-understood",))


FAULT_CHECKS: tuple[Check, ...] = tuple(_fault_checks())
"""The checks of an HttpSubject against the fault server, a chapter each."""
