"""Blocks of rows, as an actor answers them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from registry.batch import BatchError, Limits
from registry.batch.ray import stage
from registry.batch.ray.stage import Stage

WORKERS = '[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "mock"\noptions = {{ {options} }}\n'


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    """Makes a stage over one mock replica; takes the mock's options and those of `stage`."""
    stages: list[Stage] = []

    def make(options: str = "echo = true", **more: Any) -> Stage:
        path = tmp_path / "workers.toml"
        path.write_text(WORKERS.format(options=options))
        stages.append(stage(workers=path, **more)())
        return stages[-1]

    yield make
    for one in stages:
        one.close()


async def answered(stage: Stage, table: Any) -> list[dict[str, Any]]:
    """Return the rows that a stage makes of a batch."""
    (result,) = [batch async for batch in stage(table)]
    rows: list[dict[str, Any]] = result.to_pylist()
    return rows


async def test_a_batch_gets_columns(made: Any) -> None:
    """The batch keeps its columns and gets those of the answers, failed rows too."""
    table = pyarrow.table({"prompt": ["one", None, "three"], "label": [1, 2, 3]})
    rows = await answered(made(), table)
    assert [row["label"] for row in rows] == [1, 2, 3]
    assert [row["answer_text"] for row in rows] == ["one", None, "three"]
    assert [row["answer_ok"] for row in rows] == [True, False, True]
    assert rows[1]["answer_error_code"] == "invalid_row"


async def test_a_repeated_batch_sends_only_the_rest(made: Any, tmp_path: Path) -> None:
    """Rows in a block's journal are not sent again, in another actor either."""
    checkpoints = tmp_path / "checkpoints"
    table = pyarrow.table({"prompt": ["one", "two"]})
    await answered(made(checkpoints=checkpoints), table)
    (journal,) = checkpoints.iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]))  # the header and the first row that ended
    kept = json.loads(lines[1].split(b" ", 3)[3])["custom_id"]
    rows = await answered(made('tokens = ["new"]', checkpoints=checkpoints), table)
    assert len(list(checkpoints.iterdir())) == 2, "other workers make another block"
    rows = await answered(made(checkpoints=checkpoints), table)
    assert [row["answer_text"] for row in rows] == ["one", "two"]
    again = journal.read_bytes().splitlines()
    assert len(again) == 3
    assert json.loads(again[2].split(b" ", 3)[3])["custom_id"] != kept


async def test_what_fails_every_row_ends_the_pipeline(made: Any) -> None:
    """A refused key is an exception, not a column of errors."""
    table = pyarrow.table({"prompt": ["one", "two"]})
    with pytest.raises(BatchError, match="every row would fail with UPSTREAM_AUTH"):
        await answered(made('error_code = "UPSTREAM_AUTH"'), table)


async def test_another_kind_of_batch_is_refused(made: Any) -> None:
    """Without batch_format, Ray Data hands over arrays: the error names what to write."""
    with pytest.raises(BatchError, match='batch_format="pyarrow"'):
        await answered(made(), {"prompt": ["one"]})


async def test_batches_end_one_after_the_other(made: Any) -> None:
    """Batches that an actor has at once do not all wait for the slowest: the first ends first."""
    answering = made("echo = true, delay_s = 0.01", limits=Limits(max_in_flight=4))
    ended: list[str] = []

    async def answer(name: str) -> None:
        await answered(answering, pyarrow.table({"prompt": [name] * 40}))
        ended.append(name)

    batches = [asyncio.create_task(answer(name)) for name in "abc"]
    await asyncio.wait(batches, return_when=asyncio.FIRST_COMPLETED)
    assert len(ended) == 1
    await asyncio.gather(*batches)
