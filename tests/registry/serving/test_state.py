"""The state folder of a long run."""

import json
import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from adapter_api.ledger import Explanation, Step
from registry import HostSnapshot, PoolSnapshot, ReplicaSnapshot
from registry.serving import state
from registry.serving.state import (
    JOBS,
    OLDER_JOBS,
    SNAPSHOT,
    StateError,
    StateWriter,
    default_folder,
    find_job,
    read_snapshot,
)

REPLICA = ReplicaSnapshot(
    "p", "r0", "mock", "vllm", None, "ready", "closed", 1, None, 2.5, None, 3, 0, "fine"
)
HOST = HostSnapshot((PoolSnapshot("p", (REPLICA,), 1, 2, ("1", "2"), 3, 4),))


def explained(job_id: str, outcome: str = "ok") -> Explanation:
    steps = (Step(0, "choose", "r0", "least_loaded"), Step(1, "end", None, outcome, 7, "why"))
    return Explanation(job_id, "p", outcome, steps)


def test_a_snapshot_comes_back(tmp_path: Path) -> None:
    """The saved state is read, with its time and process."""
    writer = StateWriter(tmp_path / "deep" / "state")
    writer.save(HOST)
    saved = read_snapshot(writer.folder)
    assert saved is not None
    assert (saved.host, saved.pid, saved.running) == (HOST, os.getpid(), True)
    assert saved.age_s < 60
    writer.save(HOST, running=False)
    assert not read_snapshot(writer.folder).running  # type: ignore[union-attr]
    writer.close()
    assert sorted(path.name for path in writer.folder.iterdir()) == [JOBS, SNAPSHOT]


def test_a_job_comes_back(tmp_path: Path) -> None:
    """A job's explanation is found by its id, the last one if there are several."""
    writer = StateWriter(tmp_path)
    for job_id, outcome in (("a", "ok"), ("b", "ok"), ("a", "WORKER_RESET"), ("aa", "ok")):
        writer.append(explained(job_id, outcome))
    writer.close()
    assert find_job(tmp_path, "a") == explained("a", "WORKER_RESET")
    assert find_job(tmp_path, "absent") is None


def test_the_jobs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file becomes the older one, whose place it takes; both are searched."""
    monkeypatch.setattr(state, "MAX_JOBS_BYTES", 1000)
    writer = StateWriter(tmp_path)
    for number in range(100):
        writer.append(explained(f"job-{number}"))
    writer.close()
    sizes = [(tmp_path / name).stat().st_size for name in (JOBS, OLDER_JOBS)]
    assert all(size < 1500 for size in sizes)
    assert find_job(tmp_path, "job-0") is None
    assert find_job(tmp_path, "job-99") is not None
    first = json.loads((tmp_path / OLDER_JOBS).read_text().splitlines()[0])["job_id"]
    assert find_job(tmp_path, first) is not None


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """Jobs of an earlier run stay, also after a line that it could not finish."""
    writer = StateWriter(tmp_path)
    writer.append(explained("a"))
    writer.close()
    with open(tmp_path / JOBS, "a") as file:
        file.write('{"job_id": "b", "po')
    writer = StateWriter(tmp_path)
    writer.append(explained("c"))
    writer.append(explained("d"))
    writer.close()
    assert find_job(tmp_path, "a") == explained("a")
    assert find_job(tmp_path, "b") is None
    assert find_job(tmp_path, "c") == explained("c")
    assert find_job(tmp_path, "d") == explained("d")


def test_a_folder_has_one_run(tmp_path: Path) -> None:
    """While another process keeps the folder a second one is refused; not after its end."""
    with closing(StateWriter(tmp_path)) as writer:
        writer.save(HOST)
    path = tmp_path / SNAPSHOT

    def claim(**changes: object) -> None:
        data = {"pid": os.getppid(), "at_s": time.time(), "running": True}
        path.write_text(json.dumps({**json.loads(path.read_text()), **data, **changes}))
        StateWriter(tmp_path).close()

    with pytest.raises(StateError, match=f"in use by process {os.getppid()}: give each run"):
        claim()
    claim(running=False)
    claim(at_s=time.time() - 60)
    claim(pid=2**22 + 1)  # Linux has no higher one
    path.write_text("of another version")
    StateWriter(tmp_path).close()


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    """A file for a folder, and a snapshot that is none, are errors that name the place."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file cannot be used"):
        StateWriter(tmp_path / "file")
    with pytest.raises(StateError, match="file cannot be used"):
        read_snapshot(tmp_path / "file")
    with pytest.raises(StateError, match="file cannot be used"):
        find_job(tmp_path / "file", "a")
    for text in ("nonsense", "[]", "{}", '{"at_s": 1, "pid": 1, "running": true, "host": 7}'):
        (tmp_path / SNAPSHOT).write_text(text)
        with pytest.raises(StateError, match="snapshot.json is not a snapshot"):
            read_snapshot(tmp_path)


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    """Without a run there is no snapshot, and no job."""
    assert read_snapshot(tmp_path / "absent") is None
    assert find_job(tmp_path / "absent", "a") is None


def test_the_usual_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_STATE_HOME counts if it is absolute, else ~/.local/state."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "/var/x")
    assert default_folder() == Path("/var/x/worker-adapters")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert default_folder() == tmp_path / ".local/state/worker-adapters"
