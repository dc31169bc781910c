"""The commands of `worker-adapters`, registered with typer.

A command's function reads its arguments and returns an Action. The action runs outside of typer,
which would otherwise catch interruptions and closed pipes first and exit in its own ways.
"""

import inspect
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
import typer.core

from adapter_api.keys import without_keys
from registry.cli.terminal import status
from registry.cli.terminal.command import Command
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import own_output

PROGRAM = "worker-adapters"

MODULES = {
    "demo": "demo",
    "list": "list_adapters",
    "describe": "describe",
    "check": "check",
    "doctor": "doctor",
    "submit": "submit",
    "chat": "chat",
    "health": "health",
    "probe": "probe",
    "serve": "serve",
    "gateway": "gateway",
    "batch": "batch",
    "top": "top",
    "explain": "explain",
    "new-adapter": "new_adapter",
    "conformance": "conformance",
    "record": "record",
    "serve-faults": "serve_faults",
}
"""The module of each command, in the order of the help: try, inspect, use, run, extend. A module is
imported only for its own command and for the help."""

# typer exports only the leaves of click's exceptions, and newer versions bring their own click.
_ClickException: Any = next(
    cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException"
)


def run_app(arguments: Sequence[str]) -> int:
    """Parse the arguments and run the command.

    Returns:
        The exit status.

    Raises:
        RegistryError, WorkerError, UsageError: Expected failures, for the caller to show.
    """
    try:
        if not arguments or arguments[0] == "help":  # `help submit` is `submit --help`
            arguments = [*arguments[1:], "--help"]
        app = _app(commands(arguments))
        action = app(list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except _ClickException as error:
        command = error.ctx.command_path if getattr(error, "ctx", None) else PROGRAM
        said = without_keys(error.format_message().rstrip("."))
        said = said[:1].lower() + said[1:]
        stop = "" if said.endswith("?") else ";"
        raise UsageError(f"{said}{stop} see {command} --help") from None
    if not callable(action):  # after --help there is nothing to do
        return status.OK
    with own_output():
        code: Any = action()
        return int(code)


def commands(arguments: Sequence[str] = ()) -> list[Command]:
    """Return the command that the arguments name, or all of them if they name none."""
    words = [word for word in arguments if not word.startswith("-")]
    names = words[:1] if words and words[0] in MODULES else MODULES
    modules = (import_module(f"registry.cli.commands.{MODULES[name]}") for name in names)
    return [module.COMMAND for module in modules]


class _Ordered(typer.core.TyperGroup):
    """Lists its commands in the order of MODULES: typer puts groups behind commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return [name for name in MODULES if name in self.commands]


def _app(commands: Iterable[Command]) -> typer.Typer:
    app = typer.Typer(
        cls=_Ordered,
        help="One contract for any LLM engine: list adapters, stream from them, check engines.",
        epilog=status.MEANINGS,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # boxes cut options off on a narrow terminal
    )
    app.callback()(_common)
    _register(app, commands)
    return app


def _register(app: typer.Typer, commands: Iterable[Command]) -> None:
    for command in commands:
        # Without a short_help, click cuts descriptions off in the list of commands.
        summary = (inspect.getdoc(command.function) or "").partition("\n")[0]
        epilog = _epilog(command)
        if not command.subcommands:
            app.command(command.name, short_help=summary, epilog=epilog)(command.function)
            continue
        group = typer.Typer(
            epilog=epilog,
            short_help=summary,
            invoke_without_command=True,
            rich_markup_mode=None,
        )
        group.callback()(command.function)
        _register(group, command.subcommands)
        app.add_typer(group, name=command.name)


def _epilog(command: Command) -> str:
    if not command.examples:
        return status.MEANINGS
    # "\b" keeps click from wrapping a paragraph.
    examples = "\n".join(f"  {example}" for example in command.examples)
    return f"\b\nExamples:\n{examples}\n\n{status.MEANINGS}"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {version('worker-adapters')}")
        raise typer.Exit


def _common(
    _: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log to standard error, as JSON lines.")
    ] = False,
) -> None:
    if log_json:
        from registry.cli.terminal.logs import log_to_stderr

        log_to_stderr(as_json=True)
