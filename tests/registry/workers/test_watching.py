"""A host that follows the files that declare its workers."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from adapter_api import TaskRequest, Token
from registry import AdapterHost
from registry.workers import watch as watching
from tests.registry.workers.watched import Files, Watched, replica

Write = Callable[[Path, str], None]


# The workers file


async def test_files_that_stay_change_nothing(watch: Watched) -> None:
    """Looking alone touches no replica."""
    before = watch.host.adapter("p", "r0")
    assert not await watch.settle()
    assert watch.host.adapter("p", "r0") is before


async def test_a_new_version_is_swapped_in(watch: Watched, files: Files) -> None:
    """New replicas are bound, changed ones rebound, gone ones unbound, others not touched."""
    same, gone = watch.host.adapter("p", "r0"), watch.host.adapter("p", "r1")
    files.declare(replica("r0"), replica("r2", tokens=["x"]))
    assert await watch.settle()
    assert watch.replicas == ["p/r0", "p/r2"]
    assert watch.host.adapter("p", "r0") is same
    assert gone is not same
    files.declare(replica("r0"), replica("r2", tokens=["y"]))
    assert await watch.settle()
    assert watch.config("r2").tokens == ("y",)
    assert watch.host.adapter("p", "r0") is same


async def test_a_version_must_stand_still(watch: Watched, files: Files) -> None:
    """A file is read when two looks find it the same: it could be half written, and valid."""
    files.declare(replica("r0"))
    assert not await watch.watch.look()
    files.declare(replica("r0"), replica("r1"), replica("r2"))
    assert not await watch.watch.look()
    assert watch.replicas == ["p/r0", "p/r1"]
    assert await watch.watch.look()
    assert watch.replicas == ["p/r0", "p/r1", "p/r2"]


async def test_a_file_is_replaced_atomically(watch: Watched, files: Files) -> None:
    """A rename over the file is seen, even where time and size are the same."""
    found = files.workers.stat()
    other = files.folder / "other"
    other.write_text(files.workers.read_text().replace("r1", "r9"))
    os.utime(other, ns=(found.st_mtime_ns, found.st_mtime_ns))
    other.replace(files.workers)
    assert await watch.settle()
    assert watch.replicas == ["p/r0", "p/r9"]


async def test_streams_in_flight_survive_a_swap(watch: Watched, files: Files) -> None:
    """A stream ends on the adapter it began on, rebound or unbound (AH-1001)."""
    files.declare(replica("r0", delay_s=0.05, tokens=list("abcdef")))
    assert await watch.settle()
    async with watch.host.submit("p", TaskRequest(prompt="x")) as stream:
        text = ""
        async for event in stream:
            if isinstance(event, Token):
                text += event.text
                if event.index == 0:
                    files.declare(replica("r0", tokens=["new"]))
                    assert await watch.settle()
                    files.declare(replica("r5", tokens=["other"]))
                    assert await watch.settle()
    assert text == "abcdef"
    assert watch.replicas == ["p/r5"]
    assert await watch.host.submit("p", TaskRequest(prompt="x")).text() == "other"


async def test_a_wrong_version_is_refused_whole(
    watch: Watched, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """With one problem nothing of a version is taken; the log says why, once."""
    files.declare(replica("r0", tokens=["new"]), replica("r7"), replica("r8", delay_s="x"))
    for _ in range(5):
        assert not await watch.watch.look()
    assert watch.replicas == ["p/r0", "p/r1"]
    assert watch.config("r0").tokens != ("new",)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert f"{files.workers}: $.replicas[2].options.delay_s: expected float" in record.message
    assert "refused" in record.message
    assert await watch.host.submit("p", TaskRequest(prompt="x")).text()


async def test_a_corrected_version_is_taken(
    watch: Watched, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """After a refusal the next version counts; one that comes back is logged again."""
    for _ in range(2):
        files.declare("nonsense")
        assert not await watch.settle()
        files.declare(replica("r0"), replica("r1"))
        assert not await watch.settle()  # it is what is bound
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 2
    files.declare(replica("r0"), replica("r2"))
    assert await watch.settle()
    assert watch.replicas == ["p/r0", "p/r2"]


async def test_a_file_that_is_gone_changes_nothing(
    watch: Watched, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """Removing the workers file is not removing the workers."""
    files.workers.unlink()
    assert not await watch.settle()
    assert watch.replicas == ["p/r0", "p/r1"]
    assert "it cannot be read: No such file" in caplog.text


async def test_a_policy_follows_its_file(watch: Watched, files: Files) -> None:
    """Changed settings of a pool hold from the next job on; taken out, the host's own do."""
    task = TaskRequest(prompt="x")
    files.declare(replica("r0", delay_s=0.05), head="[pools.p]\ndeadline_s = 0.01\n")
    assert await watch.settle()
    frames = [frame async for frame in watch.host.submit("p", task).frames()]
    assert frames[-1]["code"] == "DEADLINE_UNMET"
    files.declare(replica("r0", delay_s=0.05))
    assert await watch.settle()
    assert await watch.host.submit("p", attrs.evolve(task, job_id="2")).text()


async def test_options_that_are_equal_in_python_only(watch: Watched, files: Files) -> None:
    """`true` for `1` is a changed file, and a wrong one."""
    files.declare(replica("r0", error_after=1))
    assert await watch.settle()
    files.declare(replica("r0", error_after=True))
    assert not await watch.settle()


async def test_an_adapter_that_does_not_start_is_refused(
    watch: Watched,
    files: Files,
    site: Any,
    adapter_source: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """New adapters are started before anything changes; if one fails, all are closed again."""
    source = adapter_source + (
        "\nclosed = []\n"
        "class Failing(Adapter):\n"
        "    @hookimpl\n"
        "    async def start(self):\n"
        "        raise OSError('sk-12345')\n"
        "    @hookimpl\n"
        "    async def aclose(self):\n"
        "        closed.append(self)\n"
    )
    site.install("made", "failing = made_failing:Failing", {"made_failing.py": source})
    text = '[[replicas]]\npool = "p"\nreplica = "r2"\nadapter = "failing"\n'
    async with AdapterHost() as host:
        fresh = Watched(host, files)
        fresh.watch.load()
        files.declare(replica("r0", tokens=["new"]), text)
        assert not await fresh.settle()
        assert fresh.replicas == ["p/r0", "p/r1"]
        assert fresh.config("r0").tokens != ("new",)
    import made_failing

    assert len(made_failing.closed) == 1
    assert "$.replicas[1]: the adapter does not start: it failed with OSError" in caplog.text
    assert "sk-12345" not in caplog.text


SLOW = """
import asyncio, pathlib
class Slow(Adapter):
    @hookimpl
    async def start(self):
        while not pathlib.Path(self.config.gate).exists():
            await asyncio.sleep(0.005)
        if pathlib.Path(self.config.gate).read_text() == "broken":
            raise OSError("no")
    @hookimpl
    async def aclose(self):
        await asyncio.sleep(self.config.close_s)
"""


@pytest.fixture
def slow(site: Any, adapter_source: str, tmp_path: Path) -> Callable[..., str]:
    """Declares replicas whose adapters start when the file `gate` is there, unless it says
    "broken", and take `close_s` to close."""
    config = "@attrs.frozen\nclass Config:\n    gate: str\n    close_s: float = 0.0\n"
    source = adapter_source + config + SLOW.replace("(Adapter):", "(Adapter):\n    config: Config")
    site.install("made", "slow = made_slow:Slow", {"made_slow.py": source})

    def declare(name: str, close_s: float = 0.0) -> str:
        text = replica(name, gate=str(tmp_path / "gate"), close_s=close_s)
        return text.replace('"mock"', '"slow"')

    return declare


async def test_a_watch_that_is_left_in_a_swap_changes_nothing(
    slow: Callable[..., str], files: Files
) -> None:
    """Neither is the version half in force, nor is an adapter closed that is in place; the next
    look takes the version whole."""
    async with AdapterHost() as host:
        watched = Watched(host, files)
        watched.watch.load()
        files.declare(replica("r0", tokens=["new"]), slow("r1"))
        assert not await watched.watch.look()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await watched.watch.look()
        assert watched.config("r0").tokens != ("new",)
        assert await host.submit("p", TaskRequest(prompt="x")).text() != "new"
        (files.folder / "gate").touch()
        assert await watched.settle()
        assert watched.config("r0").tokens == ("new",)


async def test_an_adapter_that_is_slow_to_close_does_not_stop_the_watch(
    slow: Callable[..., str], files: Files
) -> None:
    """Versions follow each other while an old adapter closes."""
    (files.folder / "gate").touch()
    async with AdapterHost() as host:
        watched = Watched(host, files)
        files.declare(slow("r0", close_s=0.5))
        watched.watch.load()
        for tokens in (["one"], ["two"]):
            files.declare(replica("r0", tokens=tokens))
            async with asyncio.timeout(0.4):
                assert await watched.settle()
        assert watched.config("r0").tokens == ("two",)


async def test_a_start_that_failed_is_tried_again(
    slow: Callable[..., str],
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What keeps an adapter from starting may pass: the same version is taken then; the log tells
    of the failure once."""
    monkeypatch.setattr(watching, "AGAIN_S", 0.1)
    gate = files.folder / "gate"
    gate.write_text("broken")
    async with AdapterHost() as host:
        watched = Watched(host, files)
        watched.watch.load()
        files.declare(replica("r0"), slow("r2"))
        for _ in range(3):
            assert not await watched.settle()
            await asyncio.sleep(0.11)
        assert caplog.text.count("the adapter does not start: it failed with OSError") == 1
        gate.write_text("")
        assert await watched.settle()
        assert watched.replicas == ["p/r0", "p/r2"]


async def test_replicas_of_others_are_left_alone(
    watch: Watched, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """A file cannot take the place of a replica that the program has bound itself."""
    from registry import Registry

    watch.host.bind("p", "mine", Registry().get("mock", {}))
    files.declare(replica("r0"), replica("mine"))
    assert not await watch.settle()
    assert "replica 'mine' is bound already, but not by a file" in caplog.text
    files.declare(replica("r0"))
    assert await watch.settle()
    assert watch.replicas == ["p/mine", "p/r0"]
