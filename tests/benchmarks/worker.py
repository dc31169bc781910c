"""`python -m tests.benchmarks.worker CLIENT`: runs scenarios that come as lines of JSON.

A process for each client, so that none pays for what another has imported or left behind.
"""

import asyncio
import json
import os
import sys
import warnings

from tests.benchmarks.peers import CLIENTS
from tests.benchmarks.scenarios import SCENARIOS


def main(name: str) -> None:
    """Answer each line {"scenario", "base", ...} with a line of results."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some libraries print
    warnings.simplefilter("ignore")
    client = {client.name: client for client in CLIENTS}[name]
    for line in sys.stdin:
        order = json.loads(line)
        try:
            result = asyncio.run(SCENARIOS[order.pop("scenario")](client(), **order))
        except Exception as exc:
            result = {"failed": f"{type(exc).__name__}: {exc}"[:300]}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
