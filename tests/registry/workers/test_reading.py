"""Files from elsewhere: whatever they are, they neither block nor crash the one who reads them."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import AdapterHost, Registry
from registry.workers import WorkersError, WorkersWatch, following
from registry.workers.following import Declared
from registry.workers.handoff import MAX_FILE_BYTES, Unfinished, handoff_files, read_handoff
from registry.workers.reading import MAX_DEPTH, Unreadable, is_too_deep, read_text

GOOD = {
    "engine": "vllm",
    "engine_version": "0.11",
    "url": "http://127.0.0.1:9",
    "pool_id": "p",
    "replica_id": "r0",
}
REPLICA = '[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "mock"\n'


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


ODD = [_fifo, _folder, _socket, _device, _large]


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_only_regular_files_are_read(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO without a writer, a folder, a socket, an endless device and a huge file are refused
    at once."""
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("a.json")
    make(path)
    with pytest.raises(Unreadable):
        read_text(path, 1000)
    with pytest.raises(Unfinished, match=r"a\.json"):
        read_handoff(path, Registry())
    with pytest.raises(WorkersError, match=r"a\.json"):
        Declared(path, None, Registry()).read()


@given(
    st.sampled_from([None, 1, [], {}, [1, [2]], {"a": {}, "b": [[]]}]),
    st.lists(st.booleans(), max_size=2 * MAX_DEPTH),
)
def test_depth_is_counted(data: object, wraps: list[bool]) -> None:
    """Data is too deep exactly if its brackets are nested deeper than the bound."""
    for as_list in wraps:
        data = [data] if as_list else {"a": data}

    def depth(value: object) -> int:
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(inner, list | type({}.values())):
            return 1 + max(map(depth, inner), default=0)
        return 0

    assert is_too_deep(data) == (depth(data) > MAX_DEPTH)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 30_000])
def test_nested_json_is_an_error(tmp_path: Path, depth: int) -> None:
    """JSON of any depth is refused with one problem, not with a RecursionError."""
    path = tmp_path / "a.json"
    text = json.dumps({**GOOD, "url": "DEEP"})
    path.write_text(text.replace('"DEEP"', "[" * depth + "]" * depth))
    with pytest.raises(WorkersError, match="nested too deeply"):
        read_handoff(path, Registry())


def test_hidden_files_do_not_count_for_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden files and other names are left out before the files are counted; too many handoff
    files are an error, and none is silently forgotten."""
    monkeypatch.setattr("registry.workers.handoff.MAX_FILES", 3)
    for number in range(10):
        (tmp_path / f".{number}.json").touch()
        (tmp_path / f"{number}.txt").touch()
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.json").touch()
    assert [path.name for path in handoff_files(tmp_path)] == ["a.json", "b.json", "c.json"]
    (tmp_path / "d.json").touch()
    with pytest.raises(Unreadable, match="too many files"):
        handoff_files(tmp_path)


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to one file that is not a declaration are examined, but read once per version; one look
    reads a bounded number of files."""
    first = tmp_path / "0.json"
    first.write_text("x" * MAX_FILE_BYTES)
    for number in range(1, 150):
        (tmp_path / f"{number}.json").hardlink_to(first)
    reads: list[Path] = []

    def read(path: Path, max_bytes: int) -> str:
        reads.append(path)
        return read_text(path, max_bytes)

    monkeypatch.setattr("registry.workers.handoff.read_text", read)
    declared = Declared(None, tmp_path, Registry())
    counts = []
    for _ in range(4):
        declared.look()
        counts.append(len(reads))
    assert counts == [following.MAX_READS, 150, 150, 150]
    assert len(declared.unfinished) == 150
    first.write_text("y" * MAX_FILE_BYTES)
    declared.look()
    assert len(reads) == 150 + following.MAX_READS


async def test_an_emptied_file_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that loses all its replicas was truncated, unless it says that it has none."""
    path = tmp_path / "workers.toml"
    path.write_text(REPLICA)
    async with AdapterHost() as host:
        watch = WorkersWatch(host, path)
        watch.load()

        async def bound(text: str) -> int:
            path.write_text(text)
            for _ in range(2):
                await watch.look()
            return sum(len(pool.replicas) for pool in host.snapshot().pools)

        assert await bound("") == 1
        assert await bound("[pools.p]\nmax_queue = 3\n") == 1
        assert caplog.text.count("it has no replicas any more; write replicas = []") == 1
        assert await bound("replicas = []\n") == 0


async def test_a_slow_disk_does_not_stop_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are read in a thread: while one read hangs, the loop continues."""
    path = tmp_path / "workers.toml"
    path.write_text(REPLICA)
    async with AdapterHost() as host:
        watch = WorkersWatch(host, path)
        watch.load()
        looked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def look() -> object:
            asyncio.run_coroutine_threadsafe(_set(looked), loop).result(10)
            return watch.workers

        monkeypatch.setattr(watch._declared, "look", look)
        assert not await watch.look()
        assert looked.is_set()


async def _set(event: asyncio.Event) -> None:
    event.set()
