"""Errors in the terms of the command line: `--base-url`, not `$.base_url` or `base_url=`."""

import re

from adapter_api.errors import ConfigError, InvalidRequest, Problem, RegistryError, WorkerError
from registry.cli.terminal.status import complain

_OPTIONS = {
    "api_key": "the API key",
    "base_url": "--base-url",
    "messages": "the messages",
    "prompt": "the prompt",
    "response_format": "--json-schema",
    "tools": "--tools",
    "deadline_s": "--deadline",
    "max_tokens": "--max-tokens",
    "model": "--model",
    "seed": "--seed",
    "stop": "--stop",
    "temperature": "--temperature",
    "top_p": "--top-p",
}
"""The command line's own option for an option of an adapter or a field of a task."""

# Which of several adapters is meant, as in "registry.get('acme:echo')".
_GET = re.compile(r"\bregistry\.get\('([^']+)'\)")
# Advice about a key, which is never an option of the command line: "Set api_key (or VARIABLE)".
_SET_KEY = re.compile(r"\bSet (\w+) \(or (\w+)\)")
_KEY_OF_ANOTHER = re.compile(
    r"the server that (\w+) names, and base_url was given\. Set \w+ for this server"
)
# A suggestion to set an option of the adapter in Python, as in "set api='chat'".
_SET = re.compile(r"\bset (\w+)(?:=| to )'(\w+)'")


def complain_about(error: RegistryError | WorkerError) -> None:
    """Print an expected error on standard error, one problem a line."""
    if isinstance(error, ConfigError):
        problems = [config_problem(problem) for problem in error.problems]
        if len(problems) == 1:
            complain(problems[0])
        else:
            complain(f"{error.name} cannot be used", problems)
    else:
        complain(in_our_words(str(error)))


def in_our_words(text: str) -> str:
    """Return an error's text with advice for the command line instead of for Python."""
    text = text.replace("; in a running process call registry.refresh() after that", "")
    text = _GET.sub(r"\1", text)
    text = _SET_KEY.sub(r"Set \2", text)
    text = _KEY_OF_ANOTHER.sub(r"the server that \1 names. Set \1 to the address of this one", text)
    return _SET.sub(lambda found: f"use --option {found[1]}={found[2]}", text)


def in_words_of_the_file(text: str) -> str:
    """Return an error's text with advice for a workers file, where adapters have their options."""
    text = _SET_KEY.sub(r"In the workers file, set secrets = { \1 = ... }", text)
    return _SET.sub(lambda found: f"set {found[1]} = {found[2]!r} in the workers file", text)


def option_name(field: str) -> str:
    """Return the command line's name for an option of an adapter or a field of a task."""
    return _OPTIONS.get(field, f"--option {field}")


def task_problem(error: InvalidRequest) -> str:
    """Return an error about a field of a task, with the name of the option that sets it."""
    field = (error.field or "").partition("[")[0].partition(".")[0]
    message = error.message.replace(" (or None)", "")
    if field in _OPTIONS and message.startswith(field):
        return _OPTIONS[field] + message.removeprefix(field)
    return message


def config_problem(problem: Problem) -> str:
    """Return a problem with an adapter's option, with the name of the option that sets it."""
    option = problem.path.removeprefix("$.")
    if option == problem.path:  # the options as a whole, or a place in a file
        return in_our_words(str(problem))
    name = option_name(option)
    if problem.kind == "missing":
        advice = problem.message.removeprefix("missing; ")
        name += "=..." if name.startswith("--option ") else ""
        return f"{name} is needed: {advice.replace(f'set {option}=...', 'give it here')}"
    return f"{name}: {in_our_words(problem.message)}"
