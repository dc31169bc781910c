"""`demo`: the real adapter against a gateway over a scripted engine, over real HTTP."""

import asyncio
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import groupby
from typing import Annotated

import attrs
import typer
from rich.console import Console
from rich.text import Text

import registry
from adapter_api import End, Error, Started, TaskRequest, Token, TokenEvent
from adapter_api.frames import to_frame
from registry import AdapterHost, BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.arguments import Port
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.output import summary
from registry.cli.terminal.packages import need_gateway
from registry.cli.terminal.show import console

PROMPT = "Tell me about streams you can trust"
WORDS_BEFORE_THE_CRASH = 8
DELAY_S = 0.03

SCRIPT = (
    "A stream you can trust is whole or it is an error: it never takes half an answer for all of "
    "it, never waits without a limit, and never loses what was said on the way."
)

_MARGIN = "  "


def demo(
    serve: Annotated[
        bool, typer.Option("--serve", "-s", help="Serve the scripted engine until Ctrl-C.")
    ] = False,
    port: Port = 8000,
) -> Action:
    """Stream from a scripted engine over real HTTP; needs nothing else installed.

    With --serve a gateway with its dashboard stays at http://localhost:8000, over two replicas
    that play a script, so that there is a server for everything in the documentation.
    """

    def action() -> int:
        need_gateway()
        return _serve(port) if serve else asyncio.run(_demo(console()))

    return action


COMMAND = Command("demo", demo, ("worker-adapters demo", "worker-adapters demo --serve"))


def _serve(port: int) -> int:
    from registry.cli.terminal.serving import run_gateway
    from registry.gateway.run import GatewayPlan, run_over
    from registry.gateway.server import ServerSettings
    from registry.gateway.settings import Settings

    settings = Settings(aliases={"*": "demo"})
    plan = GatewayPlan(settings=settings, server=ServerSettings(port=port, grace_s=1.0))
    return run_gateway(plan, partial(run_over, _host))


@asynccontextmanager
async def _host(observers: Sequence[object] = ()) -> AsyncIterator[AdapterHost]:
    """Open a host with scripted engines: a sound one twice, and one that breaks off."""
    words = tuple(f" {word}" if place else word for place, word in enumerate(SCRIPT.split()))
    sound = {"tokens": words, "delay_s": DELAY_S, "model": "demo"}
    async with AdapterHost(observers=observers) as host:
        for replica_id in ("r0", "r1"):
            host.bind("demo", replica_id, registry.get("mock", sound))
        crash = {"error_code": "WORKER_RESET", "error_after": WORDS_BEFORE_THE_CRASH}
        host.bind("crash", "r0", registry.get("mock", {**sound, **crash, "model": "crash"}))
        yield host


async def _demo(out: Console) -> int:
    from registry.gateway import Gateway, Settings
    from registry.gateway.server import ServerSettings, running

    async with _host() as host:
        gateway = Gateway(host, None, Settings(break_off=True, access_log=False))
        async with running(gateway, ServerSettings(port=0)) as url:
            _say(out, f"A gateway over a scripted engine (no model) listens at {url}")
            _say(out, f"The openai-http adapter sends it {PROMPT!r}:\n")
            async with registry.get("openai-http", base_url=url) as adapter:
                await _show_both(adapter, out)
    _say(out, "\nNext")
    _facts(
        out,
        server="worker-adapters demo --serve: a gateway with a dashboard",
        yours='worker-adapters submit "Hello" --base-url http://localhost:8000',
        adapter="one class and one entry point: README.md, Add an adapter",
    )
    return status.OK


async def _show_both(adapter: BoundAdapter, out: Console) -> None:
    """Show a whole answer, and one that breaks off."""
    task = TaskRequest(model="demo", prompt=PROMPT, seed=42)
    events = await _stream(adapter, task, out)
    started, last = events[0], events[-1]
    if isinstance(last, Error):
        raise last.error
    assert isinstance(started, Started)  # TokenStream keeps the order
    assert isinstance(last, End)
    health = await adapter.health()
    _facts(
        out,
        frames=_kinds(events),
        proof=f"{last.proof} {last.finish_reason}: the answer is whole",
        metrics=summary(last),
        engine=f"{started.engine} {started.engine_version}, {health.state}",
    )
    _say(out, f"\nAgain, but the server dies after {WORDS_BEFORE_THE_CRASH} words:\n")
    events = await _stream(adapter, attrs.evolve(task, model="crash", job_id="demo-crash"), out)
    last = events[-1]
    assert isinstance(last, Error)  # the server broke off
    _facts(
        out,
        frames=_kinds(events),
        error=str(last.error),
        so="half an answer never counts as a whole one",
    )


async def _stream(adapter: BoundAdapter, task: TaskRequest, out: Console) -> list[TokenEvent]:
    """Run a job and print its text live."""
    events: list[TokenEvent] = []
    column = out.width
    async with adapter.submit(task) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, Token):
                text = event.text
                if column + len(text) > out.width:
                    text = ("\n" if event.index else "") + _MARGIN + text.lstrip()
                    column = 0
                column += len(text)
                out.print(Text(text, "bold"), end="", soft_wrap=True)
            if isinstance(event, End | Error):
                break
    _say(out, "\n")
    return events


def _kinds(events: list[TokenEvent]) -> str:
    """Return the kinds of the frames, as in "started, token x 3, end"."""
    groups = [
        (kind, len(list(group))) for kind, group in groupby(to_frame(e)["type"] for e in events)
    ]
    return ", ".join(kind if count == 1 else f"{kind} x {count}" for kind, count in groups)


def _facts(out: Console, **facts: str) -> None:
    for name, fact in facts.items():
        first, *rest = textwrap.wrap(fact, max(out.width - 8, 20), break_on_hyphens=False)
        _print(out, Text.assemble((f"{name:8}", "dim"), "\n        ".join([first, *rest])))


def _say(out: Console, text: str) -> None:
    _print(out, Text(text))


def _print(out: Console, text: Text) -> None:
    out.print(text, soft_wrap=True)
