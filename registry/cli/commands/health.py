"""`health`: check an engine's health."""

import asyncio
import contextlib
import json

import attrs

from adapter_api import HealthState, HealthStatus
from registry import BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.arguments import (
    Adapter,
    BaseUrl,
    Json,
    Options,
    Url,
    get_adapter,
    one_url,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import show_rows
from registry.cli.terminal.streams import out, say
from registry.cli.terminal.text import one_line

_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red", "no": "red"}


def health(
    url: Url = None,
    adapter: Adapter = "openai-http",
    base_url: BaseUrl = None,
    option: Options = None,
    as_json: Json = False,
) -> Action:
    """Check an engine's health; status 0 if it accepts work, 1 if not."""
    return lambda: _check(get_adapter(adapter, one_url(url, base_url), option), as_json=as_json)


COMMAND = Command(
    "health",
    health,
    (
        "worker-adapters health http://localhost:8000",
        "worker-adapters health --base-url http://localhost:8000 --json",
    ),
)


def _check(adapter: BoundAdapter, *, as_json: bool) -> int:
    found = asyncio.run(_ask(adapter))
    if as_json:
        say(json.dumps(attrs.asdict(found)))
    elif out().isatty():
        show_rows((adapter.name, "health"), health_rows(found), _STYLES)
    else:
        latency = "" if found.latency_ms is None else f" ({found.latency_ms:.0f} ms)"
        say(f"{found.state}: {one_line(found.message) or 'no details'}{latency}")
    ready = found.ready and found.state is not HealthState.UNHEALTHY
    return status.OK if ready else status.FAILED


async def _ask(adapter: BoundAdapter) -> HealthStatus:
    async with contextlib.aclosing(adapter):
        return await adapter.health()


def health_rows(found: HealthStatus) -> list[tuple[str, str]]:
    """Return names and values of what the check found."""
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
