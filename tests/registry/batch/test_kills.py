"""Runs that are killed at any moment: the same command again resumes, no row is lost or doubled.

The command runs as a process of its own and asks a scripted server, which counts.
"""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import attrs
import pytest

from adapter_api.faults import Request, ScriptServer, Wire
from tests.registry.batch.scripted_pool import ids

ROOT = Path(__file__).parents[3]
AT_ONCE = 8
_FINISHED = re.compile(rb"^[0-9a-f]{8} (\d+) (?:ok|error) .*\n", re.MULTILINE)


@attrs.define(eq=False)
class Bulk:
    """An input, a server for it, and the command that joins them.

    Attributes:
        forking: Starts the command.
        folder: Where its files are.
        rows: How many rows the input has; the server refuses those that end in 7.
        asked: How often the server got each row.
        changed: Set at each request.
    """

    forking: "subprocess.Popen[str]"
    folder: Path
    rows: int
    asked: Counter[str] = attrs.field(factory=Counter)
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    server: ScriptServer = attrs.field(init=False)

    async def __aenter__(self) -> Self:
        with (self.folder / "in.jsonl").open("w") as file:
            for number in range(self.rows):
                file.write(json.dumps({"custom_id": f"c{number}", "prompt": str(number)}) + "\n")
        self.server = await ScriptServer(self._answer).__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.server.__aexit__(*exc_info)

    async def _answer(self, request: Request, wire: Wire) -> None:
        if request.method != "POST":
            await wire.reply({"data": [{"id": "m"}]})
            return
        prompt = request.json()["messages"][0]["content"]
        self.asked[prompt] += 1
        self.changed.set()
        await asyncio.sleep(random.uniform(0, 0.004))
        if prompt.endswith("7"):
            await wire.reply({"error": {"message": "no sevens"}}, 400)
            return
        await wire.stream_head()
        await wire.text(prompt)
        await wire.rest()

    async def begin(self, max_file_bytes: int = 0) -> "tuple[int, asyncio.Task[int]]":
        """Start the command; return its process id, and a task that gives its exit status."""
        assert self.forking.stdin is not None
        arguments = ["batch", "run", str(self.folder / "in.jsonl"), "-m", "m"]
        arguments += ["-o", str(self.folder / "out.jsonl"), "--max-in-flight", str(AT_ONCE)]
        order: dict[str, Any] = {"arguments": arguments, "max_file_bytes": max_file_bytes}
        order |= {"err": str(self.folder / "err.txt"), "url": self.server.base_url}
        print(json.dumps(order), file=self.forking.stdin, flush=True)
        return await self._number(), asyncio.create_task(self._number())

    async def _number(self) -> int:
        assert self.forking.stdout is not None
        return int(await asyncio.to_thread(self.forking.stdout.readline))

    async def finish(self, max_file_bytes: int = 0) -> tuple[int, str]:
        """Run the command to its end; return its exit status and what it printed."""
        _, ended = await self.begin(max_file_bytes)
        return await ended, (self.folder / "err.txt").read_text()

    async def kill_at(self, requests: int, delay_s: float) -> bool:
        """Run the command until so many requests have come, and a little longer, and kill it.

        Returns:
            False if it had ended by itself.
        """
        pid, ended = await self.begin()
        while self.asked.total() < requests and not ended.done():
            self.changed.clear()
            changed = asyncio.create_task(self.changed.wait())
            await asyncio.wait({changed, ended}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        await asyncio.wait({ended}, timeout=delay_s)
        if not ended.done():
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
        return await ended == -signal.SIGKILL

    def finished(self) -> set[str]:
        """Return the rows whose results the journal has."""
        journal = self.folder / "out.jsonl.journal"
        data = journal.read_bytes() if journal.exists() else b""
        return {match[1].decode() for match in _FINISHED.finditer(data)}

    def check(self) -> None:
        """Every row is in one of the result files exactly once."""
        expected = {f"c{n}": not str(n).endswith("7") for n in range(self.rows)}
        answered, failed = (ids(self.folder / name) for name in ("out.jsonl", "out.errors.jsonl"))
        assert answered == [name for name, good in expected.items() if good]
        assert failed == [name for name, good in expected.items() if not good]
        for line in (self.folder / "out.jsonl").read_text().splitlines():
            row = json.loads(line)
            content = row["response"]["body"]["choices"][0]["message"]["content"]
            assert row["custom_id"] == f"c{content}"


@pytest.fixture(scope="module")
def forking() -> "Iterator[subprocess.Popen[str]]":
    """The process that starts the command."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ORCHD_")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "tests.registry.batch.forking"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield process


async def _killed_and_resumed(bulk: Bulk, kills: int) -> None:
    """Kill the run at random rows, and let the last one finish."""
    for requests in sorted(random.choices(range(bulk.rows * 9 // 10), k=kills)):
        before, asked = bulk.finished(), bulk.asked.copy()
        assert await bulk.kill_at(requests, random.uniform(0, 0.01))
        assert all(bulk.asked[prompt] == asked[prompt] for prompt in before)
    before, asked = bulk.finished(), bulk.asked.copy()
    code, err = await bulk.finish()
    assert code == 1, err  # some rows failed
    assert all(bulk.asked[prompt] == asked[prompt] for prompt in before)
    assert bulk.asked.total() <= bulk.rows + kills * AT_ONCE
    bulk.check()


async def test_kills_lose_and_double_nothing(
    forking: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """Killed three times, each row is in the results once; only rows in flight are sent again."""
    async with Bulk(forking, tmp_path, 90) as bulk:
        await _killed_and_resumed(bulk, 3)


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
async def test_two_hundred_kills(forking: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """The same with 200 kills, and with kills while the results are written."""
    async with Bulk(forking, tmp_path, 4000) as bulk:
        await _killed_and_resumed(bulk, 200)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await bulk.finish()
        whole_s = loop.time() - began_s
        asked = bulk.asked.copy()
        for _ in range(40):
            await bulk.kill_at(0, whole_s * random.uniform(0, 1))
            bulk.check()
        assert (await bulk.finish())[0] == 1
        assert bulk.asked == asked
        bulk.check()


async def test_a_full_disk_loses_nothing(forking: "subprocess.Popen[str]", tmp_path: Path) -> None:
    """A full disk ends the run with its error; with room again, the same command resumes."""
    async with Bulk(forking, tmp_path, 120) as bulk:
        code, err = await bulk.finish(max_file_bytes=20_000)
        assert code == 1
        assert "File too large; once that is mended, the same command again resumes" in err
        before, asked = bulk.finished(), bulk.asked.copy()
        assert 10 < len(before) < 90
        assert (tmp_path / "out.jsonl.journal").stat().st_size <= 20_000
        assert (await bulk.finish())[0] == 1
        assert all(bulk.asked[prompt] == asked[prompt] for prompt in before)
        bulk.check()


async def test_a_torn_line_is_one_open_row(
    forking: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """A power cut that leaves half of the last line costs its row one more request."""
    async with Bulk(forking, tmp_path, 30) as bulk:
        await bulk.finish()
        journal = tmp_path / "out.jsonl.journal"
        journal.write_bytes(journal.read_bytes()[:-20])
        before = bulk.finished()
        assert len(before) == 29
        await bulk.finish()
        assert Counter(bulk.asked.values()) == {1: 29, 2: 1}
        bulk.check()
