"""Record what a server answers, for `replay`."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from adapter_api import InvalidRequest, TaskRequest, WorkerError
from registry import BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.options import Action, get_adapter
from registry.cli.terminal.status import UsageError

PROMPT = "Count from one to nine."
DEADLINE_S = 120.0
"""For each job: some servers never end, and the file would fill the disk."""


def record(
    base_url: Annotated[str, typer.Argument(help="The server's address.")],
    file: Annotated[Path, typer.Argument(help="Where to write the recording.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What to ask, as a completion and as a chat message; repeatable."),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask as a chat message only.")] = False,
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
        fields = {"model": model, "max_tokens": max_tokens, "deadline_s": DEADLINE_S}
        try:
            tasks = [
                task
                for text in prompt or [PROMPT]
                for task in _tasks(text, chat_only=chat, **fields)
            ]
        except InvalidRequest as error:
            raise UsageError(error.message) from None
        _check_file(file, force=force)
        built = get_adapter(adapter, base_url, [f"record={file}", *(option or [])])
        file.unlink(missing_ok=True)
        asyncio.run(_ask(built, tasks))
        return show_recording(file)

    return action


def _check_file(file: Path, *, force: bool) -> None:
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}")
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is no file that could be written anew: choose another")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already: choose another file, or --force")


def show_recording(file: Path) -> int:
    """Print what a recording holds. Returns the exit status: FAILED if nothing was recorded, or
    not to its end."""
    *lines, rest = file.read_bytes().split(b"\n") if file.exists() else [b""]
    kinds = Counter(json.loads(line)["type"] for line in lines)
    if not kinds["request"]:
        status.complain("nothing was sent, so there is nothing to record")
        return status.FAILED
    size = file.stat().st_size
    print(f"{file}: {kinds['request']} exchanges, {kinds['chunk']} chunks, {size} bytes")
    if rest or kinds["end"] < kinds["request"]:
        status.complain(f"{file} could not be written to its end")
        return status.FAILED
    return status.OK


def _tasks(prompt: str, *, chat_only: bool, **fields: Any) -> list[TaskRequest]:
    as_chat = TaskRequest(messages=[{"role": "user", "content": prompt}], **fields)
    return [as_chat] if chat_only else [TaskRequest(prompt=prompt, **fields), as_chat]


async def _ask(adapter: BoundAdapter, tasks: list[TaskRequest]) -> None:
    """Ask about health and capabilities, and run the tasks; failures are recorded as well."""
    async with adapter:
        found = await adapter.health()
        _tell("health", f"{found.state}, {found.message}")
        props = await adapter.props()
        models = ", ".join(props.models) or "none listed"
        _tell("engine", f"{props.engine} {props.engine_version or 'unknown'}, models: {models}")
        for task in tasks:
            kind = "prompt" if task.messages is None else "messages"
            try:
                text = await adapter.submit(task).text()
                _tell(kind, f"a whole answer of {len(text)} characters")
            except WorkerError as error:
                _tell(kind, str(error))


def _tell(name: str, result: str) -> None:
    print(f"{name}: {status.harmless(status.one_line(result))}", flush=True)
