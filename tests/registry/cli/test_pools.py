"""`worker-adapters submit` on the pools of a workers file."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.registry.cli.conftest import Engine
from tests.word_server import WordServer

Cli = Callable[..., Any]


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    """A workers file with two pools, and a replica that fails every job."""
    path = tmp_path / "workers.toml"
    tables = [
        ("chat", "bad", '{ error_code = "WORKER_RESET" }'),
        ("chat", "good", '{ tokens = ["a", "b"] }'),
        ("other", "r0", '{ tokens = ["c"] }'),
    ]
    path.write_text(
        "".join(
            f'[[replicas]]\npool = "{pool}"\nreplica = "{name}"\nadapter = "mock"\n'
            f"options = {options}\n"
            for pool, name, options in tables
        )
    )
    return path


def test_a_job_in_a_pool(cli: Cli, workers: Path) -> None:
    """--pool runs it there, and a replica that fails it is passed over."""
    done = cli("submit", "--pool", "chat", "--workers", str(workers), "hi")
    assert (done.code, done.out, done.err) == (0, "ab\n", "")
    done = cli("submit", "--pool", "other", "--workers", str(workers), "hi", "--frames")
    frames = [json.loads(line) for line in done.out.splitlines()]
    assert [frame["type"] for frame in frames] == ["started", "token", "end"]
    assert frames[0]["replica_id"] == "r0"


def test_which_pool_is_meant(cli: Cli, workers: Path) -> None:
    """A wrong name gets the near one, none gets the list; the only one need not be named."""
    done = cli("submit", "--pool", "caht", "--workers", str(workers), "hi")
    assert done.code == 2
    assert "there is no pool 'caht'; did you mean 'chat'?" in done.err
    done = cli("submit", "--workers", str(workers), "hi")
    assert done.code == 2
    assert "--pool is needed: the pools are chat, other" in done.err
    workers.write_text('[[replicas]]\npool = "p"\nreplica = "r"\nadapter = "mock"\n')
    assert cli("submit", "--workers", str(workers), "hi").code == 0
    done = cli("submit", "--pool", "x", "--workers", str(workers), "hi")
    assert "the pools are p" in done.err
    workers.write_text("")
    done = cli("submit", "--workers", str(workers), "hi")
    assert "the file declares no replica" in done.err


def test_what_does_not_go_together(cli: Cli, workers: Path) -> None:
    """A pool needs a file, and a file has its own addresses."""
    done = cli("submit", "--pool", "chat", "hi")
    assert done.code == 2
    assert "--pool needs the workers file" in done.err
    done = cli("submit", "--workers", str(workers), "--base-url", "http://h", "hi")
    assert done.code == 2
    assert "come from that file" in done.err


def test_a_wrong_file(cli: Cli, tmp_path: Path) -> None:
    """Its problems are one line, status 2."""
    done = cli("submit", "--workers", str(tmp_path / "absent.toml"), "hi")
    assert done.code == 2
    assert "absent.toml: it cannot be read" in done.err
    assert done.err.count("\n") == 1


def test_ctrl_c_cancels(
    start: Callable[..., "subprocess.Popen[str]"],
    serve: Callable[..., WordServer],
    until: Callable[[Callable[[], bool]], None],
    tmp_path: Path,
) -> None:
    """A signal ends a job in a pool as it ends any other: the engine stops, status 130."""
    server = serve(delay_s=0.02)
    path = tmp_path / "workers.toml"
    path.write_text(
        '[[replicas]]\npool = "p"\nreplica = "r"\nadapter = "openai-http"\n'
        f'options = {{ base_url = "{server.base_url}" }}\n'
    )
    process = start("submit", "hi", "--workers", str(path), "--frames")
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["code"] == "CANCELLED"
    assert err == "error: cancelled; what was printed is not the whole answer\n"
    until(lambda: server.running == 0)


@pytest.mark.parametrize("command", [("submit", "-"), ("chat",)], ids=str)
def test_a_refused_key_of_a_workers_file(
    cli: Cli, tmp_path: Path, command: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    """The advice is for the file: no option and no usual variable reaches its adapters."""
    refusing = Engine(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    request.addfinalizer(refusing.close)
    path = tmp_path / "workers.toml"
    path.write_text(
        '[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "openai-http"\n'
        f'options = {{ base_url = "{refusing.base_url}" }}\n'
    )
    done = cli(*command, "--workers", str(path), stdin="hi\n")
    assert done.code == 1
    assert "UPSTREAM_AUTH" in done.err
    assert "In the workers file, set secrets = { api_key = ... } to a key" in done.err
