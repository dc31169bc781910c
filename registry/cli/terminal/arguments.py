"""Options that several commands share, and how they become an adapter's options."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

import registry
from adapter_api.errors import AdapterLoadError
from registry import BoundAdapter
from registry.cli.terminal.status import UsageError
from registry.config.declared import OptionText


def _complete_names(incomplete: str) -> Iterable[str]:
    """Complete the names of installed adapters, from metadata alone."""
    return [name for name in registry.names() if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The adapter's name, or distribution:name.",
        autocompletion=_complete_names,
    ),
]
OptionalName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The adapter's name, or distribution:name.",
        autocompletion=_complete_names,
    ),
]
Adapter = Annotated[
    str,
    typer.Option(
        "--adapter",
        "-a",
        metavar="NAME",
        help="The adapter's name, or distribution:name.",
        autocompletion=_complete_names,
    ),
]
Url = Annotated[
    str | None, typer.Argument(metavar="URL", help="The server's address, as --base-url.")
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        "-u",
        metavar="URL",
        help="The server's address. Options that are not given come from the environment "
        "(ORCHD_OPENAI_URL, ...); an API key only from there (ORCHD_OPENAI_API_KEY).",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="KEY=VALUE",
        help="Any other option of the adapter, as `describe` lists them; repeatable.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="The engine's name of the model."),
]
Workers = Annotated[
    Path | None,
    typer.Option(
        "--workers",
        "-w",
        metavar="FILE",
        help="A workers file, which declares pools and their replicas.",
    ),
]
Pool = Annotated[
    str | None,
    typer.Option("--pool", "-p", metavar="NAME", help="The pool of --workers to use."),
]
Handoff = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="A folder where engines leave handoff files."),
]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="The state folder of a run of `serve`."),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", "-t", metavar="NUMBER", help="The randomness of the answer: 0 or more."
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        "-n",
        metavar="N",
        help="The limit on tokens of an answer; without it, the engine's own.",
    ),
]
System = Annotated[
    str | None, typer.Option("--system", "-s", metavar="TEXT", help="A system message.")
]
JsonSchema = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A JSON schema for the answer, which is then JSON or a failure.",
    ),
]
Drain = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long jobs have to end after Ctrl-C, SIGTERM or SIGHUP.",
    ),
]
Port = Annotated[
    int,
    typer.Option(
        "--port", "-p", min=0, max=65535, metavar="PORT", help="The port; 0 for a free one."
    ),
]
LOOPBACK = "127.0.0.1"
"""Where servers listen unless told otherwise."""

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")]
Json = Annotated[bool, typer.Option("--json", "-j", help="Print JSON.")]


def one_url(url: str | None, base_url: str | None) -> str | None:
    """Return the address that was given, as an argument or as --base-url.

    Raises:
        UsageError: Both were given, and they differ.
    """
    if url is not None and base_url is not None and url != base_url:
        raise UsageError("two addresses were given, URL and --base-url: leave one out")
    return base_url if url is None else url


def is_address(text: str) -> bool:
    """Return whether a word is the address of a server."""
    return text.startswith(("http://", "https://")) and not any(map(str.isspace, text))


def get_adapter(name: str, base_url: str | None, pairs: list[str] | None) -> BoundAdapter:
    """Build the requested adapter.

    Options that are not given come from the environment variables of the adapter's options. A
    secret comes only from there: every user of the machine can see a command line.

    Args:
        name: The adapter's name.
        base_url: The value of --base-url.
        pairs: The values of --option, as KEY=VALUE.

    Raises:
        RegistryError: As registry.get.
        UsageError: If the options cannot be used.
    """
    options = adapter_options(name, base_url, pairs)
    try:
        return registry.get(name, **options)
    except AdapterLoadError as error:
        # A sound adapter can still refuse its options when it is built.
        if isinstance(error.__cause__, ValueError) and registry.describe(name).status == "ok":
            raise UsageError(f"configuration of {name!r}: {error.__cause__}") from error
        raise


def adapter_options(
    name: str, base_url: str | None, pairs: list[str] | None
) -> dict[str, OptionText]:
    """Return the given options for registry.get, which reads them as the types of the options and
    completes them from the environment.

    Args and raises as for get_adapter.
    """
    typed = _typed(base_url, pairs or [])
    fields = registry.describe(name).config_fields if typed else ()
    for field in fields:
        if field.name in typed and field.secret and field.env:
            raise UsageError(
                f"{field.name} is a secret, and every user of this machine can see a command line: "
                f"set {field.env} instead"
            )
    return typed


def cannot_listen(host: str, port: int, error: OSError) -> UsageError:
    """Return the complaint about an address that --host and --port name."""
    # asyncio puts the address and the reason into one text.
    number = error.errno or 0
    why = os.strerror(number) if number in errno.errorcode else error
    options = "--port" if host == LOOPBACK else "--host or --port"
    return UsageError(f"cannot listen on {host}:{port}: {why}; choose another with {options}")


def _typed(base_url: str | None, pairs: Iterable[str]) -> dict[str, OptionText]:
    typed = {} if base_url is None else {"base_url": OptionText(base_url)}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            # The text is not repeated: it may be a key that should stay secret.
            raise UsageError("--option must be KEY=VALUE; one of them has no key or no =")
        if key in typed:
            raise UsageError(f"the option {key} is given twice")
        typed[key] = OptionText(text)
    return typed
