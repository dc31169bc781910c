"""`python -m tests.benchmarks`: ratios measured in one run, never absolute times.

Every client runs interleaved with the others against one loopback server in another process; a
ratio is printed only if both sides produced the same text. Needs the extra `[bench]`; peers that
are not installed are left out.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

from tests.benchmarks import instructions, startup
from tests.benchmarks.goals import FLOOR, OPENAI, OURS, judge, judge_startup
from tests.benchmarks.measure import Scenario, client_names, installed, measure
from tests.benchmarks.report import as_json, as_svg, line, table
from tests.benchmarks.server import loopback_server

_ALL = client_names()
_LIGHT = (FLOOR, OURS, "aiohttp", "httpx-aiohttp", OPENAI)
_CLIENTS = (*_LIGHT, "httpx + httpx-sse")

FULL = (
    Scenario("long", _ALL, {"tokens": 20_000}),
    Scenario("paced", _CLIENTS, {"streams": 200, "tokens": 40, "pause_ms": 50}),
    Scenario("latency", _LIGHT, {"streams": 1_000, "tokens": 15, "pause_ms": 200}),
    Scenario("first", _ALL, {"requests": 200}),
    Scenario("jobs", _CLIENTS, {"requests": 400, "at_once": 8}),
    Scenario("rows", (OURS, OPENAI), {"requests": 2_000, "at_once": 32}),
    Scenario("burst", (OURS,), {"sizes": (10, 500), "rounds": 3}),
    Scenario("memory", _LIGHT, {"streams": 500}, fresh=True, rounds=3),
    Scenario("growth", (OURS,), {"requests": 10_000}, fresh=True, rounds=3),
    Scenario("slow", (OURS,), {"seconds": 2.0}, rounds=3),
)
_SHORT = (FLOOR, OURS, OPENAI)
SHORT = (
    Scenario("long", _SHORT, {"tokens": 4_000}),
    Scenario("paced", _SHORT, {"streams": 50, "tokens": 15, "pause_ms": 20}),
    Scenario("first", _SHORT, {"requests": 50}),
    Scenario("jobs", _SHORT, {"requests": 100, "at_once": 4}),
    Scenario("rows", (OURS, OPENAI), {"requests": 300, "at_once": 16}),
    Scenario("burst", (OURS,), {"sizes": (10, 200), "rounds": 1}),
)


def main() -> int:
    """Measure, print, and compare with the goals."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="a quick check; fails only beyond wide margins"
    )
    parser.add_argument("--rounds", type=int, help="how often each client is measured")
    parser.add_argument("--only", help="scenarios to run, with commas between them")
    parser.add_argument("--output", type=Path, help="a directory for benchmarks.json and .svg")
    parser.add_argument(
        "--instructions", action="store_true", help="count instructions with valgrind; takes long"
    )
    options = parser.parse_args()
    short = options.short
    rounds = options.rounds or (3 if short else 7)
    clients, lacking = installed()
    for name, modules in lacking.items():
        print(f"left out: {name} (not installed: {', '.join(modules)})")

    wanted = [
        scenario
        for scenario in (SHORT if short else FULL)
        if not options.only or scenario.name in options.only.split(",")
    ]
    counted: dict[str, float | None] = {}
    with loopback_server() as base:
        samples = measure(wanted, base, rounds, clients)
        if options.instructions and instructions.available():
            counted = {name: instructions.per_token(name, base) for name in clients}
    findings = judge(samples)
    begin: dict[str, object] = {}
    if not options.only or "startup" in options.only.split(","):
        imports = startup.fresh_cpu(startup.IMPORTS, rounds)
        names = startup.names_cpu(100 if short else 400, rounds)
        gets = startup.get_s(rounds)
        findings += judge_startup(imports, names, gets)
        begin = {"imports": imports, "names": names, "get_s": gets}

    for finding in findings:
        print(line(finding))
    print("\n".join(table(samples)))
    if counted.get(FLOOR):
        print("\ninstructions per token, each in a read of its own, to the floor's:")
        for name, count in counted.items():
            print(f"  {name:20} {count / counted[FLOOR] if count else float('nan'):8.2f}")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        about = {"python": platform.python_version(), "machine": platform.machine()}
        told = as_json(findings, samples, {**begin, "instructions": counted}, about)
        (options.output / "benchmarks.json").write_text(json.dumps(told, indent=1) + "\n")
        (options.output / "benchmarks.svg").write_text(as_svg(samples))
    if not short:
        return 1 if any(finding.refused for finding in findings) else 0
    failed = [finding for finding in findings if finding.fails_ci]
    for finding in failed:
        print(f"FAILED: {finding.goal.title}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
