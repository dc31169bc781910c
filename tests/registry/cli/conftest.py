"""The command line, called in this process or started as one of its own, and word servers."""

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import pytest

import registry
from registry.cli.entry import run
from tests.registry.cli.forked import Forked, Source
from tests.registry.cli.serving import Serving
from tests.word_server import WordServer

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-W", "error", "-m", "registry.cli"]


@attrs.frozen
class Done:
    """The outcome of a command."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHD_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs the command line in this process, each time with a registry of its own."""

    def call(*arguments: str, stdin: str | bytes = "") -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
        fresh = registry.Registry()
        for name in ("get", "names", "describe"):
            monkeypatch.setattr(registry, name, getattr(fresh, name))
        capsys.readouterr()
        code = run(arguments)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def forks() -> Iterator[Source]:
    """The process that has imported everything."""
    source = Source()
    yield source
    source.close()


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Starts the command line as a process; what still runs in the end is killed.

    It is a fork, with no imports to do. With `fresh=True` it is what users start.
    """
    with ExitStack() as stack:

        def begin(
            *arguments: str, path: Path | None = None, fresh: bool = False, **options: Any
        ) -> Any:
            folders = [str(path)] if path else []
            process: Any
            if fresh:
                pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
                process = subprocess.Popen(
                    [*COMMAND, *arguments],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join([*folders, str(ROOT)])},
                    text=True,
                    **{**pipes, "stderr": subprocess.PIPE, **options},
                )
            else:
                source = request.getfixturevalue("forks")
                process = Forked(source, arguments, path=folders, **options)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


@contextmanager
def _serving(**options: Any) -> Iterator[WordServer]:
    """A word server in a thread of its own: the command line blocks this one."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = WordServer(**{"delay_s": 0.0, **options})
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., WordServer]]:
    """Starts word servers; takes WordServer's arguments."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(_serving(**options))


MODELS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MODELS += b'Content-Length: 12\r\n\r\n{"data": []}'


class Engine:
    """A server that lists no models, answers every task with the same bytes, and closes.

    Attributes:
        bodies: The bodies of the requests that came.
        authorizations: The Authorization header of each, "" for none.
    """

    def __init__(self, answer: bytes) -> None:
        self.bodies: list[Any] = []
        self.authorizations: list[str] = []
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, connection.makefile("rb") as request:
                first = request.readline()
                if not first:  # from `close`
                    return
                length, authorization = 0, b""
                while (line := request.readline()).strip():
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                    elif name.lower() == b"authorization":
                        authorization = value
                if first.startswith(b"GET"):
                    connection.sendall(MODELS)
                    continue
                self.authorizations.append(authorization.decode().strip())
                self.bodies.append(json.loads(request.read(length)))
                with suppress(ConnectionError):
                    connection.sendall(self._answer)

    def close(self) -> None:
        """Stop serving."""
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def engine() -> Iterator[Callable[..., Engine]]:
    """Starts engines that stream given texts, and end as an answer should unless told not to."""
    with ExitStack() as stack:

        def begin(*texts: str, whole: bool = True) -> Engine:
            ends = [None] * len(texts) + (["stop"] if whole else [])
            choices = [
                {"index": 0, "text": text, "finish_reason": end}
                for text, end in zip([*texts, ""], ends, strict=False)
            ]
            events = [f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in choices]
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            made = Engine((head + "".join(events)).encode())
            stack.callback(made.close)
            return made

        yield begin


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so, for 10 seconds at most."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not come to pass"
            time.sleep(0.005)

    return wait


@pytest.fixture(name="run")
def run_serve(start: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts `serve` on a workers file with the given text."""

    def begin(text: str, *arguments: str, fresh: bool = False) -> Serving:
        path = tmp_path / "workers.toml"
        path.write_text(text)
        given = ["--workers", str(path), "--state", str(tmp_path / "state"), "--look", "0.05"]
        process = start("serve", *given, *arguments, stdin=subprocess.PIPE, fresh=fresh)
        return Serving(process, tmp_path)

    yield begin
