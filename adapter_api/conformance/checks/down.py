"""Checks of an adapter's reports about engines that are down or answer nonsense."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.engine import checked_health
from adapter_api.conformance.jobs import Adapter, hook_result, in_time, listed
from adapter_api.conformance.lab import BrokenEngine
from adapter_api.conformance.subject import Network, Subject
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.errors import WorkerError
from adapter_api.health import EngineProps

DOWN_LIMIT_S = 10.0
"""The limit for a report about a silent engine: twice openai-http's own."""

_RESULT_TYPES: dict[str, type[Any]] = {"props": EngineProps, "engine_version": str}


@check("ORCH-3057", needs=("health",))
async def lab_health(subject: Subject) -> str:
    """health() reports in time that an engine which is down is not ready, and raises nothing."""
    return await _at_every_broken_engine(subject, _examine_health)


async def _examine_health(adapter: Adapter, engine: BrokenEngine) -> None:
    if not await _started(adapter):
        return
    found = await checked_health(adapter, DOWN_LIMIT_S)
    if engine.down and found.ready:
        raise Violation("health() reports ready: query the engine, and treat silence as a failure")


@check("ORCH-3603 ORCH-3055", needs=("health",))
async def lab_props(subject: Subject) -> str:
    """props() and engine_version() of such an engine return in time, or raise a WorkerError."""
    network = subject.net
    hooks = network.make(base_url=network.engine_url).adapter
    names = [name for name in _RESULT_TYPES if hasattr(hooks, name)]
    if not names:
        raise Absent("the adapter has neither props nor engine_version")
    return await _at_every_broken_engine(subject, partial(_examine_props, names))


async def _examine_props(names: list[str], adapter: Adapter, _: BrokenEngine) -> None:
    try:
        await in_time(adapter.start(), "start()", DOWN_LIMIT_S)
    except Exception:  # lab_health judges it
        return
    await asyncio.gather(*(_examine_answer(name, adapter) for name in names))


async def _examine_answer(name: str, adapter: Adapter) -> None:
    asked = getattr(adapter.adapter, name)()
    try:
        found = await hook_result(asked, f"{name}()", DOWN_LIMIT_S, passing=(WorkerError,))
    except WorkerError:
        return
    if not isinstance(found, _RESULT_TYPES[name]):
        raise Violation(f"{name}() returned a {type(found).__name__}")


_Examine = Callable[[Adapter, BrokenEngine], Awaitable[None]]


async def _at_every_broken_engine(subject: Subject, examine: _Examine) -> str:
    """Examine an adapter of each engine that cannot be used, all at the same time.

    Raises:
        Violation: With what was found wrong, and at which engines.
    """
    network = subject.net
    broken_engines = network.lab.broken_engines()
    found = await asyncio.gather(*(_at(network, engine, examine) for engine in broken_engines))
    wrong: dict[str, list[str]] = {}
    for engine, said in zip(broken_engines, found, strict=True):
        if said:
            wrong.setdefault(said, []).append(engine.what)
    if wrong:
        texts = [f"with an engine that {' or '.join(at)}: {said}" for said, at in wrong.items()]
        raise Violation("; ".join(texts))
    return f"with an engine that {listed((engine.what for engine in broken_engines), 20)}"


async def _at(network: Network, engine: BrokenEngine, examine: _Examine) -> str:
    """Return what is wrong with an adapter of this engine; "" if nothing."""
    try:
        async with network.at(engine.url).adapter() as adapter:
            await examine(adapter, engine)
    except Violation as violation:
        return str(violation)
    return ""


async def _started(adapter: Adapter) -> bool:
    """Return whether it starts. BoundAdapter reports one that refuses as unhealthy."""
    try:
        await hook_result(adapter.start(), "start()", DOWN_LIMIT_S, passing=(WorkerError,))
    except WorkerError:
        return False
    return True


DOWN: tuple[Check, ...] = (lab_health, lab_props)
