"""`python -m tests.benchmarks.gateway`: our gateway beside other ones, in one run.

Every gateway stands before the same scripted engine. A client in this process sends the same
requests to each in turn; what counts is the CPU time of the gateway's processes. Peers that are
not installed are left out: `vllm-router` and `smg` from a folder of programs (`--peers`), nginx
from the system, LiteLLM (1.106.2) from `--litellm`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import attrs

from tests.benchmarks.chat_engine import MARK, MODEL, chat_engine

TICKS = os.sysconf("SC_CLK_TCK")
DIRECT, OURS = "direct", "worker-adapters"
MAX_OFF_S = 0.05
"""How far coarse and exact counts may differ; if they do more, threads have ended meanwhile."""

HEAVY = "litellm"
"""It takes a hundred times as long as the others, so it gets a tenth of the work."""


# The gateways


@attrs.frozen
class Peer:
    """A gateway that can be started.

    Args:
        name: Its name in the report.
        command: Starts it, from its own port, the engine's port, and a folder of its own.
    """

    name: str
    command: Callable[[int, int, Path], list[str]]


def _ours(port: int, engine: int, folder: Path) -> list[str]:
    (folder / "workers.toml").write_text(
        f'[[replicas]]\npool = "{MODEL}"\nreplica = "r0"\nadapter = "openai-http"\n'
        f'options = {{ base_url = "http://127.0.0.1:{engine}" }}\nlimit = 1000\n'
    )
    arguments = ["gateway", "-w", str(folder / "workers.toml"), "-p", str(port), "--no-access-log"]
    return [sys.executable, "-m", "registry.cli", *arguments]


def _nginx(port: int, engine: int, folder: Path) -> list[str]:
    (folder / "nginx.conf").write_text(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; upstream e {{ server 127.0.0.1:{engine}; keepalive 64; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://e; "
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }\n'
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _router(program: str) -> Callable[[int, int, Path], list[str]]:
    def command(port: int, engine: int, folder: Path) -> list[str]:
        url = f"http://127.0.0.1:{engine}"
        launch = ["launch"] if program.endswith("smg") else []
        listen = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(_free())]
        return [program, *launch, "--worker-urls", url, *listen, "--log-level", "error"]

    return command


def _litellm(program: str) -> Callable[[int, int, Path], list[str]]:
    def command(port: int, engine: int, folder: Path) -> list[str]:
        model = {"model_name": MODEL, "litellm_params": {"model": f"openai/{MODEL}"}}
        model["litellm_params"] |= {"api_base": f"http://127.0.0.1:{engine}/v1", "api_key": "x"}  # type: ignore[operator]
        keyless = {"dangerously_permit_weak_or_unset_master_key": True}
        config = {"model_list": [model], "general_settings": keyless}
        (folder / "litellm.json").write_text(json.dumps(config))
        return [program, "--config", str(folder / "litellm.json"), "--port", str(port)]

    return command


def _peers(folder: Path | None, litellm: str | None) -> list[Peer]:
    found = [Peer(OURS, _ours)]
    for name in ("vllm-router", "smg"):
        program = None if folder is None else shutil.which(name, path=str(folder))
        if program is not None:
            found.append(Peer(name, _router(program)))
    if shutil.which("nginx"):
        found.append(Peer("nginx", _nginx))
    if litellm is not None:
        found.append(Peer(HEAVY, _litellm(litellm)))
    return found


def _free() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _started(peer: Peer, engine: int) -> Iterator[tuple[int, int]]:
    """Run a gateway; yield its port and its process id."""
    port = _free()
    with tempfile.TemporaryDirectory() as name, open(os.devnull, "wb") as nothing:
        command = peer.command(port, engine, Path(name))
        with subprocess.Popen(command, stdout=nothing, stderr=nothing) as process:
            try:
                _await_ready(peer.name, port, process)
                yield port, process.pid
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _await_ready(name: str, port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, AssertionError, asyncio.IncompleteReadError, ValueError):
            asyncio.run(asyncio.wait_for(_ask(port, 1), 5))
            return
        sleep(0.1)
    raise SystemExit(f"{name} did not start")


# Requests


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tokens: int, pause_us: int
) -> tuple[float, int]:
    """Send a request on a kept connection; return the seconds to the first token, and tokens."""
    body = json.dumps(
        {
            "model": MODEL,
            "stream": True,
            "max_tokens": tokens,
            "seed": pause_us,
            "messages": [{"role": "user", "content": "hi"}],
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer sk-1\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    began = perf_counter()
    writer.write(head.encode() + body)
    status = await reader.readline()
    assert b" 200 " in status, status
    await reader.readuntil(b"\r\n\r\n")
    first, seen, carry = 0.0, 0, b""
    while size := int(await reader.readline(), 16):
        data = carry + (await reader.readexactly(size + 2))[:-2]
        carry = data[1 - len(MARK) :]  # a proxy may cut anywhere
        count = data.count(MARK)
        if count and not seen:
            first = perf_counter() - began
        seen += count
    await reader.readline()
    assert seen == tokens, seen
    return first, seen


async def _ask(port: int, tokens: int, pause_us: int = 0) -> float:
    reader, writer = await _open(port)
    try:
        return (await _one(reader, writer, tokens, pause_us))[0]
    finally:
        writer.close()


async def _sequential(port: int, requests: int) -> list[float]:
    reader, writer = await _open(port)
    try:
        return [(await _one(reader, writer, 1, 0))[0] for _ in range(requests)]
    finally:
        writer.close()


async def _paced(port: int, streams: int, tokens: int) -> list[float]:
    return await asyncio.gather(*(_ask(port, tokens, 20_000) for _ in range(streams)))


async def _unpaced(port: int, tokens: int) -> list[float]:
    return [await _ask(port, tokens)]


# Measuring


def _cpu_s(pid: int) -> tuple[float, float]:
    """Return the CPU seconds of a process and its descendants: exact, and with ended threads.

    The exact ones are in nanoseconds, of the threads that are alive. The others are in hundredths
    of a second, too coarse for the fastest gateways.
    """
    exact, coarse = 0, 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(") ")[2].split()
            coarse += int(fields[11]) + int(fields[12])
        for thread in Path(f"/proc/{each}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                exact += int(thread.read_text().split()[0])
    return exact / 1e9, coarse / TICKS


def _rss_mb(pid: int) -> float:
    total = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{each}/status").read_text())
            total += int(found[1]) if found else 0
    return total / 1024


def _family(pid: int) -> list[int]:
    family = [pid]
    for each in family:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{each}/task/{each}/children").read_text()
            family += map(int, text.split())
    return family


def _measure(
    port: int, pid: int | None, work: Callable[[int], Awaitable[list[float]]]
) -> tuple[float, list[float]]:
    before = (0.0, 0.0) if pid is None else _cpu_s(pid)

    async def run() -> list[float]:
        return await work(port)

    first = asyncio.run(run())
    if pid is None:
        return 0.0, first
    exact, coarse = (now - then for now, then in zip(_cpu_s(pid), before, strict=True))
    return coarse if coarse - exact > MAX_OFF_S else exact, first


def _figures(name: str, port: int, pid: int | None, scale: float) -> dict[str, float]:
    share = 0.1 if name == HEAVY else 1.0
    requests, streams, tokens = round(1000 * scale * share), 50, round(100 * scale)
    burst = round(60_000 * scale * share) // 20 * 20
    request_cpu, first = _measure(port, pid, lambda p: _sequential(p, requests))
    paced_cpu, _ = _measure(port, pid, lambda p: _paced(p, streams, tokens))
    burst_cpu, _ = _measure(port, pid, lambda p: _unpaced(p, burst))
    return {
        "first_ms": 1000 * median(first),
        "request_ms": 1000 * request_cpu / requests,
        "paced_us": 1e6 * paced_cpu / (streams * tokens),
        "unpaced_us": 1e6 * burst_cpu / burst,
        "rss_mb": 0.0 if pid is None else _rss_mb(pid),
    }


def main() -> None:
    """Measure every gateway in turn, several times; print the least of the rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gateway", description=__doc__)
    parser.add_argument("--peers", type=Path, help="a folder with vllm-router and smg")
    parser.add_argument("--litellm", help="the program litellm of version 1.106.2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, 1 for all")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    with chat_engine() as engine, contextlib.ExitStack() as stack:
        ports: dict[str, tuple[int, int | None]] = {DIRECT: (engine, None)}
        for peer in _peers(options.peers, options.litellm):
            ports[peer.name] = stack.enter_context(_started(peer, engine))
        for _ in range(options.rounds):
            for name, (port, pid) in ports.items():
                rows.setdefault(name, []).append(_figures(name, port, pid, options.scale))
    best = {
        name: {key: min(r[key] for r in found) for key in found[0]} for name, found in rows.items()
    }
    print(f"{'':18}{'first ms':>10}{'request ms':>12}{'paced us':>10}{'unpaced us':>12}{'MB':>7}")
    for name, figures in best.items():
        cells = [figures[key] for key in ("first_ms", "request_ms", "paced_us", "unpaced_us")]
        first, request, paced, unpaced = cells
        print(
            f"{name:18}{first:10.2f}{request:12.3f}{paced:10.1f}{unpaced:12.1f}"
            f"{figures['rss_mb']:7.0f}"
        )
    _print_ratios(best)


def _print_ratios(best: dict[str, dict[str, Any]]) -> None:
    ours = best[OURS]
    for name, figures in best.items():
        if name not in (OURS, DIRECT):
            ratios = [f"{key} {ours[key] / figures[key]:.2f}" for key in figures if figures[key]]
            print(f"ours to {name}: {', '.join(ratios)}")
    print(f"first token over direct: +{ours['first_ms'] - best[DIRECT]['first_ms']:.2f} ms")


if __name__ == "__main__":
    main()
