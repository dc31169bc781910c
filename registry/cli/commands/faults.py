"""Serve the faults of the conformance kit to any HTTP client."""

import asyncio
import contextlib
import json
import signal
from typing import Annotated

import typer

from adapter_api.faults import SCENARIOS, Connection, FaultServer, Request, Scenario
from registry.cli.terminal import status
from registry.cli.terminal.options import Action
from registry.cli.terminal.show import show_rows

EXAMPLE = "fin-after-tokens"


def serve_faults(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")] = 0,
    fault_gets: Annotated[
        bool, typer.Option("--fault-gets", help="GET requests get the fault too, not a model list.")
    ] = False,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: as JSON.")] = False,
) -> Action:
    """Run a server that misbehaves on purpose; the first segment of a path names the fault."""

    def action() -> int:
        if list_faults:
            return list_all_faults(as_json=as_json)
        return asyncio.run(_serve(host, port, fault_gets=fault_gets))

    return action


def list_all_faults(*, as_json: bool) -> int:
    """Print the faults, and what a sound client makes of each. Returns the exit status."""
    faults = SCENARIOS.values()
    if as_json:
        print(json.dumps([_described(fault) for fault in faults], indent=2, ensure_ascii=False))
    else:
        rows = [(f.name, f.summary, str(f.expect).replace("`", "")) for f in faults]
        show_rows(("fault", "the server", "a sound client's outcome"), rows)
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
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    lab = FaultServer(host=host, port=port, fault_gets=fault_gets, tell=_tell)
    # A script fails on leaving if it was sent what is not of its protocol: its client's affair.
    with contextlib.suppress(ExceptionGroup):
        await _until(stop, lab)
    return status.TERMINATED


async def _until(stop: asyncio.Event, lab: FaultServer) -> None:
    async with lab as server:
        print(f"{len(SCENARIOS)} faults at {server.base_url}/<fault>, for any client:", flush=True)
        print(f"  base URL {server.url(EXAMPLE)} (or .../{EXAMPLE}/v1)", flush=True)
        print("--list lists them; Ctrl-C ends the server", flush=True)
        await stop.wait()


def _tell(request: Request, connection: Connection) -> None:
    """Print what became of a request, on one line."""
    if connection.closed_by_client_at is not None:
        end = f"the client closed the connection, {connection.refused_bytes} bytes too early"
        end = end if connection.refused_bytes else "the client closed the connection"
    elif connection.closed_by_server_at is not None:
        end = "the server closed the connection"
    else:
        end = "answered"
    path = status.harmless(request.path)
    print(f"{request.method} {path} on connection {connection.number}: {end}", flush=True)
