"""`worker-adapters demo`."""

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import registry
from registry import AdapterHost
from registry.cli.commands import demo

Cli = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]
WORDS = len(demo.SCRIPT.split())


def test_the_demo(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It streams, shows frames and metrics, and that half an answer is an error."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", "http://not-asked")
    monkeypatch.setenv("COLUMNS", "80")
    done = cli("demo")
    assert (done.code, done.err) == (0, "")
    assert "scripted engine (no model)" in done.out
    assert f"started, token x {WORDS}, end" in done.out
    assert f"{WORDS} tokens (counted) · first after " in done.out
    assert f"started, token x {demo.WORDS_BEFORE_THE_CRASH}, error" in done.out
    assert "STREAM_TRUNCATED" in done.out
    assert "--base-url http://localhost:8000" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_demo_that_fails_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first answer already fails, the demo does not pretend."""

    @asynccontextmanager
    async def dying() -> AsyncIterator[AdapterHost]:
        async with AdapterHost() as host:
            script = {"error_code": "WORKER_RESET", "error_after": 1, "model": "demo"}
            host.bind("demo", "r0", registry.get("mock", script))
            yield host

    monkeypatch.setattr(demo, "_host", dying)
    done = cli("demo")
    assert done.code == 1
    assert done.err.startswith("error: STREAM_TRUNCATED: ")


def test_the_demo_can_stay(start: Start) -> None:
    """demo --serve answers any model as a gateway with a dashboard, until Ctrl-C."""
    process = start("demo", "--serve", "--port", "0")
    assert process.stderr is not None
    found = re.search(r"listening on (\S+);", process.stderr.readline())
    assert found is not None
    body = json.dumps({"model": "any", "messages": [{"role": "user", "content": "Hello"}]})
    request = urllib.request.Request(f"{found[1]}/v1/chat/completions", body.encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"] == demo.SCRIPT
    with urllib.request.urlopen(found[1], timeout=20) as page:
        assert b"worker-adapters" in page.read()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0
