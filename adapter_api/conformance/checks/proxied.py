"""Checks with a proxy that damages the engine's answers, in any protocol.

The checks know nothing of the protocol. They compare the outcome of a job whose answer was damaged
with that of the same job undamaged: `End` after a part of the text is a lie.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle
from typing import Any, TypeVar

import attrs

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.errors import crash, misjudged
from adapter_api.conformance.checks.faults import LIE, LINGER_S
from adapter_api.conformance.jobs import (
    Adapter,
    Outcome,
    first_token,
    in_time,
    listed,
    run,
    settled,
)
from adapter_api.conformance.patience import undisturbed
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import Absent, NotExamined, Violation
from adapter_api.errors import WorkerError
from adapter_api.faults import PASS, Connection, Damage, FaultProxy, proxy
from adapter_api.stream import TokenStream
from adapter_api.task import TaskRequest

DEADLINE_S = 10.0
"""The deadline of jobs whose answers are damaged. A job that needs it hung."""

SIDE_BY_SIDE = 16
"""How many jobs run at a time."""

MAX_BORDERS = 24
"""At how many borders of a long answer it is cut: the first ones, the last ones, some between."""

DELAY_S = 0.2

DRIPPED_BYTES = 400

PATIENCE_S = 1.0
"""How long a job may wait in silence, with the config's timeouts at less than half of it, until
the kit moves the clock of its event loop."""

WARP_S = 3600.0
"""By how much: every limit that an adapter could have on waiting for its engine."""

WARPS = 12
"""How often: once for each attempt that an adapter makes."""

AFTER_WARP_S = 0.3

UNREAD_BYTES = 8 << 20
"""How much an adapter may take from its engine while the stream is not read: the kernel's buffers,
and a bounded queue."""

STILL_S = 0.3
"""An engine that could send nothing for this long counts as held back."""

LOOKS = 20
"""How many times STILL_S an adapter may take until it holds its engine back."""

CLOSED_S = 1.0
"""How soon after cancel() the engine sees its connection closed. Kernels need far less."""

_T = TypeVar("_T")


@attrs.frozen
class _Baseline:
    """A job whose answer was not damaged.

    Args:
        outcome: Its outcome.
        path: The path of the request that was answered with the stream.
        pieces: The pieces of that answer.
        reports_errors: Whether the stream is of a kind whose error events are known.
    """

    outcome: Outcome
    path: str
    pieces: tuple[bytes, ...]
    reports_errors: bool

    @property
    def middle(self) -> int:
        """Return the number of pieces after which some text, but not all of it, has come."""
        return len(self.pieces) // 2


def _job(subject: Subject, **more: Any) -> TaskRequest:
    return subject.job(**more)


@asynccontextmanager
async def _behind(
    subject: Subject, damage: Damage, path: str | None = None, limit_s: float | None = None
) -> AsyncIterator[tuple[Adapter, FaultProxy]]:
    """Yield an adapter whose engine's answers are damaged, and the proxy."""
    network = subject.net
    with network.lab.proxied(network.engine_url, damage, path) as front:
        async with network.at(front.base_url, limit_s=limit_s).adapter() as adapter:
            yield adapter, front


async def _baseline(subject: Subject) -> _Baseline:
    """Run a job through the proxy without damage.

    Raises:
        NotExamined: If it fails, or its answer cannot be damaged.
    """
    subject.require_engine()
    async with _behind(subject, PASS) as (adapter, front):
        outcome = await run(adapter, _job(subject))
        asked = [request.path for request in front.posts]
        answers = list(front.answers)
    if outcome.error is not None:
        raise NotExamined(f"through a proxy before its engine the job failed: {outcome}")
    if not answers:
        raise NotExamined("it sent its engine no POST request through the proxy")
    longest = max(range(len(answers)), key=lambda n: len(answers[n].sent))
    answer = answers[longest]
    known = bool(proxy.error_event(answer))
    return _Baseline(outcome, asked[longest], tuple(answer.sent), known)


@check("WA-INT-3001", needs=("answers",))
async def proxied(subject: Subject) -> str:
    """Through a proxy that does no damage a job ends as it does without, when its answer ends."""
    base = await _baseline(subject)
    took_s = min([await _lingers(subject, base.path) for _ in range(2)])
    if took_s > LINGER_S:
        raise Violation(
            f"a job ends {took_s:.1f} s after the last byte of its answer: do not wait after the "
            "end of an answer"
        )
    return f"POST {base.path}, {len(base.pieces)} pieces"


async def _lingers(subject: Subject, path: str) -> float:
    """Return for how long a job goes on after its whole answer was sent."""
    loop = asyncio.get_running_loop()
    sent_at: list[float] = []

    async def relay(answer: proxy.Answer, wire: Any) -> None:
        await PASS.relay(answer, wire)
        sent_at.append(loop.time())

    async with _behind(subject, Damage("a look at the clock", relay), path) as (adapter, _):
        outcome = await run(adapter, _job(subject))
        return loop.time() - max(sent_at, default=loop.time()) - outcome.stood_s


@check("WA-INT-3002 WA-INT-3003", needs=("proxied",))
async def proxy_cuts(subject: Subject) -> str:
    """An answer that is cut anywhere is never reported as whole, nor retried after text."""
    base = await _baseline(subject)
    return await _judge_all(subject, base, _cuts(len(base.pieces)), _judge_cut)


def _cuts(pieces: int) -> Iterator[Damage]:
    """Yield a cut at every border and in every piece, in each way for one in a few borders."""
    broken = cycle(("close", "reset"))
    for after in _borders(pieces):
        yield proxy.cut(after, "end")
        yield proxy.cut(after, next(broken))
        yield proxy.cut(after, "end", inside=True)
        yield proxy.cut(after, next(broken), inside=True)


def _borders(pieces: int) -> list[int]:
    """Return the borders at which an answer is cut: all, or the first, the last and some others."""
    if pieces <= MAX_BORDERS:
        return list(range(pieces))
    third = MAX_BORDERS // 3
    between = range(third, pieces - third, max(1, (pieces - 2 * third) // third))
    return [*range(third), *between, *range(pieces - third, pieces)]


def _judge_cut(base: _Baseline, outcome: Outcome, requests: int) -> str:
    wrong = _judge_broken(base, outcome, requests)
    if not wrong and outcome.error is not None and outcome.text and requests > 1:
        return "it sent the request again after text had come"
    return wrong


def _judge_broken(base: _Baseline, outcome: Outcome, requests: int) -> str:
    """Return how the outcome of a broken answer breaks the contract; "" if it does not."""
    if outcome.error is None:
        return "" if outcome.text == base.outcome.text else LIE
    if outcome.error.code == "DEADLINE_UNMET":
        return f"it waited until its deadline, for {outcome.took_s:.0f} s"
    return crash(outcome.error) or misjudged(outcome.error)


def _judge_error(base: _Baseline, outcome: Outcome, requests: int) -> str:
    """Return what is wrong about the outcome of an answer that is, or has, an error."""
    if outcome.error is None:
        return "it reported an answer with an error in it as whole"
    return _judge_broken(base, outcome, requests)


@check("WA-INT-3003 HTU-ERR-4002", needs=("proxied",))
async def proxy_refusals(subject: Subject) -> str:
    """Refusals, and pages of HTML instead of an answer, are errors other than INTERNAL."""
    base = await _baseline(subject)
    damages = [proxy.refuse(status) for status in (400, 401, 403, 404, 429, 500, 503)]
    damages += [proxy.refuse(status, html=True) for status in (200, 403, 502)]
    return await _judge_all(subject, base, damages, _judge_error)


@check("WA-INT-3002 WA-INT-3003", needs=("proxied",))
async def proxy_error_events(subject: Subject) -> str:
    """An error event inside a stream is an error, whatever follows it."""
    base = await _baseline(subject)
    if not base.reports_errors:
        raise Absent("its engine streams neither server-sent events nor NDJSON")
    damages = [
        proxy.report_error(at, rest=rest)
        for at in (0, base.middle, len(base.pieces) - 1)
        for rest in (False, True)
    ]
    return await _judge_all(subject, base, damages, _judge_error)


@check("WA-INT-3001", needs=("proxied",))
async def proxy_delays(subject: Subject) -> str:
    """A late head and a slow drip of bytes give the same text."""
    base = await _baseline(subject)

    def judge(base: _Baseline, outcome: Outcome, _: int) -> str:
        if outcome.error is not None:
            return f"it failed: {outcome}"
        same = outcome.text == base.outcome.text
        return "" if same else f"it read {outcome.text[:40]!r}"

    return await _judge_all(subject, base, [proxy.delay(DELAY_S), proxy.drip(DRIPPED_BYTES)], judge)


@check("WA-INT-3003", needs=("proxied",))
async def proxy_disorder(subject: Subject) -> str:
    """Pieces that come twice or in another order make the adapter neither crash nor hang."""
    base = await _baseline(subject)
    last = len(base.pieces) - 1
    ats = sorted({0, base.middle, max(0, last - 1), last})
    damages = [damage(at) for at in ats for damage in (proxy.double, proxy.swap)]
    other: list[str] = []

    def judge(base: _Baseline, outcome: Outcome, requests: int) -> str:
        if outcome.error is None:
            if outcome.text != base.outcome.text:
                other.append(outcome.text)
            return ""
        return _judge_broken(base, outcome, requests)

    remark = await _judge_all(subject, base, damages, judge)
    return f"{remark}; {len(other)} whole answers with other text" if other else remark


_Judge = Callable[[_Baseline, Outcome, int], str]


async def _judge_all(
    subject: Subject, base: _Baseline, damages: Iterable[Damage], judge: _Judge
) -> str:
    """Run a job with each damage.

    Raises:
        Violation: With what was found wrong, and at which damages.
    """
    slots = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(damage: Damage) -> tuple[str, str]:
        async with slots:
            return damage.name, await _try(subject, base, damage, judge)

    found = await asyncio.gather(*map(one, damages))
    wrong: dict[str, list[str]] = {}
    for name, said in found:
        if said:
            wrong.setdefault(said, []).append(name)
    if wrong:
        groups = sorted(wrong.items(), key=lambda group: (group[0] != LIE, -len(group[1])))
        texts = [f"{said} ({listed(names)})" for said, names in groups]
        raise Violation(f"{sum(map(len, wrong.values()))} of {len(found)}: {'; '.join(texts)}")
    return f"{len(found)} damaged answers"


async def _try(subject: Subject, base: _Baseline, damage: Damage, judge: _Judge) -> str:
    """Return what is wrong about the outcome of a job with a damaged answer; "" if nothing."""
    try:
        async with _behind(subject, damage, base.path) as (adapter, front):
            job = _job(subject, deadline_s=DEADLINE_S)
            outcome = await run(adapter, job, 2 * DEADLINE_S)
            asked = [request for request in front.posts if request.path == base.path]
            return judge(base, outcome, len(asked))
    except Violation as violation:
        return str(violation)
    except Exception as exc:
        return f"the adapter raised {type(exc).__name__}: {exc}"


# Silence


@check("HTU-ERR-4002", needs=("proxied",))
async def proxy_silence(subject: Subject) -> str:
    """The adapter itself limits how long it waits for its engine, before and within an answer."""
    base = await _baseline(subject)
    found = await asyncio.gather(
        *(
            asyncio.to_thread(_in_warped_time, partial(_silent, subject, base, after))
            for after in (-1, 0, base.middle)
        )
    )
    wrong = [said for said in found if said]
    if wrong:
        raise Violation("; ".join(wrong))
    return "before the head, before the first piece, in the middle"


class _WarpedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def _in_warped_time(work: Callable[[], Any]) -> str:
    with asyncio.Runner(loop_factory=_WarpedLoop) as runner:
        result: str = runner.run(work())
        return result


async def _silent(subject: Subject, base: _Baseline, after: int) -> str:
    """Return what is wrong about a job whose engine falls silent; "" if nothing."""
    network = subject.net
    damage = proxy.stall(after)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _WarpedLoop)
    with network.lab.proxied(network.engine_url, damage, base.path) as front:
        adapter = network.at(front.base_url).make()
        reading = asyncio.ensure_future(_end_of(adapter, _job(subject)))
        await asyncio.wait([reading], timeout=PATIENCE_S)
        for _ in range(WARPS):
            if reading.done():
                break
            loop.ahead_s += WARP_S
            await asyncio.wait([reading], timeout=AFTER_WARP_S)
        if not reading.done():
            reading.cancel()
            await asyncio.wait([reading], timeout=AFTER_WARP_S)
            said = "no limit ended the job: give the connect and every read a timeout"
        else:
            said = reading.result()
        await asyncio.wait([asyncio.ensure_future(adapter.aclose())], timeout=CLOSED_S)
    return f"{damage.name} pieces: {said}" if said else ""


async def _end_of(adapter: Adapter, job: TaskRequest) -> str:
    """Run a job to its end. Return what is wrong about it; "" if nothing."""
    try:
        async with adapter.submit(job) as stream:
            async for event in stream:
                error = getattr(event, "error", None)
                if error is not None:
                    return crash(error) or misjudged(error)
    except WorkerError as error:
        return crash(error) or misjudged(error)
    return LIE


# What the engine sees


@asynccontextmanager
async def _running(
    subject: Subject, base: _Baseline, damage: Damage
) -> AsyncIterator[tuple[Adapter, TokenStream, Connection]]:
    """Yield a job whose first Token was read, and its connection."""
    async with _behind(subject, damage, base.path) as (adapter, front):
        stream = adapter.submit(_job(subject, max_tokens=1_000_000))
        try:
            try:
                await first_token(stream)
            except Violation as violation:
                raise NotExamined(f"{damage.name} was refused: {violation}") from None
            asked = [request for request in front.posts if request.path == base.path]
            yield adapter, stream, asked[-1].connection
        finally:
            await in_time(stream.aclose(), "closing the stream")


@check("WA-INT-3002", needs=("proxied", "cancel", "closing"))
async def proxy_cancel(subject: Subject) -> None:
    """After cancel() the engine sees its connection closed, so that it can stop."""
    base = await _baseline(subject)
    for damage in (proxy.stall(base.middle + 1), proxy.flood(base.middle)):
        async with _running(subject, base, damage) as (adapter, stream, connection):
            await in_time(adapter.cancel(stream.job_id), "cancel()")
            if not await settled(lambda seen=connection: seen.closed, CLOSED_S):  # type: ignore[misc]
                raise Violation(
                    f"{CLOSED_S:g} s after cancel() the connection to the engine is open: close "
                    "the response in `finally`, and do not read the rest"
                )


@check("HTU-1003", needs=("proxied", "slow-reader"), capability="backpressure")
async def proxy_slow_reader(subject: Subject) -> str:
    """While the stream is not read, the engine is held back: it can send no more."""
    base = await _baseline(subject)
    async with _running(subject, base, proxy.flood(base.middle)) as (_, _, connection):
        for _ in range(LOOKS):
            before = connection.sent_bytes
            await undisturbed(STILL_S)
            if connection.sent_bytes == before:
                return f"{before >> 10} KiB under way"
            if connection.sent_bytes > UNREAD_BYTES:
                break
    raise Violation(
        f"the engine could send {connection.sent_bytes >> 20} MiB that were not read, and more: "
        "read from the connection only when the next event is requested, or bound the queue"
    )


PROXIED: tuple[Check, ...] = (
    proxied,
    proxy_cuts,
    proxy_refusals,
    proxy_error_events,
    proxy_delays,
    proxy_disorder,
    proxy_silence,
    proxy_cancel,
    proxy_slow_reader,
)
