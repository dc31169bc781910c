"""`python -m tests.adapter_api.conformance.examine NAME [CHECK...]`: the checks an adapter fails.

In a process of its own, as an examination waits more than it works, and several can run at once.
"""

import configparser
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from adapter_api.conformance import CHECKS, Report, examine, with_needs
from adapter_api.conformance.checks import down
from adapter_api.conformance.report import failures
from adapter_api.faults import Script, scripted_engine
from registry import BoundAdapter, Registry
from tests.adapter_api.conformance.engines import chat, messages

ROOT = Path(__file__).parents[3]
ENGINES: dict[str, Script] = {
    "wrong_messages": messages,
    "wrong_lines": partial(chat, kind="application/json"),
}
"""The engines of adapters of other protocols, by the adapter's module."""

WRONG = ROOT / "tests" / "distributions" / "wrong_adapters"


ELSEWHERE_LIMIT_S = 400
"""Twenty times what an examination takes on an idle machine."""


def offered() -> dict[str, str]:
    """Return the module of each sample adapter, by name."""
    parser = configparser.ConfigParser()
    parser.read(next(WRONG.glob("*.dist-info")) / "entry_points.txt")
    return {name: target.partition(":")[0] for name, target in parser["worker_adapters"].items()}


def examined(name: str, *checks: str) -> Report:
    """Examine a sample adapter, with these checks and what they need, or with all."""
    registry = Registry()

    def make(**options: Any) -> BoundAdapter:
        return registry.get(name, options)

    chosen = with_needs(checks) if checks else CHECKS
    script = ENGINES.get(offered().get(name, ""))
    with nullcontext() if script is None else scripted_engine(script) as engine_url:
        return examine(make, engine_url=engine_url, checks=chosen)


def failures_elsewhere(name: str) -> list[str]:
    """Return the checks that the sample adapter fails, examined in another process."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, name],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (WRONG, ROOT)))},
        capture_output=True,
        text=True,
        check=False,
        timeout=ELSEWHERE_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    down.DOWN_LIMIT_S = 2.0
    print(json.dumps(failures(examined(*sys.argv[1:]).results)))
