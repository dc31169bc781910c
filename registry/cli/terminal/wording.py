"""Errors in the words of the command line: `--base-url`, not `$.base_url` or `base_url=`."""

import re

from adapter_api.errors import ConfigError, RegistryError, WorkerError
from registry.cli.terminal.status import complain
from registry.workers.spec import WorkersError

_OPTIONS = {
    "api_key": "the API key",
    "base_url": "--base-url",
    "deadline_s": "--deadline",
    "max_tokens": "--max-tokens",
    "model": "--model",
    "seed": "--seed",
    "stop": "--stop",
    "temperature": "--temperature",
    "top_p": "--top-p",
}
"""The command line's own option for an option of an adapter or a field of a task."""

# A suggestion to set an option of the adapter in Python, as in "set api='chat'".
_SET = re.compile(r"\bset (\w+)(?:=| to )'(\w+)'")


def complain_about(error: RegistryError | WorkerError) -> None:
    """Print an expected error on standard error, one problem a line."""
    if isinstance(error, ConfigError):
        problems = [_problem(error, text) for text in map(str, error.problems)]
        if len(problems) == 1:
            complain(problems[0])
        else:
            complain(f"{error.name} cannot be used with these settings", problems)
    else:
        complain(in_our_words(str(error)))


def in_our_words(text: str) -> str:
    """Return an error's text with advice for the command line instead of for Python."""
    return _SET.sub(lambda found: f"use --option {found[1]}={found[2]}", text)


def option_name(field: str) -> str:
    """Return the command line's name for an option of an adapter or a field of a task."""
    return _OPTIONS.get(field, f"--option {field}")


def task_problem(text: str) -> str:
    """Return an error about a field of a task, with the name of the option that sets it."""
    field, separator, rest = text.partition(" ")
    return f"{_OPTIONS[field]}{separator}{rest}" if field in _OPTIONS else text


def _problem(error: ConfigError, text: str) -> str:
    if isinstance(error, WorkersError):  # its paths are those of a file
        return text
    path, separator, rest = text.partition(": ")
    if not separator or not path.startswith("$."):
        return text
    return f"{option_name(path.removeprefix('$.'))}: {rest}"
