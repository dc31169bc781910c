"""Instructions per token, counted by valgrind where it is installed: the same on every run.

Each token comes in a read of its own. Two answers of different lengths are counted, and their
difference is what the tokens cost, without what starting a program does.
"""

import json
import os
import re
import shutil
import subprocess
import sys

_CODE = """
import asyncio, json, sys
from tests.benchmarks.peers import CLIENTS
from tests.benchmarks.scenarios import paced
client = {client.name: client for client in CLIENTS}[sys.argv[1]]
print(json.dumps(asyncio.run(paced(client(), sys.argv[2], **json.loads(sys.argv[3])))))
"""

LIMIT_S = 300.0


def available() -> bool:
    """Return whether valgrind is installed."""
    return shutil.which("valgrind") is not None


def per_token(client: str, base: str, *, few: int = 50, many: int = 150) -> float | None:
    """Instructions in user space for one token; None if the client cannot be counted."""
    counts = [_count(client, base, tokens) for tokens in (few, many)]
    if counts[0] is None or counts[1] is None:
        return None
    return (counts[1] - counts[0]) / (many - few)


def _count(client: str, base: str, tokens: int) -> int | None:
    options = json.dumps({"streams": 1, "tokens": tokens, "pause_ms": 50})
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    try:
        done = subprocess.run(
            [*command, sys.executable, "-c", _CODE, client, base, options],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    except subprocess.TimeoutExpired:
        return None
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode != 0 or found is None or f'"{tokens} tokens' not in done.stdout:
        return None
    return int(found[1].replace(",", ""))
