"""`worker-adapters conformance`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapter_api.conformance import CHECKS
from adapter_api.conformance.lab import FAULT_CHECKS
from registry.cli.toy_server import ToyServer

Cli = Callable[..., Any]


def _verdicts(out: str) -> dict[str, str]:
    return dict(line.split("\t")[:2] for line in out.splitlines() if "\t" in line)


def test_an_adapter_that_conforms(cli: Cli, tmp_path: Path) -> None:
    """Every check is told as it comes; the report is written in both forms (ORCH-3058)."""
    done = cli("conformance", "mock", "--option", "echo=true", "--report", str(tmp_path))
    verdicts = _verdicts(done.out)
    assert done.code == 0, done.out
    assert list(verdicts) == [check.name for check in CHECKS]
    assert verdicts["cancel-anywhere"] == "passed"
    assert done.out.splitlines()[-1].startswith("mock conforms to version 1: ")
    assert json.loads((tmp_path / "mock.json").read_text())["conforms"] is True
    assert (tmp_path / "mock.md").exists()


def test_an_adapter_that_does_not(cli: Cli, samples: Callable[..., None]) -> None:
    """A violation is explained, and the exit status is 1."""
    samples("wrong_adapters")
    done = cli("conformance", "wrong-proof", "--only", "proof")
    assert done.code == 1
    assert _verdicts(done.out) == {"answers": "passed", "terminal": "passed", "proof": "failed"}
    assert "yield Error instead" in done.out


def test_what_an_engine_lacks_is_reported(cli: Cli, samples: Callable[..., None]) -> None:
    """A capability that is declared absent is told with the reason, and no failure."""
    samples("wrong_adapters")
    arguments = ("conformance", "wrong-repeatable", "--only", "repeatable")
    assert cli(*arguments).code == 1
    done = cli(*arguments, "--absent", "seed=it throws dice")
    assert done.code == 0
    assert "repeatable\tabsent\tit throws dice" in done.out


def test_an_http_adapter_gets_the_fault_server(cli: Cli) -> None:
    """Without a base_url there is an engine for it, and faults (WA-INT-3002)."""
    name = "faults-answers-that-end-too-early"
    done = cli("conformance", "openai-http", "--only", name, "--only", "identity")
    assert done.code == 0, done.out
    assert _verdicts(done.out)[name] == "passed"


def test_a_real_engine_may_be_given(cli: Cli, serve: Callable[..., ToyServer]) -> None:
    """General checks run against the engine of --base-url, under its model's name."""
    server = serve()
    done = cli(
        *("conformance", "openai-http", "--base-url", server.base_url),
        *("--model", "toy", "--only", "concurrent", "--only", "health"),
    )
    assert done.code == 0, done.out
    assert _verdicts(done.out)["concurrent"] == "passed"


def test_another_protocol_is_no_failure(cli: Cli, site: Any, adapter_source: str) -> None:
    """An adapter that does not speak to the fault server's engine is told so."""
    source = adapter_source.replace("size: int = 1", 'base_url: str = ""').replace(
        'yield Started(task.job_id, "made", "1")',
        'raise OSError("this is another protocol")\n        yield',
    )
    site.install("made-other", "made-other = made_other:Adapter", {"made_other.py": source})
    done = cli("conformance", "made-other", "--only", "faults-refusals", "--only", "health")
    assert done.code == 0, done.out
    assert _verdicts(done.out) == {"health": "passed", "faults-understood": "absent"}


def test_a_list_of_the_checks(cli: Cli) -> None:
    """Every check has a line with its rule."""
    done = cli("conformance", "--list")
    names = [line.split("\t")[0] for line in done.out.splitlines()]
    assert done.code == 0
    assert names == [check.name for check in (*CHECKS, *FAULT_CHECKS)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "which adapter?"),
        (("mock", "--only", "cancle"), 2, "no check 'cancle'"),
        (("mock", "--option", "delay=1"), 2, "delay_s"),
        (("mock", "--absent", "speed=slow"), 2, "one of seed, messages"),
        (("mock", "--absent", "seed"), 2, "CAPABILITY=WHY"),
        (("mokc",), 3, "mock"),
    ],
)
def test_what_cannot_be_meant(
    cli: Cli, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """Wrong usage is one line that says what to do."""
    done = cli("conformance", *arguments)
    assert done.code == code
    assert message in done.err
    assert done.err.count("\n") == 1
