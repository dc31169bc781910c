"""Runs every client's scenarios in turn, each client in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import attrs

from tests.benchmarks.clients import Client
from tests.benchmarks.peers import CLIENTS, missing
from tests.benchmarks.scenarios import Result

ANSWER_S = 300.0

_HEAVY_ROUNDS = 2
"""For clients that need hundreds of times the floor's time, and whose ratio is clear at once."""
_HEAVY = frozenset({"any-llm", "litellm"})


@attrs.frozen
class Scenario:
    """One measurement of one client.

    Args:
        name: The function in scenarios.py.
        clients: The clients' names.
        options: The function's arguments.
        fresh: Whether each measurement wants a process that has done nothing yet.
        rounds: How often; None as all others.
    """

    name: str
    clients: tuple[str, ...]
    options: dict[str, Any] = attrs.field(factory=dict)
    fresh: bool = False
    rounds: int | None = None


@attrs.define(eq=False)
class Worker:
    """A process that measures one client."""

    process: "subprocess.Popen[str]"

    def run(self, scenario: Scenario, base: str) -> Result:
        """One measurement."""
        orders, answers = _pipes(self.process)
        print(
            json.dumps({"scenario": scenario.name, "base": base, **scenario.options}),
            file=orders,
            flush=True,
        )
        line = answers.readline()
        result: Result = json.loads(line) if line else {"failed": "its process died"}
        return result


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


@contextmanager
def worker(client: str) -> Iterator[Worker]:
    """Starts a process for `client`, and ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.worker", client],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Worker(process)
    finally:
        for pipe in _pipes(process):
            pipe.close()
        process.kill()
        process.wait()


def installed() -> tuple[list[str], dict[str, list[str]]]:
    """The clients that can be measured; and what the others lack."""
    lacking = {client.name: missing(client) for client in CLIENTS}
    found = [name for name, modules in lacking.items() if not modules]
    return found, {name: modules for name, modules in lacking.items() if modules}


Samples = dict[str, dict[str, list[Result]]]
"""Of each scenario, and of each client, the results of its rounds."""


def measure(
    scenarios: Sequence[Scenario], base: str, rounds: int, clients: Sequence[str]
) -> Samples:
    """Every scenario, its clients one after the other, round by round."""
    samples: Samples = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for scenario in scenarios:
            names = [name for name in scenario.clients if name in clients]
            print(f"{scenario.name}: {', '.join(names)}", file=sys.stderr, flush=True)
            found = samples[scenario.name] = {name: [] for name in names}
            for turn in range(scenario.rounds or rounds):
                for name in names:
                    if name in _HEAVY and turn >= _HEAVY_ROUNDS:
                        continue
                    if scenario.fresh:
                        with worker(name) as fresh:
                            found[name].append(fresh.run(scenario, base))
                        continue
                    if name not in workers:
                        workers[name] = stack.enter_context(worker(name))
                    found[name].append(workers[name].run(scenario, base))
    return samples


def client_names() -> tuple[str, ...]:
    """All clients, the floor first."""
    clients: tuple[type[Client], ...] = CLIENTS
    return tuple(client.name for client in clients)
