"""`python -m tests.adapter_api.conformance.examine NAME [http]`: which checks an adapter fails.

In a process of its own, for an examination waits more than it works, and several can wait at once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from adapter_api.conformance import CHECKS, Subject, judge_all
from adapter_api.conformance.lab import FAULT_CHECKS, UNDERSTOOD, HttpSubject, Lab, down
from adapter_api.conformance.report import failures
from registry import BoundAdapter, Registry

ROOT = Path(__file__).parents[3]
WRONG = ROOT / "tests" / "distributions" / "wrong_adapters"

# What HTTP adapters are examined with here: everything but the other chapters of faults.
HTTP_CHECKS = [
    *CHECKS,
    *(
        check
        for check in FAULT_CHECKS
        if not check.name.startswith("faults-") or check.name in (UNDERSTOOD, "faults-refusals")
    ),
]


def examined(name: str, *, http: bool) -> list[str]:
    """The checks that the sample adapter fails, found out in another process."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, name, *(["http"] if http else [])],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (WRONG, ROOT)))},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(name: str, kind: str = "") -> None:
    """Examine it here."""
    down.DOWN_LIMIT_S = 2.0
    registry = Registry()

    def make(**options: Any) -> BoundAdapter:
        return registry.get(name, options)

    if kind == "http":
        with Lab() as lab:
            results = judge_all(HTTP_CHECKS, HttpSubject.in_lab(lab, make))
    else:
        results = judge_all(CHECKS, Subject(make))
    print(json.dumps(failures(results)))


if __name__ == "__main__":
    main(*sys.argv[1:])
