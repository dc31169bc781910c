"""`record`: record a server's answers, for the adapter `replay`."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from adapter_api import InvalidRequest, TaskRequest, WorkerError
from registry import BoundAdapter
from registry.cli.terminal import status
from registry.cli.terminal.arguments import (
    BaseUrl,
    Model,
    Options,
    get_adapter,
    is_address,
    one_url,
)
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import say
from registry.cli.terminal.text import harmless, one_line
from registry.cli.terminal.wording import in_our_words, task_problem

PROMPT = "Count from one to nine."
DEADLINE_S = 120.0
"""Of each job: some servers never end, and the file would fill the disk."""


def record(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="[URL] FILE",
            help="The server's address, as --base-url, and where to write the recording.",
        ),
    ],
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            "-p",
            metavar="TEXT",
            help="A prompt, sent plain and as a chat message; repeatable.",
        ),
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send prompts as chat messages only.")
    ] = False,
    model: Model = None,
    max_tokens: Annotated[
        int,
        typer.Option("--max-tokens", "-n", metavar="N", help="The limit on tokens of each answer."),
    ] = 32,
    adapter: Annotated[
        str,
        typer.Option(
            "--adapter",
            "-a",
            metavar="NAME",
            help="An adapter with the options base_url and record.",
        ),
    ] = "openai-http",
    base_url: BaseUrl = None,
    option: Options = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file.")] = False,
) -> Action:
    """Record a server's answers chunk by chunk, with their times and without keys."""

    def action() -> int:
        *urls, path = targets
        if len(urls) > 1:
            raise UsageError("record takes a URL and a FILE, nothing more")
        if is_address(path):
            raise UsageError("missing argument FILE: name the file to write, behind the URL")
        file, url = Path(path), one_url(urls[0] if urls else None, base_url)
        fields = {"model": model, "max_tokens": max_tokens, "deadline_s": DEADLINE_S}
        try:
            tasks = [
                task
                for text in prompt or [PROMPT]
                for task in _tasks(text, chat_only=chat, **fields)
            ]
        except InvalidRequest as error:
            raise UsageError(task_problem(error)) from None
        _check_file(file, force=force)
        built = get_adapter(adapter, url, [f"record={file}", *(option or [])])
        file.unlink(missing_ok=True)
        asyncio.run(_ask(built, tasks))
        return show_recording(file)

    return action


COMMAND = Command(
    "record",
    record,
    ('worker-adapters record http://localhost:8000 answers.jsonl --prompt "Hello"',),
)


def _check_file(file: Path, *, force: bool) -> None:
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}")
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is not a regular file: choose another")
    if file.exists() and not force:
        raise UsageError(f"{file} exists already: choose another file, or use --force")


def show_recording(file: Path) -> int:
    """Print what a recording holds.

    Returns:
        The exit status: FAILED if no server answered, or the file could not be completed.
    """
    *lines, rest = file.read_bytes().split(b"\n") if file.exists() else [b""]
    kinds = Counter(json.loads(line)["type"] for line in lines)
    if not kinds["request"]:
        status.complain("nothing was sent, so there is nothing to record")
        return status.FAILED
    size = file.stat().st_size
    say(f"{file}: {kinds['request']} exchanges, {kinds['chunk']} chunks, {size} bytes")
    if rest or kinds["end"] < kinds["request"]:
        status.complain(f"{file} could not be written to its end")
        return status.FAILED
    if not kinds["response"]:
        status.complain(f"no server answered: {file} has no answer to replay")
        return status.FAILED
    return status.OK


def _tasks(prompt: str, *, chat_only: bool, **fields: Any) -> list[TaskRequest]:
    as_chat = TaskRequest(messages=[{"role": "user", "content": prompt}], **fields)
    return [as_chat] if chat_only else [TaskRequest(prompt=prompt, **fields), as_chat]


async def _ask(adapter: BoundAdapter, tasks: list[TaskRequest]) -> None:
    """Query health and capabilities, and run the tasks; failures are recorded as well."""
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
                _tell(kind, in_our_words(str(error)))


def _tell(name: str, result: str) -> None:
    say(f"{name}: {harmless(one_line(result))}")
