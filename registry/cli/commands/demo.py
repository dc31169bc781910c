"""`demo`: the real adapter against a toy server, over real HTTP, in one process."""

import asyncio
from itertools import groupby

import attrs
from rich.console import Console
from rich.text import Text

import registry
from adapter_api import End, Error, Started, TaskRequest, Token, TokenEvent
from adapter_api.frames import to_frame
from registry import BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.output import summary
from registry.cli.terminal.show import console
from registry.cli.toy.server import ToyServer

PROMPT = "Tell me about streams you can trust"
WORDS = 36
WORDS_BEFORE_THE_CRASH = 8
DELAY_S = 0.02

_MARGIN = "  "


def demo() -> Action:
    """Stream from a toy engine over real HTTP; needs nothing else installed."""
    return lambda: asyncio.run(_demo(console()))


COMMAND = Command("demo", demo, ("worker-adapters demo",))


async def _demo(out: Console) -> int:
    async with ToyServer(delay_s=DELAY_S) as server:
        _say(
            out, f"A toy engine (no model: it strings words together) listens at {server.base_url}"
        )
        _say(out, f"The openai-http adapter sends it {PROMPT!r}:\n")
        task = TaskRequest(prompt=PROMPT, max_tokens=WORDS, seed=42)
        async with registry.get("openai-http", base_url=server.base_url) as adapter:
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
            again = attrs.evolve(task, job_id="demo-crash")
            events = await _stream(adapter, again, out, crash=server)
            last = events[-1]
            assert isinstance(last, Error)  # the server is gone
            _facts(
                out,
                frames=_kinds(events),
                error=str(last.error),
                so="half an answer never counts as a whole one",
            )
    _say(out, "\nNext")
    _facts(
        out,
        server='yours: worker-adapters submit "Hello" --base-url http://localhost:8000',
        adapter="yours: one class and one entry point, see README.md, Add an adapter",
    )
    return status.OK


async def _stream(
    adapter: BoundAdapter, task: TaskRequest, out: Console, crash: ToyServer | None = None
) -> list[TokenEvent]:
    """Run a job and print its text live; close `crash` in the middle."""
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
                if crash is not None and event.index + 1 == WORDS_BEFORE_THE_CRASH:
                    await crash.aclose()
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
        out.print(Text.assemble((f"{name:8}", "dim"), fact), soft_wrap=True)


def _say(out: Console, text: str) -> None:
    out.print(Text(text), soft_wrap=True)
