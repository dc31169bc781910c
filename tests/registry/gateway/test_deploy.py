"""The files for operators: their options exist, and their times fit together."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from registry.cli.commands.gateway import gateway
from registry.gateway.server import CUT_S, KEEP_ALIVE_S, ServerSettings

DEPLOY = Path(__file__).parents[3] / "docs/how-to/deploy"
NGINX_IDLE_S = 60
"""The default of `keepalive_timeout` in nginx's upstreams."""


def _text(name: str) -> str:
    return (DEPLOY / name).read_text()


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


def _arguments(name: str) -> list[str]:
    """Return the arguments of `worker-adapters gateway` in a file."""
    text = _text(name).replace("\\\n", " ")
    if name == "kubernetes.yaml":
        return re.findall(r"^ +- (--\S+)$", text, re.MULTILINE)
    if name == "Containerfile":
        command, defaults = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE)
        assert _quoted(command) == ["worker-adapters", "gateway"]
        return _quoted(defaults)
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    _, command, *rest = shlex.split(line)
    assert command == "gateway"
    return rest


def _options(name: str) -> dict[str, Any]:
    """Return what the command line makes of a file's arguments."""
    app = typer.Typer()
    app.command()(gateway)
    parsed: dict[str, Any] = get_command(app).make_context("gateway", _arguments(name)).params
    return parsed


@pytest.mark.parametrize(
    "name", ["Containerfile", "kubernetes.yaml", "worker-adapters-gateway.service"]
)
def test_the_command_of_a_file_is_valid(name: str) -> None:
    """It listens beyond the machine, with keys, from the folder that the page makes."""
    options = _options(name)
    assert options["host"] == "0.0.0.0"
    assert options["keys"] == Path("/etc/worker-adapters/keys.toml")
    assert options["workers"] == Path("/etc/worker-adapters/workers.toml")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("kubernetes.yaml", r"terminationGracePeriodSeconds: (\d+)"),
        ("worker-adapters-gateway.service", r"TimeoutStopSec=(\d+)"),
    ],
)
def test_a_manager_waits_longer_than_the_gateway_takes(name: str, pattern: str) -> None:
    """Else it would kill jobs that were promised time to end."""
    options = _options(name)
    found = re.search(pattern, _text(name))
    assert found is not None
    assert int(found[1]) > options["notice"] + options["drain"] + CUT_S


def test_the_times_on_the_page_are_the_gateways() -> None:
    """docker's time to stop is longer than the default drain; nginx gives up connections first."""
    page = (DEPLOY.parent / "deploy.md").read_text()
    found = re.search(r"--stop-timeout (\d+)", page)
    assert found is not None
    assert int(found[1]) > ServerSettings().grace_s + CUT_S
    assert f"for {KEEP_ALIVE_S:.0f} s" in page
    assert KEEP_ALIVE_S > NGINX_IDLE_S
    assert "proxy_next_upstream off;" in _text("nginx.conf")
