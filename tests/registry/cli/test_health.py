"""`worker-adapters health`."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.word_server import WordServer

Cli = Callable[..., Any]


def test_a_healthy_engine(cli: Cli, serve: Callable[..., WordServer]) -> None:
    """One line in a pipe, status 0 (ORCH-3057)."""
    done = cli("health", "--base-url", serve().base_url)
    assert done.code == 0
    assert done.out.startswith("healthy: ")
    assert done.out.count("\n") == 1


def test_an_engine_that_is_not_there(cli: Cli) -> None:
    """The reason is printed, and the status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = cli("health", "--base-url", url)
    assert done.code == 1
    assert done.out.startswith("unhealthy: cannot connect")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["health=degraded"], 0),
        (["ready=false"], 1),
        (["health=unhealthy", "ready=yes"], 1),
    ],
)
def test_the_status_shows_whether_it_accepts_work(cli: Cli, options: list[str], code: int) -> None:
    """A degraded engine that accepts work is not a failure; one that does not is."""
    pairs = [word for option in options for word in ("--option", option)]
    assert cli("health", "--adapter", "mock", *pairs).code == code


def test_health_as_json(cli: Cli, serve: Callable[..., WordServer]) -> None:
    """--json prints the whole HealthStatus."""
    done = cli("health", "--base-url", serve().base_url, "--json")
    found = json.loads(done.out)
    assert (found["state"], found["live"], found["ready"]) == ("healthy", True, True)


def test_health_without_an_address(cli: Cli) -> None:
    """Without an address there is nothing to ask; status 2."""
    assert cli("health").code == 2
