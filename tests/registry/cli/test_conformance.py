"""`worker-adapters conformance`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapter_api.conformance import CHECKS
from registry.cli.commands import conformance
from tests.registry.cli.test_output import Terminal
from tests.word_server import WordServer

Cli = Callable[..., Any]


def _verdicts(out: str) -> dict[str, str]:
    return dict(line.split("\t")[:2] for line in out.splitlines() if "\t" in line)


def test_an_adapter_that_conforms(cli: Cli, tmp_path: Path) -> None:
    """Every verdict is printed as it comes; the report is written in both forms (ORCH-3058)."""
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
    part = f"1 failed (with 3 of {len(CHECKS)} checks)"
    assert done.out.splitlines()[-1].startswith("wrong-proof does not conform to version 1: ")
    assert done.out.endswith(f"{part}\n")


def test_a_partial_report_is_marked_as_partial(cli: Cli, tmp_path: Path) -> None:
    """With --only nothing is said of the whole, in either form of the report."""
    arguments = ("--only", "order", "--report", str(tmp_path))
    done = cli("conformance", "openai-http", *arguments)
    assert done.code == 0, done.out
    every = len(CHECKS)
    assert done.out.splitlines()[-1] == (
        f"the report on openai-http is incomplete: 2 passed (with 2 of {every} checks)"
    )
    report = json.loads((tmp_path / "openai-http.json").read_text())
    assert report["conforms"] is None
    assert len(report["not_examined"]) == every - 2


def test_an_adapter_that_ends_the_process(cli: Cli, samples: Callable[..., None]) -> None:
    """SystemExit of a hook is a verdict; the run continues to its report."""
    samples("wrong_adapters")
    done = cli("conformance", "wrong-answers.exits", "--only", "health")
    assert _verdicts(done.out) == {"health": "passed"}
    done = cli("conformance", "wrong-answers.exits")
    assert done.code == 1
    assert _verdicts(done.out)["answers"] == "failed"
    assert "raised SystemExit: 7" in done.out


@pytest.mark.parametrize("name", ["file", "file/below", "folder"])
def test_a_report_that_cannot_be_written_fails_first(cli: Cli, tmp_path: Path, name: str) -> None:
    """An unwritable report fails before any check runs; the message names the path."""
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "mock.json").mkdir(parents=True)
    done = cli("conformance", "mock", "--report", str(tmp_path / name))
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith(f"error: --report: {tmp_path / name}")
    assert done.err.count("\n") == 1


def test_a_name_that_is_not_a_file_name(
    cli: Cli, site: Any, adapter_source: str, tmp_path: Path
) -> None:
    """A slash in an adapter's name is none in its report's path."""
    entry = "made/slash = made_slash:Adapter"
    site.install("made-slash", entry, {"made_slash.py": adapter_source})
    done = cli("conformance", "made/slash", "--only", "health", "--report", str(tmp_path))
    assert done.code == 0, done.err
    assert (tmp_path / "made-slash.md").exists()


def test_what_an_engine_lacks_is_reported(cli: Cli, samples: Callable[..., None]) -> None:
    """A capability that is declared absent is printed with the reason, and is not a failure."""
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


def test_a_real_engine_may_be_given(cli: Cli, serve: Callable[..., WordServer]) -> None:
    """General checks run against the engine of --base-url, under its model's name."""
    server = serve()
    done = cli(
        *("conformance", "openai-http", "--base-url", server.base_url),
        *("--model", "toy", "--only", "concurrent", "--only", "health"),
    )
    assert done.code == 0, done.out
    assert _verdicts(done.out)["concurrent"] == "passed"


def test_another_protocol_without_its_engine_is_incomplete(
    cli: Cli, samples: Callable[..., None]
) -> None:
    """Checks that need a real engine make the report incomplete, with exit status 4."""
    samples("wrong_adapters")
    done = cli("conformance", "right-messages", "--only", "faults-refusals", "--only", "health")
    assert done.code == 4, done.out
    verdicts = _verdicts(done.out)
    assert verdicts["health"] == "passed"
    assert verdicts["answers"] == verdicts["faults-refusals"] == "not_examined"
    assert "--base-url" in done.out


def test_engines_that_are_down_need_no_protocol(cli: Cli, site: Any, adapter_source: str) -> None:
    """The adapter's own options are examined, whatever its protocol (ORCH-3057)."""
    source = adapter_source.replace("size: int = 1", 'base_url: str = ""')
    site.install("made-blind", "made-blind = made_blind:Adapter", {"made_blind.py": source})
    done = cli("conformance", "made-blind", "--only", "lab-health")
    assert done.code == 1, done.out
    assert _verdicts(done.out) == {"health": "passed", "lab-health": "failed"}
    assert "health() reports ready" in done.out


def test_a_list_of_the_checks(cli: Cli) -> None:
    """Every check has a line with its rule."""
    done = cli("conformance", "--list")
    names = [line.split("\t")[0] for line in done.out.splitlines()]
    assert done.code == 0
    assert names == [check.name for check in CHECKS]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "missing argument NAME"),
        (("mock", "--only", "cancle"), 2, "there is no check 'cancle'; did you mean 'cancel'?"),
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


def test_on_a_terminal_one_reason_is_printed_once(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks that are absent for the same reason are counted, not listed."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(conformance, "out", Terminal)
    done = cli("conformance", "mock", "--only", "order", "--only", "proxied", "--only", "lab-props")
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[1] for line in lines if line[0] == "order"] == ["passed"]
    assert [line[:2] for line in lines[-3:-1]] == [["proxied", "absent"], ["1", "more"]]
    assert lines[-2][2:] == ["absent", "for", "the", "same", "reason"]
    assert done.out.count("it is not an HTTP adapter") == 1


def test_a_narrow_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of checks leave room for remarks, which the terminal itself wraps."""
    monkeypatch.setattr(conformance, "out", Terminal)
    monkeypatch.setenv("COLUMNS", "48")
    shown = cli("conformance", "mock", "--only", "identity").out
    assert "identity         passed       mock 1.0\n" in shown
