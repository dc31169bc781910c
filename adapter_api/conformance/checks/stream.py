"""The events of a stream. Each rule is judged separately, on the submit hook's own events."""

import json
from collections.abc import Iterable

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.jobs import Adapter, listed, whole
from adapter_api.conformance.subject import Subject, Trace
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.events import (
    End,
    Error,
    Metrics,
    MetricsFrame,
    Reasoning,
    Started,
    Token,
    TokenEvent,
    ToolCallDelta,
)

FAILED_REASONS = {"abort", "error", "content_filter"}
"""Words of engines for an answer that is not whole."""

LONG_TOKENS = 300
"""The max_tokens of the job whose Tokens are counted: counting mistakes show late."""

LONG_LIMIT_S = 5.0
"""How long it is read: on a slow engine, the Tokens received until then must suffice."""

_LONG_PROMPT = " ".join(map(str, range(LONG_TOKENS)))  # for adapters that echo

FEW_TOKENS = 2
"""The max_tokens of a job that shows whether an adapter passes it on."""

_ROUNDING_MS = 1.0

_SAMPLED = ("answers",)


async def _sample(subject: Subject) -> Trace:
    async with subject.adapter() as adapter:
        return await subject.trace(adapter, subject.job())


def _one(events: Iterable[TokenEvent], kind: type[TokenEvent]) -> TokenEvent:
    for event in events:
        if isinstance(event, kind):
            return event
    raise Absent(f"the sample job yielded no {kind.__name__}")  # which the check `order` reports


@check("WA-INT-3001")
async def answers(subject: Subject) -> str:
    """A small job gives at least one Token, and ends by itself, without an error."""
    subject.require_engine()
    trace = await _sample(subject)
    if trace.error is not None:
        cause = f" ({trace.error.__cause__!r})" if trace.error.__cause__ is not None else ""
        raise Violation(f"it raised {type(trace.error).__name__}: {trace.error}{cause}")
    if not trace.ended:
        raise Violation("it did not end in time: end it with End, and return")
    errors = [event for event in trace.events if isinstance(event, Error)]
    if errors:
        raise Violation(f"it failed with {errors[0].error}: check that the engine works")
    if not trace.tokens:
        raise Violation("it yielded no Token: give the kit a task that the engine answers")
    return f"{len(trace.tokens)} Tokens"


@check("ADAPT-3001", needs=_SAMPLED)
async def order(subject: Subject) -> None:
    """Events come as Started, Token*, at most one MetricsFrame; each kind in its place."""
    trace = await _sample(subject)
    strange = [e for e in trace.events if not isinstance(e, Started | Token | MetricsFrame | End)]
    if strange:
        raise Violation(f"{type(strange[0]).__name__} is not an event of a whole answer")
    body = [
        "Token" if isinstance(e, Token) else type(e).__name__
        for e in trace.events
        if not isinstance(e, End)
    ]
    tokens = len(trace.tokens)
    metrics = body.count("MetricsFrame")
    if body != ["Started"] + ["Token"] * tokens + ["MetricsFrame"] * metrics or metrics > 1:
        raise Violation(f"the events came as {listed(_runs(body), 8)}")


def _runs(names: list[str]) -> list[str]:
    """Return the names with repetitions counted: Started, 3 Token, ..."""
    runs: list[tuple[str, int]] = []
    for name in names:
        count = runs.pop()[1] + 1 if runs and runs[-1][0] == name else 1
        runs.append((name, count))
    return [name if count == 1 else f"{count} {name}" for name, count in runs]


@check("ADAPT-3001", needs=_SAMPLED)
async def indexes(subject: Subject) -> str:
    """Tokens are numbered 0, 1, 2 and so on, without gaps."""
    longer = subject.job(_LONG_PROMPT, max_tokens=LONG_TOKENS)
    async with subject.adapter() as adapter:  # a small engine may refuse the longer one
        traces = [
            await subject.trace(adapter, subject.job()),
            await subject.trace(adapter, longer, LONG_LIMIT_S),
        ]
    for found in [[token.index for token in trace.tokens] for trace in traces]:
        wrong = [number for number, index in enumerate(found) if index != number]
        if wrong:
            first = max(0, wrong[0] - 2)
            place = f"from Token {first} on " if first else ""
            raise Violation(f"{place}the indexes are {listed(found[first:], 8)}")
    return f"{max(len(trace.tokens) for trace in traces)} Tokens"


@check("ADAPT-3001", needs=_SAMPLED)
async def texts(subject: Subject) -> None:
    """A Token's text is a str and not empty; only reasoning and pieces of calls have none."""
    for token in (await _sample(subject)).tokens:
        if isinstance(token, Reasoning | ToolCallDelta):
            continue
        if not isinstance(token.text, str) or not token.text:
            raise Violation(f"Token {token.index} has the text {token.text!r}")


@check("ADAPT-3001", needs=_SAMPLED)
async def terminal(subject: Subject) -> None:
    """End comes exactly once, and nothing after it."""
    events = (await _sample(subject)).events
    ends = [place for place, event in enumerate(events) if isinstance(event, End)]
    if not ends:
        raise Violation("the events ended without End: yield End when the engine is done")
    after = events[ends[0] + 1 :]
    if after:
        raise Violation(f"after End came {listed(type(event).__name__ for event in after)}")


@check("WA-INT-3001", needs=(*_SAMPLED, "terminal"))
async def proof(subject: Subject) -> str:
    """End names what proves that the answer is whole, and comes only after a whole answer."""
    end = _one((await _sample(subject)).events, End)
    assert isinstance(end, End)
    if end.proof not in ("finish_reason", "done"):
        raise Violation(f"proof is {end.proof!r}: it is 'finish_reason' or 'done'")
    if end.proof == "finish_reason" and not isinstance(end.finish_reason, str):
        raise Violation(f"proof is 'finish_reason', and finish_reason is {end.finish_reason!r}")
    if end.finish_reason in FAILED_REASONS:
        raise Violation(f"finish_reason {end.finish_reason!r} is a failure: yield Error instead")
    return end.proof


@check("ADAPT-3002 ADAPT-3003 ORCH-3024", needs=(*_SAMPLED, "order"))
async def identity(subject: Subject) -> str:
    """Started carries the task's job_id, the engine, its version, and the seed if one was sent."""
    trace = await _sample(subject)
    started = _one(trace.events, Started)
    assert isinstance(started, Started)
    if started.job_id != trace.task.job_id:
        raise Violation(f"job_id is {started.job_id!r}, the task's is {trace.task.job_id!r}")
    for name in ("engine", "engine_version"):
        value = getattr(started, name)
        if not isinstance(value, str) or not value:
            raise Violation(
                f"{name} is {value!r}: write 'unknown' if the engine does not report it"
            )
    if started.seed not in (None, trace.task.seed):
        raise Violation(f"seed is {started.seed!r}, the task's is {trace.task.seed!r}")
    return f"{started.engine} {started.engine_version}"


@check("ORCH-3028", needs=(*_SAMPLED, "terminal"))
async def metrics(subject: Subject) -> str:
    """End's numbers are possible: not negative, no longer than the job, Tokens as many as came."""
    trace = await _sample(subject)
    end = _one(trace.events, End)
    assert isinstance(end, End)
    found = end.metrics
    if not isinstance(found, Metrics):
        raise Violation(f"metrics is a {type(found).__name__}, not a Metrics")
    numbers = {
        name: getattr(found, name)
        for name in ("tokens_generated", "prompt_tokens", "time_to_first_token_ms")
    } | {"decode_time_ms": found.decode_time_ms, "attempts": found.attempts - 1}
    negative = [name for name, value in numbers.items() if value is not None and value < 0]
    if negative:
        raise Violation(f"too small: {', '.join(negative)}")
    took_ms = trace.took_s * 1000 + _ROUNDING_MS
    longer = [name for name in ("time_to_first_token_ms", "decode_time_ms")
              if (numbers[name] or 0) > took_ms]  # fmt: skip
    if longer:
        raise Violation(f"{longer[0]} is {numbers[longer[0]]}, and the whole job took {took_ms:g}")
    if found.usage_source not in ("engine", "counted"):
        raise Violation(f"usage_source is {found.usage_source!r}: it is 'engine' or 'counted'")
    if found.usage_source == "counted" and found.tokens_generated != len(trace.tokens):
        raise Violation(
            f"tokens_generated is {found.tokens_generated}, and {len(trace.tokens)} Tokens came: "
            "set usage_source='engine' if the engine counted them"
        )
    return f"{found.tokens_generated} tokens, {found.usage_source}{await _too_many(subject)}"


async def _too_many(subject: Subject) -> str:
    """Return a remark if there are more Tokens than max_tokens.

    The contract leaves max_tokens to the engine, and a Token may be less than an engine's token.
    """
    async with subject.adapter() as adapter:
        trace = await subject.trace(adapter, subject.job(max_tokens=FEW_TOKENS))
    count = len(trace.tokens)
    return (
        "" if count <= FEW_TOKENS else f"; with max_tokens={FEW_TOKENS} it yielded {count} Tokens"
    )


WHOLE = ("answers", "order", "indexes", "texts", "terminal", "proof", "identity", "metrics")
"""The checks without which no job through the registry succeeds, so nothing else can be judged."""


@check("WA-INT-3008", needs=WHOLE)
async def frames(subject: Subject) -> None:
    """Every event becomes a JSON frame, and the same event again."""
    from adapter_api.frames import from_frame, to_frame

    for event in (await _sample(subject)).events:
        try:
            again = from_frame(json.loads(json.dumps(to_frame(event))))
        except Exception as exc:
            raise Violation(f"{type(event).__name__} cannot become a frame: {exc}") from exc
        if again != event:
            raise Violation(f"{event} became {again}")


@check("WA-INT-3006 ORCH-3045", needs=WHOLE, capability="seed")
async def repeatable(subject: Subject) -> None:
    """Two runs with one seed give the same Tokens."""
    async with subject.adapter() as adapter:
        first, second = [
            [(token.text, token.index) for token in (await _traced(subject, adapter)).tokens]
            for _ in range(2)
        ]
    if first != second:
        raise Violation(
            f"{listed(first, 3)} became {listed(second, 3)}: send the seed on, or declare "
            "ABSENT = {'seed': why}"
        )


async def _traced(subject: Subject, adapter: Adapter) -> Trace:
    return await subject.trace(adapter, subject.job())


@check("ADAPT-3000", needs=WHOLE, capability="messages")
async def messages(subject: Subject) -> str:
    """A task with messages is answered like one with a prompt."""
    said = [{"role": "user", "content": "Count from one to nine."}]
    async with subject.adapter() as adapter:
        return str(await whole(adapter, subject.job(messages=said)))


STREAM: tuple[Check, ...] = (
    answers,
    order,
    indexes,
    texts,
    terminal,
    proof,
    identity,
    metrics,
    frames,
    repeatable,
    messages,
)
