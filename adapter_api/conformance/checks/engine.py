"""Checks of an adapter's reports about its engine, and of start() and aclose()."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.cancelling import STOPPED
from adapter_api.conformance.checks.stream import WHOLE
from adapter_api.conformance.fair_timeout import FairTimeout
from adapter_api.conformance.jobs import (
    ANSWER_LIMIT_S,
    Adapter,
    first_token,
    hook_result,
    in_time,
    run,
    whole,
)
from adapter_api.conformance.subject import Subject, check_capabilities
from adapter_api.conformance.verdict import Absent, Misuse, Violation
from adapter_api.errors import WorkerError
from adapter_api.health import EngineProps, HealthStatus


@check("ADAPT-3000")
async def declarations(subject: Subject) -> str:
    """ABSENT, if there is one, maps capabilities the kit knows to reasons."""
    absent = getattr(subject.make().adapter, "ABSENT", {})
    try:
        pairs = {**absent}.items()
    except TypeError:
        raise Violation(
            "ABSENT is not a mapping: write ABSENT = {'seed': 'why'} in the class"
        ) from None
    try:
        check_capabilities(subject.absent, "the subject's `absent`")
        check_capabilities(absent, "ABSENT")
    except Misuse as misuse:
        raise Violation(str(misuse)) from None
    for name, reason in pairs:
        if not isinstance(reason, str) or not reason.strip():
            raise Violation(f"ABSENT gives no reason for {name!r}")
    return ", ".join(sorted(absent)) or "nothing is absent"


@check("ORCH-3057")
async def health(subject: Subject) -> str:
    """health() returns a HealthStatus before, between and during jobs, and raises nothing."""
    async with subject.adapter() as adapter:
        await in_time(adapter.start(), "start()", ANSWER_LIMIT_S)
        first = await checked_health(adapter)
        stream = adapter.submit(subject.job())
        try:
            async with FairTimeout(ANSWER_LIMIT_S):
                await stream
        except (WorkerError, TimeoutError, StopAsyncIteration):
            pass  # the checks of the stream report it
        await asyncio.gather(*(checked_health(adapter) for _ in range(3)))
        await in_time(stream.aclose(), "closing the stream")
        await checked_health(adapter)
    return str(first.state)


async def checked_health(adapter: Adapter, limit_s: float = ANSWER_LIMIT_S) -> HealthStatus:
    """Return the health hook's answer.

    Raises:
        Violation: If it raises, takes longer than `limit_s`, or is contradictory.
    """
    advice = (
        ": an engine that cannot be reached is an answer, HealthStatus(HealthState.UNHEALTHY, why)"
    )
    found = await hook_result(adapter.adapter.health(), "health()", limit_s, advice=advice)
    if not isinstance(found, HealthStatus):
        raise Violation(f"health() returned a {type(found).__name__}, not a HealthStatus")
    if found.ready and not found.live:
        raise Violation("health() reports ready but not live")
    return found


@check("ORCH-3603", needs=("health",))
async def props(subject: Subject) -> str:
    """props() returns EngineProps and raises nothing; what is unknown is None."""
    found = await _hook_result_of(subject, "props", EngineProps)
    counts = {name: getattr(found, name) for name in ("context_length", "slots_total")}
    wrong = [name for name, n in counts.items() if n is not None and (type(n) is not int or n < 1)]
    if wrong:
        raise Violation(f"{wrong[0]} is {counts[wrong[0]]!r}: it is a count, or None if unknown")
    return f"{found.engine}, models: {len(found.models)}"


@check("OC-ADAPT-OAI-6010 ORCH-3055", needs=("health",))
async def engine_version(subject: Subject) -> str:
    """engine_version() returns a str, "unknown" if the engine reports none; raises nothing."""
    found: str = await _hook_result_of(subject, "engine_version", str)
    if not found:
        raise Violation("engine_version() returned '': write 'unknown'")
    return found


async def _hook_result_of(subject: Subject, hook: str, kind: type[Any]) -> Any:
    async with subject.adapter() as adapter:
        ask: Callable[[], Awaitable[Any]] | None = getattr(adapter.adapter, hook, None)
        if ask is None:
            raise Absent(f"the adapter has no {hook}")
        await in_time(adapter.start(), "start()", ANSWER_LIMIT_S)
        found = await hook_result(ask(), f"{hook}()")
    if not isinstance(found, kind):
        raise Violation(f"{hook}() returned a {type(found).__name__}, not a {kind.__name__}")
    return found


@check("ORCH-3056", needs=STOPPED)
async def lifecycle(subject: Subject) -> None:
    """start() and aclose() may be repeated, aclose() needs no start(); then jobs are refused."""
    adapter = subject.make()
    for _ in range(2):
        await hook_result(adapter.aclose(), "aclose() before start()")
    adapter = subject.make()
    for _ in range(2):
        await hook_result(adapter.start(), "start()")
    stream = adapter.submit(subject.job(max_tokens=256))
    await first_token(stream)
    for _ in range(2):
        await hook_result(adapter.aclose(), "aclose() with a running job")
    try:
        outcome = await run(adapter, subject.job())
    except WorkerError:
        return
    if outcome.error is None:
        raise Violation("a job was answered after aclose()")


@check("ORCH-3055", needs=WHOLE)
async def independence(subject: Subject) -> None:
    """Two adapters are independent: closing one leaves the other's jobs alone."""
    async with subject.adapter() as one:
        stream = one.submit(subject.job(max_tokens=256))
        await first_token(stream)
        async with subject.adapter() as other:
            await whole(other, subject.job())
        try:
            await in_time(_rest(stream), "the rest of a job", ANSWER_LIMIT_S)
            await whole(one, subject.job())
        except (WorkerError, Violation) as exc:
            raise Violation(
                f"after another adapter was closed, this one failed: {exc}: keep state in the "
                "object, not in the class or the module"
            ) from exc


async def _rest(stream: Any) -> None:
    async for _ in stream:
        pass


ENGINE: tuple[Check, ...] = (
    declarations,
    health,
    props,
    engine_version,
    lifecycle,
    independence,
)
