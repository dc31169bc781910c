"""Large runs: memory hardly grows with the rows, and a long run resumes at once."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import attrs
import msgspec
import pytest

from registry.batch.journal import Header
from registry.batch.rows import Mapped
from registry.batch.runs import Plan
from registry.batch.source import examine

BYTES_PER_ROW = 32
"""The memory that a row may take: its state, the place of its result, and sorting. The
objects of one row that were kept would take a thousand."""

_RUN = """
import asyncio, json, sys, time, zlib
from pathlib import Path
import registry
from registry import AdapterHost
from registry.batch import Limits, Plan, run_plan

async def main(folder):
    plan = Plan(input=folder / "in.jsonl", output=folder / "out.jsonl",
                limits=Limits(max_in_flight=64))
    async with AdapterHost() as host:
        host.bind("default", "r0", registry.get("mock", {"tokens": ("x",)}))
        await host.check("default")
        began = time.process_time()
        first = []
        def begin(run):
            first.append(time.process_time() - began)
        summary = await run_plan(plan, host, begin)
    assert summary.answered == summary.rows, summary
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_bytes = int(status["VmHWM"].split()[0]) * 1024
    began = time.process_time()
    with plan.journal.open("rb") as file:
        sum(zlib.crc32(line) for line in file)
    reading_s = time.process_time() - began
    print(json.dumps([peak_bytes, first[0] / reading_s]))

asyncio.run(main(Path(sys.argv[1])))
"""


def _input(folder: Path, rows: int) -> Path:
    folder.mkdir()
    path = folder / "in.jsonl"
    with path.open("w") as file:
        for number in range(rows):
            file.write(f'{{"custom_id": "row {number}", "prompt": "What is {number}?"}}\n')
    return path


def _finished(folder: Path, done: int) -> None:
    """Write the journal of a run that has answered the first `done` rows."""
    plan = Plan(input=folder / "in.jsonl", output=folder / "out.jsonl")
    source = examine(plan.input, Mapped())
    header = Header(source.sha256, source.rows, plan.identity(source.format))
    message = {"role": "assistant", "content": "x", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    body = json.dumps({"id": "chatcmpl-0", "choices": [choice], "usage": usage})
    with plan.journal.open("wb") as file:

        def write(line: bytes) -> None:
            file.write(b"%08x %s\n" % (zlib.crc32(line), line))

        write(b"header " + msgspec.json.encode(attrs.asdict(header)))
        for number in range(done):
            result = f'{{"custom_id":"row {number}","response":{{"status_code":200,"body":{body}}},'
            write(f'{number} ok {result}"error":null}}'.encode())


def _run(folder: Path) -> tuple[int, float]:
    """Run the input in a new process.

    Returns:
        Its peak of memory in bytes, and its CPU to the first row, as a multiple of what reading the
        journal's lines and their checksums takes.
    """
    command = [sys.executable, "-c", _RUN, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_bytes, begins = json.loads(done.stdout)
    return peak_bytes, begins


def _growth(peaks: dict[int, int]) -> float:
    """Return how many bytes a row takes, from the peaks of a short and a long run."""
    (few, small), (many, large) = sorted(peaks.items())
    return (large - small) / (many - few)


@pytest.mark.exhaustive
def test_a_million_finished_rows(tmp_path: Path) -> None:
    """A run with 1,000,000 finished rows takes some bytes for each, and resumes at once.

    It begins after a few times what reading its journal takes: a second, on a machine of 2024.
    """
    peaks = {}
    for rows in (20_000, 1_000_000):
        folder = tmp_path / str(rows)
        _input(folder, rows + 500)
        _finished(folder, rows)
        peaks[rows], begins = _run(folder)
    assert _growth(peaks) < BYTES_PER_ROW, peaks
    assert begins < 8.0
    with (folder / "out.jsonl").open("rb") as file:
        assert sum(1 for _ in file) == 1_000_500


@pytest.mark.exhaustive
def test_open_rows_take_no_memory(tmp_path: Path) -> None:
    """The same with rows that are all answered in the run."""
    peaks = {}
    for rows in (1_000, 20_000):
        _input(tmp_path / str(rows), rows)
        peaks[rows] = _run(tmp_path / str(rows))[0]
    assert _growth(peaks) < 200, peaks  # one kept row takes more than a thousand bytes
