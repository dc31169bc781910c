"""`worker-adapters top` and `explain`: what a run leaves to see, and what engines say."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapter_api.ledger import Explanation, Step
from registry import HostSnapshot, PoolSnapshot, ReplicaSnapshot
from registry.cli.terminal.overview import Overview, View
from registry.serving.jobs import Failure, Totals
from registry.serving.state import StateWriter
from tests.word_server import WordServer

Cli = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]
Serve = Callable[..., WordServer]
Until = Callable[[Callable[[], bool]], None]

GOOD = ReplicaSnapshot(
    "p", "r0", "openai-http", "vllm", "0.11", "ready", "closed", 3, 8, 41.25, 120.4, 9, 1, "ok"
)
BAD = ReplicaSnapshot(
    "p", "r1", "mock", None, None, "down", "open", 0, None, 0.0, None, 0, 4, "no\x1b[31m\nanswer"
)
HOST = HostSnapshot((PoolSnapshot("p", (GOOD, BAD), 2, 5, ("0.10", "0.11"), 12, 4),))
STEPS = (
    Step(0, "skip", "r0", "circuit_open"),
    Step(0, "attempt", "r1", "WORKER_RESET", 12, "the engine\x1b[31m broke off"),
    Step(112, "attempt", "r2", "ok", 250),
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a run that has just written."""
    with closing(StateWriter(tmp_path / "state")) as writer:
        writer.save(HOST)
        writer.append(Explanation("j", "p", "ok", STEPS))
    return tmp_path / "state"


@pytest.fixture
def workers(tmp_path: Path, serve: Serve) -> Path:
    """A workers file with one engine that answers, and one that does not."""
    path = tmp_path / "workers.toml"
    path.write_text(
        "".join(
            f'[[replicas]]\npool = "p"\nreplica = "{name}"\nadapter = "openai-http"\n'
            f'options = {{ base_url = "{url}" }}\n'
            for name, url in (("r0", serve().base_url), ("r1", "http://127.0.0.1:9"))
        )
    )
    return path


# top


def test_the_state_of_a_run(cli: Cli, state: Path) -> None:
    """A row for the pool and one for each replica, with tabs, and nothing that steers."""
    done = cli("top", "--state", str(state), "--once")
    assert (done.code, done.err) == (0, "")
    pool, good, bad = (line.split("\t") for line in done.out.splitlines())
    assert pool == [
        "p",
        "1 of 2",
        "",
        "",
        "",
        "3",
        "2 + 5 batch",
        "41.2",
        "",
        "12",
        "",
        "4 retries",
    ]
    assert good[1:9] == ["r0", "vllm 0.11", "ready", "closed", "3 / 8", "", "41.2", "120 ms"]
    assert bad[1:] == [
        "r1",
        "mock",
        "down",
        "open",
        "0",
        "",
        "0.0",
        "",
        "0",
        "4",
        "no\ufffd[31m answer",
    ]


@pytest.mark.parametrize(
    ("width", "headers"),
    [
        (120, "state in flight queue tokens/s first token jobs failed engine"),
        (80, "state in flight queue tokens/s first token failed"),
        (60, "state in flight queue failed"),
    ],
)
def test_a_small_terminal_shows_what_matters_most(width: int, headers: str) -> None:
    """Columns that matter less give way, none is cut short; states, totals, failures and the whole
    message of a replica that gets no work stay."""
    screen = Console(width=width, file=io.StringIO(), force_terminal=False)
    failures = [Failure(0.0, f"job-{number}", "p", "WORKER_RESET") for number in range(9)]
    totals = Totals(12, 1, 9, {"WORKER_RESET": 9})
    screen.print(Overview(View(HOST, "the run has ended", totals=totals, failures=failures)))
    note, mixed, jobs, *failed, header, pool, good, bad, retries, why = (
        screen.file.getvalue().splitlines()
    )
    assert (note, mixed[:6]) == ("the run has ended", "pool p")
    assert jobs == "jobs: 12 answered, 1 cancelled, 9 failed (WORKER_RESET 9)"
    assert [line.split()[-4] for line in failed] == ["job-6", "job-7", "job-8"]
    assert " ".join(header.split()) == f"pool {headers}"
    assert "\u2026" not in screen.file.getvalue()
    assert "1 of 2 ready" in pool
    assert "3 / 8" in good
    assert "down, breaker open" in bad
    assert (retries, why) == ("pool p: 4 retries", "p/r1: no\ufffd[31m answer")


def test_the_state_as_json(cli: Cli, state: Path) -> None:
    """--json prints the whole snapshot on a line."""
    done = cli("top", "--state", str(state), "--once", "--json")
    data = json.loads(done.out)
    assert data["running"] is True
    assert data["pools"][0]["replicas"][0]["tokens_per_s"] == 41.25
    assert data["pools"][0]["mixed_versions"] == ["0.10", "0.11"]


@pytest.mark.parametrize(
    ("running", "age_s", "said"),
    [
        (False, 0, r"the run has ended, \d+ s ago"),
        (True, 60, r"the run last wrote \d\d s ago"),
        (True, 3600, r"the run last wrote 6\d min ago"),
        (True, 86400, "the run last wrote 24 h ago"),
    ],
)
def test_a_run_that_runs_no_more(
    cli: Cli, state: Path, running: bool, age_s: float, said: str
) -> None:
    """Old numbers are shown as such: status 1."""
    path = state / "snapshot.json"
    changes = {"running": running, "at_s": time.time() - age_s}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    done = cli("top", "--state", str(state), "--once")
    assert done.code == 1
    assert "vllm" in done.out
    assert re.fullmatch(f"error: {said}\n", done.err)


def test_where_no_run_has_been(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without state the error says how to get some; the usual folder is the default."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = cli("top", "--once")
    assert done.code == 2
    assert f"there is no state of a run in {tmp_path}/worker-adapters" in done.err
    assert "worker-adapters serve" in done.err
    (tmp_path / "snapshot.json").write_text("{}")
    done = cli("top", "--once", "--state", str(tmp_path))
    assert done.code == 2
    assert "is not a snapshot" in done.err
    done = cli("top", "--state", str(tmp_path), "--workers", "x")
    assert done.code == 2
    assert "either --workers or --state" in done.err


def test_the_engines_of_a_file(cli: Cli, workers: Path) -> None:
    """With --workers each engine is queried once before the table is shown."""
    done = cli("top", "--workers", str(workers), "--once", "--json")
    assert (done.code, done.err) == (0, "")
    (pool,) = json.loads(done.out)["pools"]
    assert [replica["state"] for replica in pool["replicas"]] == ["ready", "down"]


@pytest.mark.parametrize("end", ["q", "signal"])
def test_top_on_a_terminal(
    start: Start, state: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A live table in colours on the alternate screen, which `q` or Ctrl-C ends."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    ours, theirs = pty.openpty()
    process = start("top", "--state", str(state), stdin=theirs, stdout=theirs)
    os.close(theirs)
    shown = b""
    while b"no\xef\xbf\xbd[31m answer" not in shown:
        shown += os.read(ours, 4096)
    text = shown.decode()
    assert text.startswith("\x1b[?1049h")
    assert "first token" in text
    assert "\x1b[32mready" in text
    assert "\x1b[31mdown" in text
    assert "pool p runs several engine versions: 0.10, 0.11" in text
    assert "q quits" in text
    if end == "q":
        os.write(ours, b"q")
    else:
        process.send_signal(signal.SIGINT)
    while b"\x1b[?1049l" not in shown:
        shown += os.read(ours, 4096)
    assert process.wait(10) == (0 if end == "q" else 130)
    os.close(ours)


@pytest.mark.parametrize("source", ["--state", "--workers"])
def test_top_goes_on(start: Start, state: Path, workers: Path, source: str) -> None:
    """Without --once there is a line each second, until a signal."""
    path = state if source == "--state" else workers
    process = start("top", source, str(path), "--json")
    assert process.stdout is not None
    for _ in range(2):
        assert json.loads(process.stdout.readline())["pools"]
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130


# explain


def test_a_job_is_explained(cli: Cli, state: Path) -> None:
    """Every step of the job, with reason and milliseconds."""
    done = cli("explain", "j", "--state", str(state))
    assert (done.code, done.err) == (0, "")
    heading, *steps = done.out.splitlines()
    assert heading == "job j in pool p: ok"
    assert len(steps) == 3
    assert "circuit_open" in steps[0]
    assert "WORKER_RESET" in steps[1]
    assert "12 ms" in steps[1]
    assert "\x1b" not in done.out


def test_a_job_as_json(cli: Cli, state: Path) -> None:
    """--json prints the explanation as it is kept."""
    data = json.loads(cli("explain", "j", "--state", str(state), "--json").out)
    assert [step["reason"] for step in data["steps"]] == ["circuit_open", "WORKER_RESET", "ok"]


def test_an_unknown_job(cli: Cli, state: Path) -> None:
    """A job that is not there is status 1 and one line."""
    done = cli("explain", "absent", "--state", str(state))
    assert (done.code, done.out) == (1, "")
    assert "no finished job 'absent'" in done.err
    done = cli("explain", "j", "--state", str(state / "jobs.jsonl"))
    assert done.code == 2
    assert "cannot be used" in done.err


def test_explain_on_a_terminal(start: Start, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, without what would steer the terminal."""
    monkeypatch.setenv("COLUMNS", "120")
    ours, theirs = pty.openpty()
    process = start("explain", "j", "--state", str(state), stdout=theirs)
    os.close(theirs)
    shown = b""
    while b"250 ms" not in shown:
        shown += os.read(ours, 4096)
    assert process.wait(10) == 0
    assert "job j in pool p: ok" in shown.decode()
    assert "the engine\ufffd[31m broke off" in shown.decode()
    os.close(ours)
