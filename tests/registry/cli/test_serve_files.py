"""`worker-adapters serve`: its workers file, handoff files and state folder."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.registry.cli.serving import Serving, Start, workers
from tests.word_server import WordServer

Serve = Callable[..., WordServer]


Until = Callable[[Callable[[], bool]], None]


# The files


def test_the_workers_file_is_followed(
    run: Callable[..., Serving], serve: Serve, until: Until
) -> None:
    """A new version is swapped in; a wrong one is refused, told once, and changes nothing."""
    one, two = serve(), serve()
    serving = run(workers(one.base_url))
    path = serving.folder / "workers.toml"
    until(lambda: serving.replicas() == ["r0"])
    path.write_text(workers(one.base_url, two.base_url))
    until(lambda: serving.replicas() == ["r0", "r1"])
    path.write_text(workers(one.base_url) + "nonsense")
    serving.hear("is refused")
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 2, "job_id": "j"})
    assert serving.frames("j")[-1]["type"] == "end"
    status, _, err = serving.end()
    assert status == 0
    assert serving.replicas() == ["r0", "r1"]
    changed, refused = [line for line in err.splitlines() if "workers" in line]
    assert "replica r1 of pool p is ready" in err
    assert "the workers have changed: 1 bound, 0 rebound, 0 unbound" in changed
    assert "is refused, the old one stays" in refused
    assert "workers.toml: it is not TOML" in refused


def test_handoff_files_are_followed(
    run: Callable[..., Serving], serve: Serve, until: Until, tmp_path: Path
) -> None:
    """An engine that leaves its file gets work; one that removes it gets none."""
    server = serve()
    folder = tmp_path / "handoff"
    folder.mkdir()
    serving = run("", "--handoff", str(folder))
    data = {"engine": "toy", "engine_version": "1", "url": server.base_url}
    draft = folder / ".draft"
    draft.write_text(json.dumps({**data, "pool_id": "p", "replica_id": "e", "model": "toy"}))
    draft.rename(folder / "e.json")
    until(lambda: serving.replicas() == ["e"])
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 2, "job_id": "j"})
    assert serving.frames("j")[0]["replica_id"] == "e"
    (folder / "e.json").unlink()
    until(lambda: serving.replicas() == [])
    serving.say({"pool": "p", "prompt": "x", "job_id": "k"})
    assert serving.frames("k")[-1]["code"] == "POOL_UNAVAILABLE"


def test_a_dead_engine_is_passed_over(run: Callable[..., Serving], serve: Serve) -> None:
    """A job goes to the replica that is ready, and its ledger records the other."""
    serving = run(workers("http://127.0.0.1:9", serve().base_url))
    serving.say({"pool": "p", "prompt": "x", "max_tokens": 2, "job_id": "j"})
    frames = serving.frames("j")
    assert (frames[0]["replica_id"], frames[-1]["type"]) == ("r1", "end")
    assert serving.end()[0] == 0
    (line,) = (serving.state / "jobs.jsonl").read_text().splitlines()
    explanation = json.loads(line)
    assert (explanation["job_id"], explanation["outcome"]) == ("j", "ok")
    assert "r1" in [step["replica_id"] for step in explanation["steps"]]


def test_the_environment_alone(
    start: Start, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without files the one replica is what ORCHD_OPENAI_URL and its kind describe."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", serve().base_url)
    monkeypatch.setenv("ORCHD_OPENAI_POOL", "mine")
    serving = Serving(
        start("serve", "--state", str(tmp_path / "state"), stdin=subprocess.PIPE), tmp_path
    )
    serving.say({"pool": "mine", "prompt": "x", "max_tokens": 2, "job_id": "j"})
    assert serving.frames("j")[0]["replica_id"] == "r0"
    assert serving.end()[0] == 0


def test_without_files_and_environment(start: Start, tmp_path: Path) -> None:
    """The error says which variable is missing; status 2."""
    process = start("serve", "--state", str(tmp_path / "state"))
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "ORCHD_OPENAI_URL" in err


def test_a_wrong_file_at_the_beginning(run: Callable[..., Serving]) -> None:
    """There is nothing to run on: every problem has a line of its own, status 2."""
    serving = run("x = 1\n[[replicas]]\n")
    status, frames, err = serving.end()
    assert (status, frames) == (2, [])
    assert err.startswith("error: ")
    problems = [line for line in err.splitlines() if line.startswith("  - ")]
    assert any("$.x: unknown option" in line for line in problems)
    assert any("$.replicas[0].pool: missing" in line for line in problems)


def test_two_runs_do_not_share_a_folder(
    run: Callable[..., Serving], serve: Serve, until: Until
) -> None:
    """The second run on a state folder is refused while the first one keeps it."""
    text = workers(serve().base_url)
    first = run(text)
    until(lambda: first.replicas() == ["r0"])
    status, _, err = run(text).end()
    assert status == 2
    assert f"is in use by process {first.process.pid}" in err
    assert first.end()[0] == 0


def test_the_usual_state_folder(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --state the state is below XDG_STATE_HOME."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "workers.toml").touch()
    process = start("serve", "--workers", str(tmp_path / "workers.toml"))
    assert process.wait(20) == 0
    found = tmp_path / "worker-adapters"
    assert (found / "snapshot.json").exists()
    assert found.stat().st_mode & 0o077 == 0 or os.name != "posix"
