"""Checks with a proxy that damages the engine's answers, in any protocol."""

import json
from collections.abc import Iterator, Sequence
from itertools import cycle
from time import monotonic
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.damaged import (
    Baseline,
    baseline,
    behind,
    judge_all,
    judge_broken,
    judge_error,
)
from adapter_api.conformance.checks.tools import end_with_calls, forced_call_fields
from adapter_api.conformance.fair_timeout import delayed_s
from adapter_api.conformance.jobs import Outcome, run, sent_again
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import NotExamined, Violation
from adapter_api.faults import PASS, Damage, Request, proxy

MAX_BORDERS = 24
"""The number of borders at which a long answer is cut: the first, the last, and some between."""

LINGER_S = 0.5
"""A job must end within this time after the last byte of its answer was sent. If the answer itself
takes longer, it must end within twice its duration."""

LINGER_TRIES = 5
"""The best try counts, so that only a deliberate wait fails."""

LONG_TOKENS = 200
"""A longer answer of the lab's engine, which is compared, too."""

DELAY_S = 0.2

DRIPPED_BYTES = 400

PERMANENT = (400, 401, 403, 404)
"""Statuses after which the same request must not be sent again."""


@check("WA-INT-3001", needs=("answers",))
async def proxied(subject: Subject) -> str:
    """Through a proxy that does no damage a job gives what its engine sent, and ends with it."""
    base = await baseline(subject)
    wrong = _differs_from_sent(base)
    if not wrong and subject.network is not None and not subject.network.own:
        wrong = _differs_from_lab(base) or _differs_from_lab(
            await baseline(subject, max_tokens=LONG_TOKENS)
        )
    if wrong:
        raise Violation(wrong)
    for tries_left in reversed(range(LINGER_TRIES)):
        before_s, after_s = await _times(subject, base)
        if after_s <= LINGER_S + min(LINGER_S, before_s):
            break
        if not tries_left:
            raise Violation(
                f"a job ends {after_s:.1f} s after the last byte of its answer: do not wait after "
                "the end of an answer"
            )
    return f"POST {base.path}, {len(base.pieces)} pieces"


def _differs_from_sent(base: Baseline) -> str:
    """Return how the Tokens differ from what the engine sent; "" if they do not.

    Where each Token's text can be read in the answer, they must stand there in this order. Engines
    may spell texts in other ways; then nothing is known.
    """
    raw = b"".join(base.pieces).decode("utf-8", "replace")
    texts = [text.strip() for text in base.outcome.pieces if text.strip()]
    texts = [text if text in raw else json.dumps(text, ensure_ascii=False)[1:-1] for text in texts]
    if not all(text in raw for text in texts):
        return ""
    place = 0
    for number, text in enumerate(texts):
        place = raw.find(text, place) + len(text)
        if place < len(text):
            return f"Token {number}, {text[:40]!r}, is not at its place in what the engine sent"
    return ""


def _differs_from_lab(base: Baseline) -> str:
    """Return how the outcome differs from what the lab's engine sent; "" if it does not."""
    text, reason = "", None
    usage: dict[str, int] = {}
    for piece in base.pieces:
        data = piece.decode().partition("data:")[2].strip()
        if not data.startswith("{"):
            continue
        event = json.loads(data)
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            reason = choice.get("finish_reason") or reason
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
    if base.outcome.text != text:
        return f"it read {base.outcome.text[:40]!r}, and the engine sent {text[:40]!r}"
    assert base.outcome.end is not None
    found, sent = base.outcome.end.metrics, usage.get("completion_tokens")
    if found.usage_source == "engine" and found.tokens_generated != sent:
        return f"it reports {found.tokens_generated} generated tokens, and the engine said {sent}"
    if found.prompt_tokens not in (None, usage.get("prompt_tokens")):
        return f"it reports a prompt of {found.prompt_tokens} tokens, and the engine another number"
    if base.outcome.end.finish_reason == "stop" != reason:
        return f"it reports the finish_reason 'stop', and the engine said {reason!r}"
    return ""


async def _times(subject: Subject, base: Baseline) -> tuple[float, float]:
    """Return how long a job takes until its whole answer was sent, and how long it runs on.

    In seconds that do not count waiting for a processor.
    """

    def now_s() -> float:
        return monotonic() - delayed_s()

    sent_at: list[float] = []

    async def relay(answer: proxy.Answer, wire: Any) -> None:
        await PASS.relay(answer, wire)
        sent_at.append(now_s())

    look = Damage("a look at the clock", relay)
    async with behind(subject, look, base.path) as (adapter, _):
        began_at = now_s()
        await run(adapter, base.job())
        last_at = max(sent_at, default=began_at)
        return last_at - began_at, now_s() - last_at


@check("WA-INT-3002 WA-INT-3003", needs=("proxied",))
async def proxy_cuts(subject: Subject) -> str:
    """An answer that is cut anywhere is never reported as whole, nor retried after text."""
    base = await baseline(subject)
    return await judge_all(subject, base, _cuts(len(base.pieces)), _judge_cut)


@check("WA-INT-3002 WA-INT-3003", needs=("proxy-cuts", "tools"), capability="tools")
async def proxy_cut_calls(subject: Subject) -> str:
    """A tool call that is cut anywhere is never reported as whole."""
    asked = forced_call_fields()
    async with subject.adapter() as adapter:
        end_with_calls(await subject.trace(adapter, subject.job(**asked)))  # or it is absent
    base = await baseline(subject, **asked)
    return await judge_all(subject, base, _cuts(len(base.pieces)), _judge_cut)


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


def _judge_cut(base: Baseline, outcome: Outcome, requests: Sequence[Request]) -> str:
    wrong = judge_broken(base, outcome, requests)
    if not wrong and outcome.error is not None and outcome.text and len(requests) > 1:
        return "it sent the request again after text had come"
    return wrong


@check("WA-INT-3003 HTU-ERR-4002", needs=("proxied",))
async def proxy_refusals(subject: Subject) -> str:
    """Refusals, and pages of HTML instead of an answer, are errors other than INTERNAL.

    What was refused permanently is not sent again.
    """
    base = await baseline(subject)
    final = [proxy.refuse(status) for status in PERMANENT]
    others = [proxy.refuse(status) for status in (429, 500, 503)]
    others += [proxy.refuse(status, html=True) for status in (200, 403, 502)]
    remark = await judge_all(subject, base, final, _judge_final)
    await judge_all(subject, base, others, judge_error)
    return remark


def _judge_final(base: Baseline, outcome: Outcome, requests: Sequence[Request]) -> str:
    return judge_error(base, outcome, requests) or sent_again(requests)


@check("WA-INT-3002 WA-INT-3003", needs=("proxied",), capability="error-events")
async def proxy_error_events(subject: Subject) -> str:
    """An error event inside a stream is an error, whatever follows it."""
    base = await baseline(subject)
    if not base.reports_errors:
        raise NotExamined(
            "its engine streams neither server-sent events nor lines of JSON, so that the kit "
            "knows no error to put inside; if the protocol has none, declare "
            "ABSENT = {'error-events': why}"
        )
    damages = [
        proxy.report_error(at, rest=rest)
        for at in (0, base.middle, len(base.pieces) - 1)
        for rest in (False, True)
    ]
    return await judge_all(subject, base, damages, judge_error)


@check("WA-INT-3001", needs=("proxied",))
async def proxy_delays(subject: Subject) -> str:
    """A late head and a slow drip of bytes give the same text."""
    base = await baseline(subject)

    def judge(base: Baseline, outcome: Outcome, _: object) -> str:
        if outcome.error is not None:
            return f"it failed: {outcome}"
        same = outcome.text == base.outcome.text
        return "" if same else f"it read {outcome.text[:40]!r}"

    return await judge_all(subject, base, [proxy.delay(DELAY_S), proxy.drip(DRIPPED_BYTES)], judge)


@check("WA-INT-3003", needs=("proxied",))
async def proxy_disorder(subject: Subject) -> str:
    """Pieces that come twice or in another order make the adapter neither crash nor hang."""
    base = await baseline(subject)
    last = len(base.pieces) - 1
    ats = sorted({0, base.middle, max(0, last - 1), last})
    damages = [damage(at) for at in ats for damage in (proxy.double, proxy.swap)]
    other: list[str] = []

    def judge(base: Baseline, outcome: Outcome, requests: Sequence[Request]) -> str:
        if outcome.error is None:
            if outcome.text != base.outcome.text:
                other.append(outcome.text)
            return ""
        return judge_broken(base, outcome, requests)

    remark = await judge_all(subject, base, damages, judge)
    return f"{remark}; {len(other)} whole answers with other text" if other else remark


PROXIED: tuple[Check, ...] = (
    proxied,
    proxy_cuts,
    proxy_cut_calls,
    proxy_refusals,
    proxy_error_events,
    proxy_delays,
    proxy_disorder,
)
