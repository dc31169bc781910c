"""`worker-adapters doctor`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.word_server import WordServer

Cli = Callable[..., Any]
Serve = Callable[..., WordServer]


SECRETS = {"api_key", "basic_auth", "azure_token_provider", "proxy"}


def findings(done: Any) -> dict[tuple[str, str], tuple[str, str]]:
    """Level and value by section and name."""
    rows = (line.split("\t") for line in done.out.splitlines())
    return {(section, name): (level, value) for section, level, name, value in rows}


def test_without_an_engine(cli: Cli) -> None:
    """The report has versions, environment and adapters; that no engine is set is a remark."""
    done = cli("doctor")
    found = findings(done)
    assert (done.code, done.err) == (0, "")
    assert found["installation", "worker-adapters"][0] == "ok"
    assert "httpx" in found["installation", "needed"][1]
    assert found["environment", "ORCHD_OPENAI_URL"] == ("ok", "not set")
    assert found["adapters", "mock"][1].startswith("ok, worker-adapters")
    level, value = found["engine", "openai-http"]
    assert level == "note"
    assert "worker-adapters doctor URL" in value
    assert "--base-url is needed: give it here, or set ORCHD_OPENAI_URL" in value
    assert "$" not in value


def test_what_would_be_sent_where(cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is checked, and the report names address and secrets without their values."""
    url = serve(api_key="sk-secret").base_url
    monkeypatch.setenv("ORCHD_OPENAI_URL", url)
    monkeypatch.setenv("ORCHD_OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pw@proxy")
    done = cli("doctor")
    found = findings(done)
    assert done.code == 0, done.out
    assert found["environment", "ORCHD_OPENAI_API_KEY"] == ("ok", "set (a secret)")
    assert found["environment", "HTTPS_PROXY"][0] == "note"
    assert found["engine", "requests go to"] == ("ok", url)
    assert found["engine", "api_key"] == ("ok", "set, and sent there")
    assert found["engine", "health"][1].startswith("healthy")
    secrets = {name for section, name in found if section == "engine"} - {"base_url"}
    assert secrets == {"requests go to", "health", *SECRETS}, "options with their defaults"
    for secret in ("sk-secret", "pw", "me:"):
        assert secret not in done.out + done.err


def test_an_engine_that_is_down(cli: Cli) -> None:
    """Status 1, and the finding says so, also as JSON."""
    done = cli("doctor", "http://me:pw@127.0.0.1:9", "--json")
    assert done.code == 1
    found = {finding["name"]: finding for finding in json.loads(done.out)}
    assert found["health"]["level"] == "problem"
    assert found["requests go to"]["value"] == "http://127.0.0.1:9"
    assert "pw" not in done.out


def test_a_wrong_option_is_a_problem(cli: Cli) -> None:
    """An unusable address is a finding, and the rest of the report is there."""
    done = cli("doctor", "ftp://x")
    assert done.code == 1
    assert findings(done)["engine", "openai-http"][0] == "problem"


def test_a_broken_plugin_is_a_problem(cli: Cli, samples: Callable[..., None]) -> None:
    """Every installed adapter is looked at."""
    samples("broken_pack")
    done = cli("doctor")
    assert done.code == 1
    assert findings(done)["adapters", "pack-exits"][0] == "problem"
