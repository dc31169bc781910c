"""`batch`: files of every kind in and out, refusals, interruption, and the exit status."""

import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pyarrow.parquet import read_table

from tests.registry.batch.scripted_pool import ids
from tests.registry.cli.conftest import Done, Engine

Cli = Callable[..., Done]


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Undo what a run in this process does to the loggers."""
    root, jobs = map(logging.getLogger, ("worker_adapters", "worker_adapters.jobs"))
    handlers, levels = list(root.handlers), (root.level, jobs.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    jobs.setLevel(levels[1])


@pytest.fixture
def workers(tmp_path: Path) -> Callable[..., str]:
    """Writes a workers file with one mock replica; takes the mock's options as TOML."""

    def write(options: str = "echo = true") -> str:
        path = tmp_path / "workers.toml"
        path.write_text(
            '[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "mock"\n'
            f"options = {{ {options} }}\n"
        )
        return str(path)

    return write


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """An input of five prompts."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"prompt {n}"}) + "\n" for n in range(5)))
    return str(path)


def contents(path: Path) -> list[str]:
    """Return the texts of a result file."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [row["response"]["body"]["choices"][0]["message"]["content"] for row in found]


def test_a_run_and_the_same_again(
    cli: Cli, workers: Callable[..., str], rows: str, tmp_path: Path
) -> None:
    """A run answers all rows with status 0; the same command again has nothing left to do."""
    done = cli("batch", "run", rows, "--workers", workers())
    assert done.code == 0
    assert "5 of 5 rows are answered, 0 failed, 0 are left" in done.err
    assert contents(tmp_path / "in.output.jsonl") == [f"prompt {n}" for n in range(5)]
    assert (tmp_path / "in.output.errors.jsonl").read_text() == ""
    again = cli("batch", "run", rows, "--workers", workers())
    assert again.code == 0
    assert "0 are left; 0 tokens in this run" in again.err
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "in.jsonl",
        "in.output.jsonl",
        "in.output.errors.jsonl",
        "in.output.jsonl.journal",
        "workers.toml",
    }


def test_failed_rows_and_retry_failed(
    cli: Cli, workers: Callable[..., str], rows: str, tmp_path: Path
) -> None:
    """Failed rows give status 1 and a file; retry-failed sends them again as the run did."""
    broken = workers('error_code = "CONTENT_FILTER"')
    done = cli("batch", "run", rows, "--workers", broken, "--template", "<{prompt}>")
    assert done.code == 1
    assert "failures in this run: content_filter 5; each failed row has its reason" in done.err
    assert f"batch retry-failed {rows} -o {tmp_path}/in.output.jsonl sends the failed" in done.err
    assert len(ids(tmp_path / "in.output.errors.jsonl")) == 5
    done = cli("batch", "retry-failed", rows, "--workers", workers())
    assert done.code == 0, done.err
    assert contents(tmp_path / "in.output.jsonl") == [f"<prompt {n}>" for n in range(5)]
    assert ids(tmp_path / "in.output.errors.jsonl") == []


def test_retry_failed_reads_the_input_as_the_run_did(
    cli: Cli, workers: Callable[..., str], tmp_path: Path
) -> None:
    """A format that was given to the run holds for retry-failed, too."""
    path = tmp_path / "table.txt"
    path.write_text("id,text\na,one\nb,two\n")
    broken = workers('error_code = "CONTENT_FILTER"')
    options = ("--format", "csv", "--prompt-column", "text", "--id-column", "id")
    assert cli("batch", "run", str(path), *options, "--workers", broken).code == 1
    done = cli("batch", "retry-failed", str(path), "--workers", workers())
    assert done.code == 0, done.err
    assert contents(tmp_path / "table.output.jsonl") == ["one", "two"]


def test_one_bad_row(cli: Cli, workers: Callable[..., str], tmp_path: Path) -> None:
    """A line that is not JSON is one error row with a code and a message."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": \n{"prompt": "c"}\n')
    done = cli("batch", "run", str(path), "--workers", workers())
    assert done.code == 1
    assert ids(tmp_path / "in.output.jsonl") == ["row-1", "row-3"]
    (error,) = map(json.loads, (tmp_path / "in.output.errors.jsonl").read_text().splitlines())
    assert error["custom_id"] == "unreadable-row-2"
    assert error["error"]["code"] == "invalid_row"
    assert "not JSON" in error["error"]["message"]


def test_standard_input(cli: Cli, workers: Callable[..., str], tmp_path: Path) -> None:
    """Rows can be piped in; then the output needs a name, and the copy of the input goes."""
    lines = '{"prompt": "a"}\n{"prompt": "b"}\n'
    done = cli("batch", "run", "-", "--workers", workers(), stdin=lines)
    assert done.code == 2
    assert "--output is needed" in done.err
    output = tmp_path / "out.jsonl"
    options = ("-", "-o", str(output), "--workers", workers())
    assert cli("batch", "run", *options, stdin=lines).code == 0
    assert contents(output) == ["a", "b"]
    assert not list(tmp_path.glob("*input*"))
    assert "content has changed" in cli("batch", "run", *options, stdin=lines * 2).err


def test_a_named_pipe(cli: Cli, workers: Callable[..., str], tmp_path: Path) -> None:
    """A pipe, such as a shell makes of <(zcat rows.gz), is read like standard input."""
    pipe, output = tmp_path / "pipe", tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=('{"prompt": "a"}\n{"prompt": "b"}\n',))
    writer.start()
    done = cli("batch", "run", str(pipe), "-o", str(output), "--workers", workers())
    writer.join()
    assert done.code == 0, done.err
    assert contents(output) == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "output"), [("in.jsonl", "in.jsonl"), ("in.errors.jsonl", "in.jsonl")]
)
def test_the_input_is_never_replaced(
    cli: Cli, workers: Callable[..., str], tmp_path: Path, source: str, output: str
) -> None:
    """An output whose files would replace the input is refused."""
    path = tmp_path / source
    path.write_text('{"prompt": "a"}\n')
    done = cli("batch", "run", str(path), "-o", str(tmp_path / output), "--workers", workers())
    assert done.code == 2
    assert f"{path} would replace the input" in done.err
    assert path.read_text() == '{"prompt": "a"}\n'


def test_a_folder_is_not_an_output(cli: Cli, workers: Callable[..., str], rows: str) -> None:
    """An output that cannot be written is refused before a row is sent."""
    done = cli("batch", "run", rows, "-o", str(Path(rows).parent), "--workers", workers())
    assert done.code == 2
    assert "is a folder" in done.err


def test_parquet_out(cli: Cli, workers: Callable[..., str], tmp_path: Path) -> None:
    """A .parquet output is one table of answered and failed rows."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "a b"}\nnonsense\n')
    output = tmp_path / "out.parquet"
    assert cli("batch", "run", str(path), "-o", str(output), "--workers", workers()).code == 1
    good, bad = read_table(output).to_pylist()
    assert (good["custom_id"], good["ok"], good["text"]) == ("row-1", True, "a b")
    assert (good["finish_reason"], good["completion_tokens"]) == ("stop", 2)
    assert (bad["ok"], bad["text"], bad["error_code"]) == (False, None, "invalid_row")


def test_changes_are_refused(
    cli: Cli, workers: Callable[..., str], rows: str, tmp_path: Path
) -> None:
    """A changed input is refused; a changed request, too, unless --accept-changes is given."""
    cli("batch", "run", rows, "--workers", workers(), "-m", "one", "--max-cost", "1")
    changed = ("batch", "run", rows, "--workers", workers(), "-m", "two", "--max-tokens", "3")
    done = cli(*changed)
    assert done.code == 2
    assert 'body.max_tokens was not set and is 3; body.model was "one" and is "two"' in done.err
    assert cli(*changed, "--accept-changes").code == 0
    with Path(rows).open("a") as file:
        file.write('{"prompt": "one more"}\n')
    done = cli(*changed, "--accept-changes")
    assert done.code == 2
    assert "its content has changed" in done.err


def test_duplicate_ids_are_refused(cli: Cli, workers: Callable[..., str], tmp_path: Path) -> None:
    """Two rows of one custom_id are an error that names them, before anything is sent."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"custom_id": "a", "prompt": "x"}\n' * 2)
    done = cli("batch", "run", str(path), "--workers", workers())
    assert done.code == 2
    assert "rows 1 and 2 have the same one" in done.err


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("in.parquet", b"PAR1 not really", "cannot be read as parquet"),
        ("in.csv", b'prompt\n"' + b"x" * 200_000, "cannot be read as csv"),
        ("in.jsonl", b"", "has no rows"),
    ],
)
def test_an_unreadable_input_is_a_usage_error(
    cli: Cli,
    workers: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes,
    words: str,
) -> None:
    """An input that cannot be read at all is refused with one line and status 2."""
    monkeypatch.setattr("registry.batch.rows.MAX_LINE_BYTES", 100_000)
    path = tmp_path / name
    path.write_bytes(data)
    done = cli("batch", "run", str(path), "--workers", workers())
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err


def test_everything_of_a_request_passes(
    cli: Cli, engine: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools, schemas, logprobs and unknown fields reach the engine as the row has them."""
    server = engine("{}")
    body: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
        "logprobs": True,
        "top_logprobs": 3,
        "seed": 7,
        "stop": ["\n"],
        "guided_choice": ["a", "b"],
    }
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(row) + "\n")
    monkeypatch.setenv("ORCHD_OPENAI_URL", server.base_url)
    done = cli("batch", "run", str(path), "--temperature", "0", "--field", "top_k=5")
    assert done.code == 0, done.err
    (sent,) = server.bodies
    for name, value in body.items():
        assert sent[name] == value, name
    assert (sent["temperature"], sent["top_k"]) == (0, 5)


def test_a_json_schema_file(
    cli: Cli, engine: Callable[..., Engine], rows: str, tmp_path: Path
) -> None:
    """--json-schema makes a response_format named after its file."""
    server = engine("{}")
    schema = tmp_path / "label.json"
    schema.write_text('{"type": "object"}')
    workers = tmp_path / "w.toml"
    workers.write_text(
        '[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "openai-http"\n'
        f'options = {{ base_url = "{server.base_url}" }}\n'
    )
    options = ("--workers", str(workers), "-m", "m", "--json-schema", str(schema))
    assert cli("batch", "run", rows, *options).code == 0
    named = {"name": "label", "schema": {"type": "object"}, "strict": True}
    formats = [body["response_format"] for body in server.bodies]
    assert formats == [{"type": "json_schema", "json_schema": named}] * 5


def test_status(cli: Cli, workers: Callable[..., str], rows: str) -> None:
    """`status` counts the rows of a run that is not running; without a run it is an error."""
    done = cli("batch", "status", rows)
    assert done.code == 2
    assert ".journal does not exist; name the input and the --output of the run" in done.err
    cli("batch", "run", rows, "--workers", workers(), "--max-cost", "1", "--max-in-flight", "1")
    done = cli("batch", "status", rows, "--json")
    assert json.loads(done.out) == {
        "rows": 5,
        "answered": 1,
        "failed": 0,
        "left": 4,
        "running": False,
    }
    assert "4 rows that are left" in cli("batch", "status", rows).out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_drains_and_says_how_to_go_on(
    cli: Cli,
    start: Callable[..., "subprocess.Popen[str]"],
    workers: Callable[..., str],
    rows: str,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    """After a signal the row in flight ends, the status tells, and the same command resumes."""
    with Path(rows).open("a") as file:
        file.writelines(f'{{"prompt": "prompt {n}"}}\n' for n in range(5, 200))
    slow = workers("echo = true, delay_s = 0.3")
    options = ("batch", "run", rows, "--workers", slow, "--max-in-flight", "1")
    process = start(*options)
    journal = tmp_path / "in.output.jsonl.journal"
    while process.poll() is None and not (journal.exists() and b" ok " in journal.read_bytes()):
        time.sleep(0.01)
    status = json.loads(cli("batch", "status", rows, "--json").out)
    assert status["running"]
    assert status["rows_per_s"] >= 0
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "the run stopped (interrupted): the same command again resumes" in err
    before = contents(tmp_path / "in.output.jsonl")
    assert 0 < len(before) < 200
    assert cli("batch", "run", rows, "--workers", workers()).code == 0
    assert contents(tmp_path / "in.output.jsonl") == [f"prompt {n}" for n in range(200)]


def test_a_second_signal_abandons_rows_in_flight(
    start: Callable[..., "subprocess.Popen[str]"],
    workers: Callable[..., str],
    rows: str,
    tmp_path: Path,
) -> None:
    """Rows that take too long are not waited for, and the note says how to go on."""
    process = start("batch", "run", rows, "--workers", workers("delay_s = 60"))
    while not (tmp_path / "in.output.jsonl.running").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        time.sleep(0.3)  # two signals at once would be one
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    assert process.returncode == 130
    assert "abandoned; the same command again resumes" in process.communicate()[1]
    assert (tmp_path / "in.output.jsonl").read_text() == ""


def test_lines_of_progress_without_a_terminal(
    cli: Cli, workers: Callable[..., str], rows: str
) -> None:
    """In a pipe the progress is plain lines on standard error, and standard output stays empty."""
    done = cli("batch", "run", rows, "--workers", workers())
    assert done.out == ""
    assert "of 5 rows, " in done.err
    assert "\x1b" not in done.err


def test_busy_rows_are_not_logged_one_by_one(
    cli: Cli, workers: Callable[..., str], rows: str
) -> None:
    """Failures are counted; a line for each would drown the progress."""
    done = cli("batch", "run", rows, "--workers", workers('error_code = "CONTENT_FILTER"'))
    assert "the job failed" not in done.err
