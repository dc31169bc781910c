"""`worker-adapters check`."""

import json
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


def test_all_is_well(cli: Cli) -> None:
    """Installed adapters that keep the contract are listed, and the status is 0 (ORCH-3054)."""
    done = cli("check")
    rows = {line.split("\t")[0]: line.split("\t") for line in done.out.splitlines()}
    assert done.code == 0
    assert done.err == ""
    assert rows["mock"][3:] == ["adapters.mock:MockAdapter", "ok"]


def test_all_problems_of_all_plugins(cli: Cli, samples: Callable[..., None]) -> None:
    """Every broken plugin is reported with all its problems, and none hides another."""
    samples("broken_pack")
    done = cli("check")
    rows = {line.split("\t")[0]: line.split("\t")[4] for line in done.out.splitlines()}
    broken = [name for name, status in rows.items() if status == "broken"]
    assert done.code == 3
    assert len(broken) == 10
    assert rows["pack-ok"] == rows["openai-http"] == "ok"
    assert all(f"'{name}'" in done.err for name in broken)
    assert "\n  - " in done.err or "\n- " in done.err, "a list of problems keeps its lines"


@pytest.fixture
def choosy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter whose options all have defaults, and that wants one of two nevertheless."""
    source = """
        import attrs
        from adapters.mock import MockAdapter
        @attrs.frozen
        class Config:
            url: str | None = None
            path: str | None = None
            def __attrs_post_init__(self):
                if not (self.url or self.path): raise ValueError("give url or path")
        class Choosy(MockAdapter):
            Config = Config
    """
    info = tmp_path / "choosy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: choosy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[worker_adapters]\nchoosy = made_choosy:Choosy\n")
    (tmp_path / "made_choosy.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("choosy")
def test_defaults_that_an_adapter_refuses(cli: Cli) -> None:
    """An adapter that needs options is not a defect, and hides none of the others."""
    done = cli("check")
    rows = {line.split("\t")[0]: line.split("\t")[4] for line in done.out.splitlines()}
    assert (done.code, done.err) == (0, "")
    assert rows["choosy"] == "ok: needs options: give url or path"
    assert rows["mock"] == rows["openai-http"] == "ok"


def test_one_of_two_distributions(cli: Cli, samples: Callable[..., None]) -> None:
    """An ambiguous name lists what each distribution offers; each can be selected."""
    samples("acme_echo", "rival_echo")
    done = cli("check", "acme-echo")
    statuses = {line.split("\t")[0]: line.split("\t")[4] for line in done.out.splitlines()}
    assert done.code == 3
    assert statuses["acme-echo"] == "ambiguous"
    assert statuses["acme-echo:acme-echo"] == "ok"
    assert cli("check", "acme-echo:acme-echo").code == 0


@pytest.mark.parametrize("command", ["check", "describe", "submit hi --adapter"])
def test_an_ambiguous_name_is_told_apart_as_it_is_typed(
    cli: Cli, samples: Callable[..., None], command: str
) -> None:
    """The advice is what to type here, not what to write in Python."""
    samples("acme_echo", "rival_echo")
    done = cli(*command.split(), "acme-echo")
    assert done.code == 3
    assert "name the distribution, as in acme-echo:acme-echo" in done.err
    assert "registry.get" not in done.err


def test_an_unknown_name(cli: Cli) -> None:
    """The error for an unknown name lists the installed adapters."""
    done = cli("check", "openai-htpp")
    assert done.code == 3
    assert "openai-http" in done.err


def test_a_blocked_name_is_not_a_problem(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked adapter is not a defect."""
    monkeypatch.setenv("WORKER_ADAPTERS_BLOCKED", "mock")
    done = cli("check")
    assert done.code == 0
    assert "mock\tworker-adapters" in done.out
    assert "blocked" in done.out


DEADLY = """
    import os, signal, sys
    print("a word at import")
    os.write(1, b"a word past sys.stdout\\n")
    {deed}
    from adapters.mock import MockAdapter
    class Deadly(MockAdapter): pass
"""


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs an adapter that prints at import, and then does a deed."""

    def install(deed: str) -> None:
        info = tmp_path / "deadly-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[worker_adapters]\ndeadly = made_deadly:Deadly\n")
        source = textwrap.dedent(DEADLY).replace("{deed}", deed)
        (tmp_path / "made_deadly.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.syspath_prepend(tmp_path)

    return install


Start = Callable[..., "subprocess.Popen[str]"]


def test_a_plugin_that_kills_the_process(
    start: Start, deadly: Callable[[str], None], tmp_path: Path
) -> None:
    """The name of each adapter is printed before it is loaded, so that the culprit stands last."""
    deadly("os.kill(os.getpid(), signal.SIGILL)")
    out, _ = start("check", path=tmp_path).communicate(timeout=60)
    assert out.splitlines()[-1] == "deadly\t"


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", "loading it killed the process (SIGILL)"),
        pytest.param(
            "os._exit(7)",
            "the process that loaded it exited with status 7",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_isolated(cli: Cli, deadly: Callable[[str], None], deed: str, said: str) -> None:
    """With --isolated such an adapter is a row like any other, and the others are checked."""
    deadly(deed)
    done = cli("check", "--isolated")
    rows = {line.split("\t")[0]: line.split("\t")[4] for line in done.out.splitlines()}
    assert done.code == 3
    assert rows["deadly"] == "broken"
    assert rows["mock"] == rows["openai-http"] == "ok"
    assert f"error: adapter 'deadly' is broken: {said}" in done.err


def test_what_plugins_print_goes_to_standard_error(
    start: Start, deadly: Callable[[str], None], tmp_path: Path
) -> None:
    """Not even what is written to the descriptor gets among our own lines."""
    deadly("")
    process = start("submit", "hi", "--adapter", "deadly", "--frames", path=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert [json.loads(line)["type"] for line in out.splitlines()][-1] == "end"
    assert "a word at import" in err
    assert "a word past sys.stdout" in err


def test_json(cli: Cli) -> None:
    """--json prints everything that is known of each adapter."""
    for command in ("check", "list"):
        found = {each["name"]: each for each in json.loads(cli(command, "--json").out)}
        assert found["mock"]["target"] == "adapters.mock:MockAdapter"
    (described,) = json.loads(cli("check", "mock", "--json").out)
    assert described == json.loads(cli("describe", "mock", "--json").out)
    assert {"name", "type", "default", "help"} <= described["config_fields"][0].keys()
