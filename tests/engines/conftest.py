"""A real llama.cpp server, for the suite marked `engine`."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

START_LIMIT_S = 60.0
KEY = "sk-engine-test-key"
ROOT = Path(__file__).parents[2]
ACTOR = ROOT / "tests" / "data" / "models" / "actor.gguf"
"""A two-layer model that answers some user messages by heart: `@hello` with text, `@weather` with a
tool call, `@parallel` with two, `@say_weather` with text and a call, `@think` with reasoning and an
answer, `@think_weather` with reasoning and a call."""


@attrs.frozen
class Engine:
    """A running server: its address and its process."""

    base_url: str
    process: "subprocess.Popen[bytes]"

    def cpu_s(self) -> float:
        """Return the processor seconds that the process has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(engine: Engine, log: Path) -> None:
    request = urllib.request.Request(
        engine.base_url + "/v1/models", headers={"Authorization": f"Bearer {KEY}"}
    )
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        if engine.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(request, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the engine did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model of random weights, made here."""
    from tests.engines.tiny_gguf import write_tiny_gguf  # needs gguf and numpy

    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def start_engine(
    model_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Engine]]:
    """Return a function that starts a server with further command-line arguments.

    `model` is the path of the model, by default the tiny one.
    """
    engines: list[Engine] = []

    def start(*arguments: str, model: Path = model_file) -> Engine:
        port = _free_port()
        log = tmp_path_factory.mktemp("engine") / "log.txt"
        command = [sys.executable, "-m", "tests.engines.server", str(model), str(port), *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        engine = Engine(f"http://127.0.0.1:{port}", process)
        engines.append(engine)
        _wait_until_up(engine, log)
        return engine

    yield start
    for engine in engines:
        engine.process.kill()
        engine.process.wait()
