"""Ask an engine how it is, and show the answer."""

import asyncio
import contextlib
import json
import sys

import attrs

from adapter_api import HealthState, HealthStatus
from registry import BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.show import show_rows

_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "no": "red"}


def check_health(adapter: BoundAdapter, *, as_json: bool) -> int:
    """Check, print the answer, and close the adapter.

    Args:
        adapter: Whose engine.
        as_json: Whether to print all of it as JSON.

    Returns:
        The exit status: OK if the engine accepts work.
    """
    found = asyncio.run(_ask(adapter))
    if as_json:
        print(json.dumps(attrs.asdict(found)))
    elif sys.stdout.isatty():
        show_rows((adapter.name, "health"), health_rows(found), _STYLES)
    else:
        latency = "" if found.latency_ms is None else f" ({found.latency_ms:.0f} ms)"
        print(f"{found.state}: {status.one_line(found.message) or 'no details'}{latency}")
    ready = found.ready and found.state is not HealthState.UNHEALTHY
    return status.OK if ready else status.FAILED


async def _ask(adapter: BoundAdapter) -> HealthStatus:
    async with contextlib.aclosing(adapter):
        return await adapter.health()


def health_rows(found: HealthStatus) -> list[tuple[str, str]]:
    """Names and values of what the check found out."""
    rows = [("state", str(found.state))]
    if found.message:
        rows.append(("message", found.message))
    rows += [("live", _word(found.live)), ("ready", _word(found.ready))]
    if found.model_listed is not None:
        rows.append(("model listed", _word(found.model_listed)))
    if found.latency_ms is not None:
        rows.append(("took", f"{found.latency_ms:.1f} ms"))
    return rows


def _word(value: bool) -> str:
    return "yes" if value else "no"
