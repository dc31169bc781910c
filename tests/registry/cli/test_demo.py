"""`worker-adapters demo`."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

import pytest

from registry.cli.commands import demo
from registry.cli.toy.server import ToyServer

Cli = Callable[..., Any]


def test_the_demo(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """It streams, shows frames and metrics, and that half an answer is an error; in under 3 s."""
    monkeypatch.setenv("ORCHD_OPENAI_URL", "http://not-asked")
    began = time.process_time()
    done = cli("demo")
    waited_s = (demo.WORDS + demo.WORDS_BEFORE_THE_CRASH) * demo.DELAY_S
    assert time.process_time() - began + waited_s < 3  # the machine may have more to do than this
    assert (done.code, done.err) == (0, "")
    assert "toy engine (no model" in done.out
    assert f"started, token x {demo.WORDS}, end" in done.out
    assert f"{demo.WORDS} tokens · first after " in done.out
    assert "toy-1.0, healthy" in done.out
    assert f"started, token x {demo.WORDS_BEFORE_THE_CRASH}, error" in done.out
    assert "STREAM_TRUNCATED" in done.out
    assert "--base-url http://localhost:8000" in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_a_demo_that_fails_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first answer breaks off already, the demo does not pretend."""

    class Dying(ToyServer):
        async def _die(self) -> None:
            while not self.running:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            await self.aclose()

        async def __aenter__(self) -> Self:
            self._dying = asyncio.create_task(self._die())
            return await super().__aenter__()

    monkeypatch.setattr(demo, "ToyServer", Dying)
    done = cli("demo")
    assert done.code == 1
    assert done.err.startswith("error: STREAM_TRUNCATED: ")
