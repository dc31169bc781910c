"""`gateway`: OpenAI's API over pools of engines, with a dashboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli.terminal import status
from registry.cli.terminal.arguments import Drain, Handoff, Host, Port, Workers
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.packages import need_gateway, need_otel
from registry.cli.terminal.status import UsageError
from registry.cli.terminal.streams import say

if TYPE_CHECKING:
    from registry.gateway.run import GatewayPlan


def gateway(
    context: typer.Context,
    workers: Workers = None,
    handoff: Handoff = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys", "-k", metavar="FILE", help="The key file; `gateway key` makes keys."
        ),
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Listen beyond this machine without keys.")
    ] = False,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=POOL", help="One more model name for a pool; repeatable."),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Allow web pages of this origin; repeatable."),
    ] = None,
    keep_alive: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Silence before a comment is sent; 0: never."),
    ] = 15.0,
    stall: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="How long a client may take to read; 0: any time."
        ),
    ] = 60.0,
    break_off: Annotated[
        bool, typer.Option("--break-off", help="Break the connection where a stream fails.")
    ] = False,
    max_body: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="The largest body of a request.")
    ] = 64 << 20,
    notice: Annotated[
        float,
        typer.Option(
            min=0, metavar="SECONDS", help="Time of not-ready before new requests are refused."
        ),
    ] = 0.0,
    drain: Drain = 30.0,
    access_log: Annotated[
        bool, typer.Option(help="Log each request on standard error, as JSON.")
    ] = True,
    otel: Annotated[
        bool, typer.Option("--otel", help="Make traces and metrics with OpenTelemetry.")
    ] = False,
) -> Action:
    """Serve OpenAI's API over pools of engines, with failover, keys and a dashboard.

    Any client of OpenAI's API works: set its base URL to http://127.0.0.1:8080/v1. Without files
    there is one replica: the one that ORCHD_OPENAI_URL and the related variables describe. The
    dashboard is at
    http://127.0.0.1:8080/.
    """
    if context.invoked_subcommand is not None:
        return _nothing

    def action() -> int:
        need_gateway()
        from registry.cli.terminal.serving import run_gateway
        from registry.gateway.run import GatewayPlan
        from registry.gateway.server import ServerSettings
        from registry.gateway.settings import Settings, is_origin

        for origin in cors or ():
            if not is_origin(origin):
                raise UsageError(
                    f"--cors must be an origin such as https://chat.example.org, or *, "
                    f"got {origin!r}"
                )
        settings = Settings(
            aliases=_aliases(alias or []),
            max_body_bytes=max_body,
            keep_alive_s=keep_alive,
            stall_s=stall,
            break_off=break_off,
            cors_origins=tuple(cors or ()),
            access_log=access_log,
            trace_context=otel,
        )
        server = ServerSettings(host=host, port=port, notice_s=notice, grace_s=drain)
        plan = GatewayPlan(
            workers=workers,
            handoff=handoff,
            keys=keys,
            no_auth=no_auth,
            settings=settings,
            server=server,
        )
        return run_gateway(_traced(plan) if otel else plan)

    return action


def key(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the key in the file and the logs.")
    ],
    keys: Annotated[
        Path | None, typer.Option("--keys", "-k", metavar="FILE", help="The key file to add it to.")
    ] = None,
) -> Action:
    """Make a key for a client. The key is shown once; the file gets only its hash."""

    def action() -> int:
        need_gateway()
        from registry.gateway.key_file import add_key

        try:
            made, lines = add_key(name, keys)
        except OSError as error:
            raise UsageError(f"--keys: {keys}: {error.strerror or error}") from error
        except ValueError as error:
            raise UsageError(str(error)) from error
        say(made)
        if keys is None:
            status.note("add these lines to the key file:", lines.splitlines())
        else:
            status.note(f"{keys} has the key's hash; the key is not shown again")
        return status.OK

    return action


def _traced(plan: "GatewayPlan") -> "GatewayPlan":
    need_otel()
    from registry.observers.otel import OpenTelemetryObserver

    return plan.with_observer(OpenTelemetryObserver())


def _nothing() -> int:
    return status.OK


def _aliases(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, separator, pool = pair.partition("=")
        if not (name and separator and pool):
            raise UsageError(f"--alias must be MODEL=POOL, got {pair!r}")
        found[name] = pool
    return found


COMMAND = Command(
    "gateway",
    gateway,
    (
        "worker-adapters gateway --workers workers.toml",
        "worker-adapters gateway key laptop --keys keys.toml",
        "worker-adapters gateway -w workers.toml --host 0.0.0.0 --keys keys.toml",
    ),
    (Command("key", key, ("worker-adapters gateway key laptop --keys keys.toml",)),),
)
