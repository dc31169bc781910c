"""The log of the command line."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from registry.cli.terminal.logs import JsonFormatter, OneLineFormatter

Start = Callable[..., "subprocess.Popen[str]"]


def test_outcomes_as_json(start: Start) -> None:
    """--log-json writes one record for the job, with its facts, and nothing else to stderr."""
    process = start("--log-json", "submit", "hi", "--adapter", "mock")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    records = [json.loads(line) for line in err.splitlines()]
    (ended,) = [record for record in records if record["message"] == "the answer is whole"]
    assert ended["level"] == "INFO"
    assert ended["adapter"] == "mock"
    assert ended["tokens_out"] == 9


def _record(text: str, **facts: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text, "levelname": "INFO", "name": "x", **facts})


def test_a_record_is_one_line_of_json() -> None:
    """Facts are keys of their own, and an exception has its traceback."""
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = _record("x\ny", job_id="j", odd={1}, exc_info=sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    data = json.loads(line)
    assert (data["message"], data["job_id"], data["odd"]) == ("x\ny", "j", "{1}")
    assert "ValueError: a" in data["exception"]


def test_a_plain_record_names_its_job() -> None:
    """Messages have no names in them; those that the record carries follow."""
    record = _record("the job failed", job_id="j1", pool_id="chat", replica_id=None)
    line = OneLineFormatter("%(message)s").format(record)
    assert line == "the job failed (job_id j1, pool_id chat)"


def test_a_plain_record_is_one_harmless_line() -> None:
    """Texts from elsewhere neither steer the terminal nor forge a second record."""
    assert OneLineFormatter("%(message)s").format(_record("a\n\x1b[2Jb")) == "a; \ufffd[2Jb"


def test_a_replica_is_told_once(start: Start, tmp_path: Path) -> None:
    """The log of a run has the change of a replica with its reason, and no second line for it."""
    workers = tmp_path / "workers.toml"
    workers.write_text(
        '[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "openai-http"\n'
        'options = { base_url = "http://127.0.0.1:1" }\n'
    )
    line = '{"job_id": "j1", "prompt": "hi"}\n'
    options = ("--workers", str(workers), "--state", str(tmp_path / "state"))
    process = start("serve", *options, stdin=subprocess.PIPE)
    _, err = process.communicate(line, timeout=60)
    assert process.returncode == 1
    lines = err.splitlines()
    assert sum("replica r0 of pool p is down: cannot connect" in line for line in lines) == 1
    assert not [line for line in lines if "the engine is" in line]
    assert [line for line in lines if "the job failed" in line and "(job_id j1, pool_id p" in line]
