"""Following handoff files, and following in the background."""

import asyncio
import json
import logging
from typing import Any

import pytest

from registry import AdapterHost
from registry.workers import WorkersWatch
from tests.registry.workers.watched import Files, Watched, replica


def handoff(name: str, **changes: Any) -> str:
    data = {
        "engine": "toy",
        "engine_version": "1",
        "url": "http://127.0.0.1:9",
        "pool_id": "p",
        "replica_id": name,
        "model": None,
        **changes,
    }
    return json.dumps(data)


# Handoff files


async def test_an_engine_comes_changes_and_goes(watch: Watched, files: Files) -> None:
    """Its file binds it, rebinds it elsewhere, and, once two looks miss it, unbinds it."""
    files.hand_off("a.json", handoff("r7"))
    assert await watch.watch.look()
    assert watch.replicas == ["p/r0", "p/r1", "p/r7"]
    files.hand_off("a.json", handoff("r7", url="http://127.0.0.1:10"))
    assert await watch.watch.look()
    assert watch.config("r7").base_url == "http://127.0.0.1:10"
    (files.handoff / "a.json").unlink()
    assert not await watch.watch.look()
    assert await watch.watch.look()
    assert watch.replicas == ["p/r0", "p/r1"]


async def test_a_restarted_engine_is_bound_anew(watch: Watched, files: Files) -> None:
    """Another engine version at the same address is another engine; a mere touch is not."""
    files.hand_off("a.json", handoff("r7"))
    assert await watch.watch.look()
    before = watch.host.adapter("p", "r7")
    files.hand_off("a.json", handoff("r7"))
    assert not await watch.watch.look()
    files.hand_off("a.json", handoff("r7", engine_version="2"))
    assert await watch.watch.look()
    assert watch.host.adapter("p", "r7") is not before


async def test_a_half_written_file_is_waited_for(
    watch: Watched, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """While a file is not whole its former content stands, and nothing else waits for it."""
    files.hand_off("a.json", handoff("r7"))
    assert await watch.watch.look()
    files.hand_off("a.json", handoff("r7", engine_version="2")[:20])
    files.hand_off("b.json", handoff("r8"))
    assert await watch.watch.look()
    assert watch.replicas == ["p/r0", "p/r1", "p/r7", "p/r8"]
    warnings = {record.name for record in caplog.records if record.levelno >= logging.WARNING}
    assert warnings <= {"worker_adapters.jobs"}
    for _ in range(3):  # it stays unfinished: that is logged, once
        assert not await watch.watch.look()
    assert caplog.text.count("a.json: it is not whole JSON") == 1
    files.hand_off("a.json", handoff("r7", engine_version="2"))
    assert await watch.watch.look()


async def test_a_file_written_anew_keeps_its_replica(watch: Watched, files: Files) -> None:
    """A file that is removed and written again is not unbound in between."""
    files.hand_off("a.json", handoff("r7"))
    assert await watch.watch.look()
    before = watch.host.adapter("p", "r7")
    (files.handoff / "a.json").unlink()
    assert not await watch.watch.look()
    files.hand_off("a.json", handoff("r7"))
    assert not await watch.watch.look()
    assert not await watch.watch.look()
    assert watch.host.adapter("p", "r7") is before


async def test_a_wrong_handoff_refuses_the_version(
    watch: Watched, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is whole and wrong, or has another's name, changes nothing and is logged."""
    files.hand_off("a.json", handoff("r7", url=1))
    files.hand_off("b.json", handoff("r8"))
    assert not await watch.settle()
    assert watch.replicas == ["p/r0", "p/r1"]
    assert "a.json: $.url: expected str, got int" in caplog.text
    files.hand_off("a.json", handoff("r0"))
    assert not await watch.settle()
    assert "pool 'p' has a replica 'r0' already, from " in caplog.text
    files.hand_off("a.json", handoff("r7"))
    assert await watch.settle()
    assert watch.replicas == ["p/r0", "p/r1", "p/r7", "p/r8"]


async def test_a_folder_may_come_later(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """A missing folder is logged once; it takes effect when it appears."""
    files.handoff.rmdir()
    async with AdapterHost() as host:
        watch = Watched(host, files)
        watch.watch.load()
        for _ in range(3):
            assert not await watch.watch.look()
        assert caplog.text.count("handoff: it cannot be read: No such file") == 1
        files.handoff.mkdir()
        files.hand_off("a.json", handoff("r7"))
        assert await watch.watch.look()
        assert watch.replicas == ["p/r0", "p/r1", "p/r7"]


async def test_handoff_files_at_the_beginning(files: Files) -> None:
    """from_file takes the folder, too; a half-written file is left for later."""
    files.hand_off("a.json", handoff("r7"))
    files.hand_off("b.json", handoff("r8")[:10])
    async with AdapterHost.from_file(files.workers, handoff=files.handoff) as host:
        (pool,) = host.snapshot().pools
        assert [r.replica_id for r in pool.replicas] == ["r0", "r1", "r7"]


# In the background


async def test_the_files_are_followed(files: Files) -> None:
    """`async with` binds, follows changes without being asked, and stops."""
    async with AdapterHost() as host:
        watched = Watched(host, files)
        async with WorkersWatch(
            host, files.workers, handoff=files.handoff, interval_s=0.02
        ) as watch:
            files.declare(replica("r3"))
            async with asyncio.timeout(10):
                while watched.replicas != ["p/r3"]:
                    await asyncio.sleep(0.01)
        assert list(watch.workers.replicas) == [("p", "r3")]
        files.declare(replica("r4"))
        await asyncio.sleep(0.1)
        assert watched.replicas == ["p/r3"]


async def test_a_defect_does_not_end_the_watch(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a look raises is logged once, and the next one is made."""
    async with AdapterHost() as host:
        watch = WorkersWatch(host, files.workers, interval_s=0.01)
        looks = 0

        async def look() -> bool:
            nonlocal looks
            looks += 1
            raise RuntimeError("a defect")

        monkeypatch.setattr(watch, "look", look)
        async with watch:
            async with asyncio.timeout(10):
                while looks < 3:
                    await asyncio.sleep(0.01)
    assert caplog.text.count("the workers cannot be followed: RuntimeError") == 1
