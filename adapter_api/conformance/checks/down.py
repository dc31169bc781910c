"""Checks of an adapter's reports about engines that are down or answer nonsense."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.engine import asked_health
from adapter_api.conformance.jobs import Adapter, in_time, listed, quiet
from adapter_api.conformance.lab import Trouble
from adapter_api.conformance.subject import Network, Subject
from adapter_api.conformance.verdict import Absent, Violation
from adapter_api.errors import WorkerError
from adapter_api.health import EngineProps

DOWN_LIMIT_S = 10.0
"""The limit for a report about a silent engine: twice openai-http's own."""

_ASKED: dict[str, type[Any]] = {"props": EngineProps, "engine_version": str}


@check("ORCH-3057", needs=("health",))
async def lab_health(subject: Subject) -> str:
    """health() reports in time that an engine which is down is not ready, and raises nothing."""
    return await _at_every_trouble(subject, _examine_health)


async def _examine_health(adapter: Adapter, trouble: Trouble) -> None:
    if not await _started(adapter):
        return
    found = await asked_health(adapter, DOWN_LIMIT_S)
    if trouble.down and found.ready:
        raise Violation("health() reports ready: query the engine, and treat silence as a failure")


@check("ORCH-3603 ORCH-3055", needs=("health",))
async def lab_props(subject: Subject) -> str:
    """props() and engine_version() of such an engine return in time, or raise a WorkerError."""
    network = subject.net
    hooks = network.make(base_url=network.engine_url).adapter
    names = [name for name in _ASKED if hasattr(hooks, name)]
    if not names:
        raise Absent("the adapter has neither props nor engine_version")
    return await _at_every_trouble(subject, partial(_examine_props, names))


async def _examine_props(names: list[str], adapter: Adapter, _: Trouble) -> None:
    try:
        await in_time(adapter.start(), "start()", DOWN_LIMIT_S)
    except Exception:  # lab_health judges it
        return
    await asyncio.gather(*(_examine_answer(name, adapter) for name in names))


async def _examine_answer(name: str, adapter: Adapter) -> None:
    asked = getattr(adapter.adapter, name)()
    try:
        found = await quiet(asked, f"{name}()", DOWN_LIMIT_S, passing=(WorkerError,))
    except WorkerError:
        return
    if not isinstance(found, _ASKED[name]):
        raise Violation(f"{name}() gave a {type(found).__name__}")


_Examine = Callable[[Adapter, Trouble], Awaitable[None]]


async def _at_every_trouble(subject: Subject, examine: _Examine) -> str:
    """Examine an adapter of each engine that cannot be used, all at the same time.

    Raises:
        Violation: With what was found wrong, and at which engines.
    """
    network = subject.net
    troubles = network.lab.troubles()
    found = await asyncio.gather(*(_at(network, trouble, examine) for trouble in troubles))
    wrong: dict[str, list[str]] = {}
    for trouble, said in zip(troubles, found, strict=True):
        if said:
            wrong.setdefault(said, []).append(trouble.what)
    if wrong:
        texts = [f"of an engine that {' or '.join(at)}: {said}" for said, at in wrong.items()]
        raise Violation("; ".join(texts))
    return f"of an engine that {listed((trouble.what for trouble in troubles), 20)}"


async def _at(network: Network, trouble: Trouble, examine: _Examine) -> str:
    """Return what is wrong with an adapter of this engine; "" if nothing."""
    try:
        async with network.at(trouble.url).adapter() as adapter:
            await examine(adapter, trouble)
    except Violation as violation:
        return str(violation)
    return ""


async def _started(adapter: Adapter) -> bool:
    """Return whether it starts. BoundAdapter reports one that refuses as unhealthy."""
    try:
        await quiet(adapter.start(), "start()", DOWN_LIMIT_S, passing=(WorkerError,))
    except WorkerError:
        return False
    return True


DOWN: tuple[Check, ...] = (lab_health, lab_props)
