"""Record what a server answers, for `replay`."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from adapter_api import InvalidRequest, TaskRequest, WorkerError
from registry import BoundAdapter
from registry.cli import status
from registry.cli.options import Action, get_adapter
from registry.cli.status import UsageError

PROMPT = "Count from one to nine."


def record(
    base_url: Annotated[str, typer.Argument(help="The server's address.")],
    file: Annotated[Path, typer.Argument(help="Where to write the recording.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What to ask, as a completion and as a chat message; repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The engine's name of the model.")] = None,
    max_tokens: Annotated[int, typer.Option(help="The most tokens of each answer.")] = 32,
    adapter: Annotated[
        str, typer.Option("--adapter", help="An adapter with the options base_url and record.")
    ] = "openai-http",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Any option of it; repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> Action:
    """Ask a server, and write down its answers chunk by chunk, with their times, without keys."""

    def action() -> int:
        try:
            tasks = [
                task
                for text in prompt or [PROMPT]
                for task in _tasks(text, model=model, max_tokens=max_tokens, seed=1)
            ]
        except InvalidRequest as error:
            raise UsageError(error.message) from None
        if file.exists() and not force:
            raise UsageError(f"{file} is there already: choose another file, or --force")
        built = get_adapter(adapter, base_url, [f"record={file}", *(option or [])])
        file.unlink(missing_ok=True)
        asyncio.run(_ask(built, tasks))
        return show_recording(file)

    return action


def show_recording(file: Path) -> int:
    """Print what a recording holds. Returns the exit status: FAILED if nothing was recorded."""
    if not file.exists():
        status.complain("nothing was sent, so there is nothing to record")
        return status.FAILED
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    kinds = Counter(line["type"] for line in lines)
    size = file.stat().st_size
    print(f"{file}: {kinds['request']} exchanges, {kinds['chunk']} chunks, {size} bytes")
    return status.OK


def _tasks(prompt: str, **fields: object) -> list[TaskRequest]:
    said = [{"role": "user", "content": prompt}]
    return [TaskRequest(prompt=prompt, **fields), TaskRequest(messages=said, **fields)]  # type: ignore[arg-type]


async def _ask(adapter: BoundAdapter, tasks: list[TaskRequest]) -> None:
    """Ask about health and capabilities, and run the tasks; failures are recorded as well."""
    async with adapter:
        found = await adapter.health()
        print(f"health: {found.state}, {status.harmless(found.message)}")
        await adapter.props()
        for task in tasks:
            kind = "prompt" if task.messages is None else "messages"
            try:
                text = await adapter.submit(task).text()
                print(f"{kind}: a whole answer of {len(text)} characters")
            except WorkerError as error:
                print(f"{kind}: {status.harmless(str(error))}")
