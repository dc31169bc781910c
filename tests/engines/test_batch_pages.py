"""The pages on bulk runs, word for word, with a real engine."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

from tests.engines.conftest import ACTOR, ROOT

pytestmark = pytest.mark.engine

PAGES = ROOT / "docs" / "how-to"
BIN = Path(sys.executable).parent


def _files(page: str, folder: Path) -> None:
    """Write the files that a page shows."""
    text = (PAGES / page).read_text()
    for name, content in re.findall(r'^```text title="(\S+)"\n(.*?)^```$', text, re.S | re.M):
        (folder / name).write_text(content)


def _commands(page: str, folder: Path, url: str, *, all_succeed: bool = True) -> str:
    """Run the commands that a page shows; return what they print."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", (PAGES / page).read_text(), re.S | re.M)
    environment = os.environ | {"ORCHD_OPENAI_URL": url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", *["-e"] * all_succeed, "-c", "".join(blocks)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The engine that the page starts, with a model whose vocabulary can write JSON."""
    _files("batch-engine.md", tmp_path)
    command = [sys.executable, "serve.py", str(ACTOR), "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield next(line.split()[-1] for line in process.stdout if line.startswith("listening"))
        process.kill()


def test_answer_a_file(url: str, tmp_path: Path) -> None:
    """The three questions are answered, in order."""
    out = _commands("batch-engine.md", tmp_path, url)
    assert "3 of 3 rows have ended, 0 of them failed" in out
    rows = read_table(tmp_path / "answers.parquet").to_pylist()
    assert [row["custom_id"] for row in rows] == ["capital", "river", "peak"]
    assert all(row["completion_tokens"] > 0 for row in rows)
    shown = subprocess.run([sys.executable, "show.py"], cwd=tmp_path, capture_output=True)
    assert shown.stdout.startswith(b"capital ")


def test_evaluate_a_prompt(url: str, tmp_path: Path) -> None:
    """Each answer is one of the two labels, and the score counts rows that are none, too."""
    _files("evaluate.md", tmp_path)
    out = _commands("evaluate.md", tmp_path, url, all_succeed=False)  # small models are often cut
    assert re.search(r"first.jsonl: accuracy \d\.\d\d ± \d\.\d\d of 4 rows", out)
    for name in ("first.jsonl", "second.jsonl"):
        for line in (tmp_path / name).read_text().splitlines():
            content = json.loads(line)["response"]["body"]["choices"][0]["message"]["content"]
            assert re.match(r'\{\s*"label"\s*:\s*"(good|bad)"', content)
