"""`worker-adapters list` and `describe`."""

from collections.abc import Callable
from typing import Any

import pytest


def test_list_in_a_pipe(cli: Callable[..., Any]) -> None:
    """Own adapters are listed: name, distribution, version and status, with tabs (ORCH-3054)."""
    done = cli("list")
    rows = dict(line.split("\t", 1) for line in done.out.splitlines())
    assert done.code == 0
    for name in ("mock", "openai-http"):
        distribution, version, status = rows[name].split("\t")
        assert (distribution, status) == ("worker-adapters", "installed")
        assert version[0].isdigit()


def test_list_shows_what_is_wrong_with_others(
    cli: Callable[..., Any], samples: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken, ambiguous and blocked adapters are listed with the reason, each on one line."""
    samples("acme_echo", "rival_echo", "broken_pack")
    monkeypatch.setenv("WORKER_ADAPTERS_BLOCKED", "mock, never-installed")
    done = cli("list")
    rows = {line.split("\t")[0]: line.split("\t") for line in done.out.splitlines()}
    assert done.code == 0
    assert all(len(row) == 4 for row in rows.values())
    statuses = {name: row[3].partition(":")[0] for name, row in rows.items()}
    assert statuses["openai-http"] == "installed"
    assert statuses["mock"] == "blocked"
    assert "ambiguous" in statuses.values()
    assert "broken" in statuses.values()
    assert "never-installed" not in rows


def test_list_imports_no_plugin(fresh_python: Callable[..., str]) -> None:
    """Only `check` loads plugins: here a plugin cannot even end the program."""
    code = """
        import sys
        from registry.cli.entry import run
        assert run(["list"]) == 0
        print([name for name in sys.modules if name.startswith(("acme", "pack", "adapters"))])
    """
    *rows, imported = fresh_python(code, "acme_echo", "broken_pack").splitlines()
    assert imported == "[]"
    assert "pack-exits\tbroken-pack\t2.0\tinstalled" in rows


def test_describe_in_a_pipe(cli: Callable[..., Any]) -> None:
    """An adapter's options have type, default, environment variable and help."""
    done = cli("describe", "openai-http")
    head, *lines = done.out.splitlines()
    rows = {line.split("\t")[0]: line.split("\t") for line in lines}
    assert done.code == 0
    assert head.startswith("openai-http: worker-adapters ")
    assert head.endswith(", adapters.openai_http:OpenAIHttpAdapter, ok")
    assert rows["base_url"][1:4] == ["str", "required", "ORCHD_OPENAI_URL"]
    assert rows["pool_id"][1:4] == ["str", "'default'", "ORCHD_OPENAI_POOL"]
    assert all(len(row) == 5 and row[4] for row in rows.values())


def test_describe_never_shows_a_secret(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is set in the environment is not in the description (HTU-1004)."""
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-secret")
    done = cli("describe", "openai-http")
    assert "api_key" in done.out
    assert "sk-secret" not in done.out + done.err


def test_describe_a_broken_one(cli: Callable[..., Any], samples: Callable[..., None]) -> None:
    """All problems of an adapter that breaks the contract are on one line; status 3."""
    samples("broken_pack")
    lines = [line.split("\t") for line in cli("check").out.splitlines()]
    names = {line[0] for line in lines if line[4] == "broken"} - {"pack-wrong-config"}
    assert len(names) == 9  # and one that fails only when it is built
    for name in names:
        done = cli("describe", name)
        assert done.code == 3
        assert done.out.endswith(", broken\n")
        assert done.err.startswith("error: adapter ")
        assert done.err.count("\n") == 1


def test_describe_an_unknown_one(cli: Callable[..., Any]) -> None:
    """The nearest name is proposed; status 3."""
    done = cli("describe", "openai-htp")
    assert (done.code, done.out) == (3, "")
    assert "did you mean 'openai-http'?" in done.err


def test_the_version_is_shown(cli: Callable[..., Any]) -> None:
    """`--version` names the distribution and its version."""
    done = cli("--version")
    assert done.code == 0
    assert done.out.startswith("worker-adapters ")
