"""Large runs: memory does not grow with the rows, and a long run resumes at once."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import attrs
import msgspec
import pytest

from registry.batch.journal import Header
from registry.batch.rows import Mapped, examine
from registry.batch.runs import Plan

_RUN = """
import asyncio, resource, sys, time
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
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, first[0])

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
    """Run the input in a new process; return its peak of memory in kB and CPU to the first row."""
    command = [sys.executable, "-c", _RUN, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(found[0]), float(found[1])


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Ten times the rows take less than a tenth more memory, finished ones and open ones."""
    peaks = []
    for rows in (20_000, 200_000):
        folder = tmp_path / str(rows)
        _input(folder, rows)
        _finished(folder, rows - 500)
        peaks.append(_run(folder)[0])
    few, many = peaks
    assert many < few * 1.1, peaks
    assert len((tmp_path / "200000" / "out.jsonl").read_bytes().splitlines()) == 200_000


@pytest.mark.exhaustive
def test_open_rows_take_no_memory(tmp_path: Path) -> None:
    """The same with rows that are all answered in the run."""
    peaks = []
    for rows in (1_000, 20_000):
        _input(tmp_path / str(rows), rows)
        peaks.append(_run(tmp_path / str(rows))[0])
    few, many = peaks
    assert many < few * 1.1, peaks


@pytest.mark.exhaustive
def test_a_million_finished_rows_resume_at_once(tmp_path: Path) -> None:
    """A run with 1,000,000 finished rows takes less than 10 s of CPU to its first new row."""
    folder = tmp_path / "million"
    _input(folder, 1_000_100)
    _finished(folder, 1_000_000)
    peak_kb, begins_s = _run(folder)
    assert begins_s < 10.0
    assert peak_kb < 200_000
