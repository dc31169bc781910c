"""The commands of `worker-adapters`, as typer sees them.

Each function reads what was typed and returns what is to be done. That is done outside of typer,
which would otherwise see interruptions and closed pipes first, and exit in its own ways.
"""

import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from adapter_api import InvalidRequest, TaskRequest
from registry.cli.commands.catalogue import describe_one, list_all
from registry.cli.commands.check import check
from registry.cli.commands.conformance import conformance
from registry.cli.commands.demo import run_demo
from registry.cli.commands.explain import explain
from registry.cli.commands.faults import serve_faults
from registry.cli.commands.health import check_health
from registry.cli.commands.new_adapter import new_adapter
from registry.cli.commands.pools import run_in_pool
from registry.cli.commands.probe import run_probe
from registry.cli.commands.record import record
from registry.cli.commands.serve import serve
from registry.cli.commands.submit import run_job
from registry.cli.commands.top import top
from registry.cli.terminal import status
from registry.cli.terminal.options import Action, get_adapter
from registry.cli.terminal.status import UsageError

PROGRAM = "worker-adapters"

# typer exports the leaves of click's exceptions only, and newer ones bring a click of their own.
_ClickException: Any = next(
    cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException"
)

_Adapter = Annotated[
    str, typer.Option("--adapter", help="The adapter's name, or distribution:name.")
]
_BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="The server's address. What is not typed comes from the environment "
        "(ORCHD_OPENAI_URL, ...); an API key only from there (ORCHD_OPENAI_API_KEY).",
    ),
]
_Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="Any other option of the adapter, as `describe` lists them; repeatable.",
    ),
]


def run_app(arguments: Sequence[str]) -> int:
    """Run what was typed; returns the exit status.

    Raises:
        RegistryError, WorkerError, UsageError: For the caller to show.
    """
    try:
        action = _app()(list(arguments) or ["--help"], prog_name=PROGRAM, standalone_mode=False)
    except _ClickException as error:
        command = error.ctx.command_path if getattr(error, "ctx", None) else PROGRAM
        raise UsageError(f"{error.format_message().rstrip('.')}; see {command} --help") from None
    return action() if callable(action) else status.OK  # after --help there is nothing to do


def _app() -> typer.Typer:
    app = typer.Typer(
        help="One contract for any LLM engine: list adapters, stream from them, check engines.",
        epilog=status.MEANINGS,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Boxes are for people.
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
    )
    app.callback()(_common)
    app.command("list")(_list)
    app.command("describe")(_describe)
    app.command("check", epilog=status.MEANINGS)(check)
    app.command("conformance", epilog=status.MEANINGS)(conformance)
    app.command("new-adapter")(new_adapter)
    app.command("submit", epilog=status.MEANINGS)(_submit)
    app.command("health", epilog=status.MEANINGS)(_health)
    app.command("probe", epilog=status.MEANINGS)(_probe)
    app.command("serve", epilog=status.MEANINGS)(serve)
    app.command("top", epilog=status.MEANINGS)(top)
    app.command("explain", epilog=status.MEANINGS)(explain)
    app.command("demo")(_demo)
    app.command("record", epilog=status.MEANINGS)(record)
    app.command("serve-faults", epilog=status.MEANINGS)(serve_faults)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {version('worker-adapters')}")
        raise typer.Exit


def _common(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def _list() -> Action:
    """List the installed adapters: name, distribution, version, status."""
    return list_all


def _describe(name: Annotated[str, typer.Argument(help="The adapter's name.")]) -> Action:
    """Show an adapter's origin and options: type, default, environment variable, meaning."""
    return partial(describe_one, name)


def _submit(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    adapter: _Adapter = "openai-http",
    base_url: _BaseUrl = None,
    model: Annotated[str | None, typer.Option(help="The engine's name of the model.")] = None,
    max_tokens: Annotated[int, typer.Option(help="The most tokens to generate.")] = 256,
    temperature: Annotated[float | None, typer.Option(help="0 or more.")] = None,
    top_p: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the answer repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text to end at; repeatable.")] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Seconds for everything, from submit to the last token.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send the prompt as a user's chat message.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Print events as JSON frames, one a line.")
    ] = False,
    option: _Option = None,
    workers: Annotated[
        Path | None, typer.Option(help="A workers file, instead of --adapter and its options.")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Which pool of --workers.")] = None,
) -> Action:
    """Run one job and stream its text to standard output."""
    if workers is None and pool is not None:
        raise UsageError("--pool needs the workers file that declares it: --workers FILE")
    if workers is not None and (base_url is not None or option):
        raise UsageError("with --workers, addresses and options come from that file")

    def action() -> int:
        text = _read(prompt)
        try:
            task = TaskRequest(
                model=model,
                prompt=None if chat else text,
                messages=[{"role": "user", "content": text}] if chat else None,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                stop=stop,
                deadline_s=deadline,
            )
        except InvalidRequest as error:
            raise UsageError(error.message) from None
        if workers is not None:
            return run_in_pool(workers, pool, task, frames=frames)
        return run_job(get_adapter(adapter, base_url, option or []), task, frames=frames)

    return action


def _health(
    adapter: _Adapter = "openai-http",
    base_url: _BaseUrl = None,
    option: _Option = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> Action:
    """Say how the engine is; status 0 if it accepts work, 1 if not."""
    return lambda: check_health(get_adapter(adapter, base_url, option or []), as_json=as_json)


def _probe(
    base_url: Annotated[
        str | None, typer.Argument(help="The server's address; without it, the environment's.")
    ] = None,
    adapter: _Adapter = "openai-http",
    model: Annotated[str | None, typer.Option(help="The model to ask for.")] = None,
    option: _Option = None,
) -> Action:
    """Find out what a server does, by small jobs: what it serves, counts and refuses."""
    return lambda: run_probe(get_adapter(adapter, base_url, option or []), model)


def _demo() -> Action:
    """Stream from a toy engine over real HTTP; needs nothing else installed."""
    return run_demo


def _read(prompt: str) -> str:
    try:
        text = sys.stdin.read() if prompt == "-" else prompt
        text.encode()  # bytes that are no text arrive as half surrogates
    except UnicodeError:
        raise UsageError("the prompt is not valid text in this locale's encoding") from None
    return text
