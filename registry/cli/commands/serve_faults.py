"""`serve-faults`: the faults of the conformance kit, for any HTTP client."""

import asyncio
import contextlib
import json
import signal
from typing import Annotated

import typer

from adapter_api.faults import SCENARIOS, Connection, FaultServer, Request, Scenario
from registry.cli.terminal import status
from registry.cli.terminal.arguments import Host, Json, Port, cannot_listen
from registry.cli.terminal.command import Action, Command
from registry.cli.terminal.show import show_rows
from registry.cli.terminal.streams import say
from registry.cli.terminal.text import harmless

EXAMPLE = "fin-after-tokens"


def serve_faults(
    host: Host = "127.0.0.1",
    port: Port = 0,
    fault_gets: Annotated[
        bool, typer.Option("--fault-gets", help="GET requests get the fault too, not a model list.")
    ] = False,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults instead.")] = False,
    as_json: Json = False,
) -> Action:
    """Run a server that misbehaves on purpose; the first segment of a path names the fault."""

    def action() -> int:
        if list_faults:
            return list_all_faults(as_json=as_json)
        try:
            return asyncio.run(_serve(host, port, fault_gets=fault_gets))
        except OSError as error:
            raise cannot_listen(host, port, error) from error

    return action


COMMAND = Command(
    "serve-faults",
    serve_faults,
    ("worker-adapters serve-faults --list", "worker-adapters serve-faults --port 9000"),
)


def list_all_faults(*, as_json: bool) -> int:
    """Print the faults and the outcome of a sound client for each. Return the exit status."""
    faults = SCENARIOS.values()
    if as_json:
        say(json.dumps([_described(fault) for fault in faults], indent=2, ensure_ascii=False))
    else:
        rows = [(f.name, f.summary, str(f.expect).replace("`", "")) for f in faults]
        show_rows(("fault", "the server", "outcome in a correct client"), rows)
    return status.OK


def _described(fault: Scenario) -> dict[str, object]:
    expect = fault.expect
    return {
        "name": fault.name,
        "server": fault.summary,
        "jobs": fault.jobs,
        "task": dict(fault.task),
        "whole": expect.proof is not None,
        "proof": expect.proof,
        "codes": sorted(expect.codes),
        "text": expect.text,
        "requests": expect.requests,
        "retry_after_ms": expect.retry_after_ms,
        "after_s": expect.after_s,
        "closes": expect.closes,
    }


async def _serve(host: str, port: int, *, fault_gets: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    lab = FaultServer(host=host, port=port, fault_gets=fault_gets, on_end=_tell)
    # A script fails on leaving if a client sent something outside of its protocol.
    with contextlib.suppress(ExceptionGroup):
        await _until(stop, lab)
    return status.OK


async def _until(stop: asyncio.Event, lab: FaultServer) -> None:
    async with lab as server:
        say(f"{len(SCENARIOS)} faults at {server.base_url}/<fault>, for any client:")
        say(f"  base URL {server.url(EXAMPLE)} (or .../{EXAMPLE}/v1)")
        say("--list lists them; Ctrl-C ends the server")
        await stop.wait()


def _tell(request: Request, connection: Connection) -> None:
    """Print how a request ended, on one line."""
    if connection.closed_by_client_at is not None:
        end = f"the client closed the connection, {connection.refused_bytes} bytes too early"
        end = end if connection.refused_bytes else "the client closed the connection"
    elif connection.closed_by_server_at is not None:
        end = "the server closed the connection"
    else:
        end = "answered"
    path = harmless(request.target)
    say(f"{request.method} {path} on connection {connection.number}: {end}")
