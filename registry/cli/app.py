"""The commands of `worker-adapters`."""

import asyncio
import json
import sys
from typing import Annotated, Any

import attrs
import typer

import registry
from adapter_api import HealthState, HealthStatus, TaskRequest
from registry.cli import status
from registry.cli.demo import demo as run_demo
from registry.cli.options import adapter_options
from registry.cli.show import show_rows
from registry.cli.submit import run_job

app = typer.Typer(
    help="One contract for any LLM engine: list adapters, stream from them, check their health.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AdapterOption = Annotated[
    str, typer.Option("--adapter", help="The adapter's name, or distribution:name.")
]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        help="The server's address. Without it and --option, the adapter is configured from the "
        "environment (ORCHD_OPENAI_URL, ...). A key always comes from there."
    ),
]
OptionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="Another option of the adapter; repeatable."
    ),
]


def _options(adapter: str, base_url: str | None, pairs: list[str] | None) -> dict[str, Any]:
    options = adapter_options(adapter, base_url, pairs or [])
    if options:
        options = _with_secrets_of_environment(adapter, options)
    return options


def _with_secrets_of_environment(adapter: str, options: dict[str, Any]) -> dict[str, Any]:
    """A key on the command line would be seen by everybody on the machine: it comes from the
    environment even where the rest is typed."""
    import os

    for field in registry.describe(adapter).config_fields:
        if field.secret and field.env and field.name not in options and os.environ.get(field.env):
            options[field.name] = os.environ[field.env]
    return options


@app.command("list")
def list_adapters() -> None:
    """List the installed adapters: name, distribution, version, status."""
    with status.clear_errors():
        infos = [registry.describe(name) for name in registry.names()]
    show_rows(
        ("name", "distribution", "version", "status"),
        [
            (
                i.name,
                i.distribution,
                i.version,
                i.status if i.status == "ok" else f"{i.status}: {i.reason}",
            )
            for i in infos
        ],
    )


@app.command()
def describe(name: Annotated[str, typer.Argument(help="The adapter's name.")]) -> None:
    """Show an adapter's origin and options: type, default, environment variable, meaning."""
    with status.clear_errors():
        info = registry.describe(name)
    print(f"{info.name}: {info.distribution} {info.version}, {info.target}, {info.status}")
    if info.status != "ok":
        status.complain(info.reason)
        raise typer.Exit(status.NO_ADAPTER)
    show_rows(
        ("option", "type", "default", "environment", "meaning"),
        [
            (f.name, f.type, "required" if f.required else f.default or "", f.env or "", f.help)
            for f in info.config_fields
        ],
    )


@app.command()
def submit(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    adapter: AdapterOption = "openai-http",
    base_url: BaseUrlOption = None,
    option: OptionOption = None,
    model: Annotated[str | None, typer.Option(help="The engine's name of the model.")] = None,
    max_tokens: Annotated[int, typer.Option(help="The most tokens to generate.")] = 256,
    temperature: Annotated[float | None, typer.Option(help="0 or more.")] = None,
    top_p: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the answer repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text to end at; repeatable.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds for everything.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send the prompt as a chat message.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Print JSON frames, one a line.")
    ] = False,
) -> None:
    """Run one job and stream its text.

    Exit status: 0 the answer is whole, 1 the job failed, 2 wrong usage or configuration, 3 no such
    adapter, 130 cancelled by Ctrl-C.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    with status.clear_errors():
        task = TaskRequest(
            model=model,
            prompt=None if chat else text,
            messages=[{"role": "user", "content": text}] if chat else None,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=stop or (),
            deadline_s=deadline,
        )
        code = run_job(adapter, _options(adapter, base_url, option), task, frames=frames)
    raise typer.Exit(code)


@app.command()
def health(
    adapter: AdapterOption = "openai-http",
    base_url: BaseUrlOption = None,
    option: OptionOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say how the engine is. Exit status: 0 ready, 1 not ready."""

    async def check() -> HealthStatus:
        async with registry.get(adapter, **_options(adapter, base_url, option)) as bound:
            return await bound.health()

    with status.clear_errors():
        found = asyncio.run(check())
    if as_json:
        print(json.dumps(attrs.asdict(found)))
    else:
        latency = "" if found.latency_ms is None else f" ({found.latency_ms:.0f} ms)"
        print(f"{found.state}: {found.message or 'no details'}{latency}")
    ready = found.ready and found.state is not HealthState.UNHEALTHY
    raise typer.Exit(status.OK if ready else status.JOB_FAILED)


@app.command()
def demo() -> None:
    """Stream from a toy engine over real HTTP; needs nothing else installed."""
    with status.clear_errors():
        code = run_demo()
    raise typer.Exit(code)
