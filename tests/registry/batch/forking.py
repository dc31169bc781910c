"""`python -m tests.registry.batch.forking`: forks a process for each command line it reads.

A line is a JSON object: `arguments` of worker-adapters, `url` of the engine, `err`, the file for
standard error, and `max_file_bytes`. The answers are lines with the process's id and, once it has
ended, its exit status. Forking saves the second that each process would import for.
"""

import json
import os
import resource
import sys

import registry
from registry.cli.entry import run


def main() -> None:
    """Serve standard input until it ends."""
    run(["batch", "status", "nothing.jsonl"])  # imports what every run does
    registry.get("openai-http", base_url="http://localhost")
    for line in sys.stdin:
        order = json.loads(line)
        if (pid := os.fork()) == 0:
            _become(order)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(order: dict[str, object]) -> None:
    code = 99
    try:
        os.environ["ORCHD_OPENAI_URL"] = str(order["url"])
        if limit := order["max_file_bytes"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # type: ignore[arg-type]
        os.dup2(os.open(str(order["err"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        code = run(order["arguments"])  # type: ignore[arg-type]
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
