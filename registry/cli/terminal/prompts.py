"""Prompts, files and the tasks that are made of them."""

import base64
import json
import mimetypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapter_api import InvalidRequest, TaskRequest
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.wording import task_problem

MAX_IMAGE_BYTES = 20 << 20
"""The largest image that common servers accept; a larger file is probably the wrong one."""

MAX_JSON_BYTES = 4 << 20
"""Far more than schemas and lists of tools need."""


def make_task(fields: Mapping[str, Any]) -> TaskRequest:
    """Return the task with these fields; those that are None are left out.

    Raises:
        UsageError: If a field is wrong; the message names the option.
    """
    try:
        return TaskRequest(**{name: value for name, value in fields.items() if value is not None})
    except InvalidRequest as error:
        raise UsageError(task_problem(error)) from None


def read_prompt(prompt: str | None) -> str:
    """Return the prompt: as given, or from standard input if it is `-` or there is a pipe.

    Raises:
        UsageError: If there is no prompt, or it is not valid text.
    """
    if prompt is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError(
            "missing argument PROMPT: type one, or pipe it in; see worker-adapters submit --help"
        )
    try:
        text = sys.stdin.read() if prompt in (None, "-") else prompt
        assert text is not None
        text.encode()  # bytes that are not text arrive as half surrogates
    except UnicodeError:
        raise UsageError("the prompt is not valid text in this locale's encoding") from None
    if prompt is None and not text:
        raise UsageError("missing argument PROMPT: standard input is empty")
    return text


def read_json(path: Path, option: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        UsageError: If it cannot be read, or is not JSON.
    """
    try:
        return json.loads(_read(path, option, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option}: {path} is not JSON: {error}") from None


def read_tools(path: Path) -> list[dict[str, Any]]:
    """Return the tools of a JSON file, each in the form that servers take.

    The file holds one tool or a list of them; each either whole, with `"type": "function"`, or
    only the function, with `"name"` and `"parameters"`.

    Raises:
        UsageError: If it is something else.
    """
    data = read_json(path, "--tools")
    tools = data if isinstance(data, list) else [data]
    if not tools or not all(isinstance(tool, dict) for tool in tools):
        raise UsageError(f"--tools: {path} must hold a list of tools, each a JSON object")
    return [
        {"type": "function", "function": tool} if "name" in tool and "type" not in tool else tool
        for tool in tools
    ]


def read_schema(path: Path) -> dict[str, Any]:
    """Return the response_format that asks for answers of a JSON schema.

    Raises:
        UsageError: If the file does not hold a JSON object.
    """
    schema = read_json(path, "--json-schema")
    if not isinstance(schema, dict):
        raise UsageError(f"--json-schema: {path} must hold a JSON object, the schema")
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in path.name.partition(".")[0])
    described = {"name": name[:64] or "answer", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": described}


def read_image(path: Path) -> dict[str, Any]:
    """Return the content part of an image file.

    Raises:
        UsageError: If it cannot be read, or its name does not say that it is an image.
    """
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        raise UsageError(f"--image: {path} does not have the name of an image, such as photo.png")
    data = base64.b64encode(_read(path, "--image", MAX_IMAGE_BYTES)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def messages_of(text: str, system: str | None, images: list[Path]) -> list[dict[str, Any]]:
    """Return the messages of a chat: the system's, if there is one, and the user's."""
    content: Any = text
    if images:
        content = [{"type": "text", "text": text}, *map(read_image, images)]
    user = {"role": "user", "content": content}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def read_text(path: Path, option: str) -> str:
    """Return the content of a text file.

    Raises:
        UsageError: If it cannot be read, or is not UTF-8.
    """
    try:
        return _read(path, option, MAX_JSON_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{option}: {path} is not UTF-8: {error.reason}") from None


def _read(path: Path, option: str, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"{option}: {path}: {error.strerror or error}") from None
    if len(data) > max_bytes:
        raise UsageError(f"{option}: {path} is larger than {max_bytes >> 20} MiB")
    return data
