"""The examples of docs/how-to/batch-ray.md, on a cluster of this machine."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "how-to" / "batch-ray.md"


@pytest.fixture
def engine_url() -> Iterator[str]:
    """A scripted engine."""
    command = [sys.executable, "-m", "registry.cli", "demo", "--serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        found = re.search(r"listening on (\S+);", process.stderr.readline())
        assert found is not None
        yield found[1]
        process.kill()


def test_the_page(engine_url: str, tmp_path: Path) -> None:
    """The command and the pipeline of the page answer its two reviews."""
    for name, text in re.findall(
        r'^```text title="(\S+)"\n(.*?)^```$', PAGE.read_text(), re.S | re.M
    ):
        (tmp_path / name).write_text(text.replace("http://localhost:8000", engine_url))
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    more = {"ENGINE_KEY": "k", "PYTHONPATH": str(ROOT), "PATH": tools}
    for command in (["bash", "-e", "run.sh"], [sys.executable, "pipeline.py"]):
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | more, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "reviews.output.jsonl").read_text().splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == ["1", "2"]
    rows = read_table(tmp_path / "labelled").to_pylist()
    assert sorted(row["id"] for row in rows) == [1, 2]
    assert all(row["answer_ok"] and row["answer_text"] for row in rows)
