"""Files in which engines say where they serve."""

import json
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.workers import WorkersError
from registry.workers.handoff import Unfinished, handoff_files, read_handoff

GOOD = {
    "engine": "vllm",
    "engine_version": "0.11",
    "url": "http://127.0.0.1:8000",
    "pool_id": "chat",
    "replica_id": "r0",
    "model": "llama",
}


def put(path: Path, **changes: Any) -> Path:
    data = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    path.write_text(json.dumps(data))
    return path


def test_a_file_declares_a_replica(tmp_path: Path) -> None:
    """Pool, replica, address and model become a replica served by openai-http."""
    spec = read_handoff(put(tmp_path / "a.json"), Registry())
    config: Any = spec.build(Registry()).config
    assert (spec.key, spec.adapter) == (("chat", "r0"), "openai-http")
    assert (config.base_url, config.model) == ("http://127.0.0.1:8000", "llama")
    assert (config.pool_id, config.replica_id) == ("chat", "r0")


def test_no_key_is_sent_to_who_writes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's key is not for whatever address a file in a folder names."""
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-1")
    spec = read_handoff(put(tmp_path / "a.json"), Registry())
    config: Any = spec.build(Registry()).config
    assert config.api_key is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": ...}, "$.url: missing"),
        ({"url": 7}, "$.url: expected str, got int"),
        ({"url": "ftp://x"}, "$.url: "),
        ({"pool_id": ""}, "$.pool_id: pool_id must be a name"),
        ({"replica_id": None}, "$.replica_id: expected str, got NoneType"),
        ({"engine": True}, "$.engine: expected str, got bool"),
        ({"engine_version": 0.11}, "$.engine_version: expected str, got float"),
        ({"model": 1}, "$.model: expected str | None, got int"),
        ({"pool": "x"}, "$.pool: unknown option; did you mean pool_id?"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    """A file that is whole and wrong is an error with its name and path."""
    path = put(tmp_path / "a.json", **changes)
    with pytest.raises(WorkersError) as caught:
        read_handoff(path, Registry())
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_file_that_is_not_an_object(tmp_path: Path) -> None:
    """A list is whole JSON and no handoff."""
    path = tmp_path / "a.json"
    path.write_text("[]")
    with pytest.raises(WorkersError, match="expected an object, got list"):
        read_handoff(path, Registry())


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_file_that_is_being_written(tmp_path: Path, cut: int) -> None:
    """The beginning of a file is not wrong but unfinished."""
    path = put(tmp_path / "a.json")
    path.write_text(path.read_text()[:cut])
    with pytest.raises(Unfinished, match="a.json: it is not whole JSON"):
        read_handoff(path, Registry())


def test_a_file_that_has_gone(tmp_path: Path) -> None:
    """A file that vanishes between listing and reading is unfinished business."""
    with pytest.raises(Unfinished, match="a.json: it cannot be read"):
        read_handoff(tmp_path / "a.json", Registry())


def test_which_files_count(tmp_path: Path) -> None:
    """Only visible *.json do, so that an engine can write another name first."""
    for name in ("b.json", "a.json", ".c.json", "d.json.tmp", "README"):
        (tmp_path / name).touch()
    assert [path.name for path in handoff_files(tmp_path)] == ["a.json", "b.json"]
