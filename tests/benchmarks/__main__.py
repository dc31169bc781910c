"""`python -m tests.benchmarks`: ratios measured in one run, never absolute times.

Every client runs interleaved with the others against one loopback server in another process; a
ratio is printed only if both sides produced the same text. Needs the extra `[bench]`.
"""

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import time

from tests.benchmarks.clients import CLIENTS, Client
from tests.benchmarks.server import TEXT, loopback_server

# Margins are wide, for a busy machine. docs/explanation/performance.md shows what was seen.
LIMITS = {
    "import registry, adapter_api / import httpx": 0.5,
    "CPU per token, worker-adapters / openai": 1 / 3,
}


async def _cpu_per_token(client: Client, base: str, tokens: int) -> float:
    await client.start(base)
    try:
        began = time.process_time()
        text = await client.stream()
        spent = time.process_time() - began
    finally:
        await client.aclose()
    if text != TEXT * tokens:
        raise SystemExit(f"{client.name} did not produce the text: {len(text)} characters")
    return spent / tokens


def stream_cpu(rounds: int, tokens: int) -> dict[str, float]:
    """Median CPU seconds per token of each client, of one long stream that arrives in bursts."""
    samples: dict[str, list[float]] = {client.name: [] for client in CLIENTS}
    with loopback_server() as port:
        base = f"http://127.0.0.1:{port}/{tokens}/50/0"
        for _ in range(rounds):
            for client in CLIENTS:
                samples[client.name].append(asyncio.run(_cpu_per_token(client(), base, tokens)))
    return {name: statistics.median(values) for name, values in samples.items()}


def _child_cpu(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def import_cpu(rounds: int) -> dict[str, float]:
    """Least CPU seconds of each import, over bare Python."""
    codes = ("pass", "import registry, adapter_api", "import httpx")
    samples: dict[str, list[float]] = {code: [] for code in codes}
    for _ in range(rounds):
        for code in codes:
            samples[code].append(_child_cpu(code))
    bare = min(samples["pass"])
    return {code: min(values) - bare for code, values in samples.items() if code != "pass"}


def main() -> int:
    """Measure, print, and compare with LIMITS."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer rounds, for a quick check")
    short = parser.parse_args().short
    imports = import_cpu(7 if short else 21)
    cpu = stream_cpu(3 if short else 7, 4_000 if short else 20_000)
    ratios = {
        "import registry, adapter_api / import httpx": imports["import registry, adapter_api"]
        / imports["import httpx"],
        "CPU per token, worker-adapters / openai": cpu["worker-adapters"] / cpu["openai"],
        "CPU per token, worker-adapters / floor": cpu["worker-adapters"] / cpu["floor"],
    }
    failed = 0
    for name, ratio in ratios.items():
        limit = LIMITS.get(name)
        bad = limit is not None and ratio > limit
        failed += bad
        note = f"  (at most {limit:.2f})" if limit is not None else ""
        print(f"{name:55} {ratio:6.3f}{note}{'  FAILED' if bad else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
