"""Processes of the command line that start at once: forks of one that has imported everything.

A process of its own costs half a second, nearly all of it imports. `python -m
tests.registry.cli.forked` is the process that has done them: it forks for each request that comes
over its standard input, a Unix socket.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).parents[3]
_MAX_REQUEST_BYTES = 100_000  # an environment is far smaller
_FIELD_BYTES = 20


class Source:
    """The process that the others are forks of."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", __name__],
                stdin=theirs,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def fork(self, arguments: Sequence[str], path: Sequence[str], stdio: Sequence[int]) -> int:
        """Fork a process that runs `worker-adapters`; return where its pid and its end are read.

        Args:
            arguments: Of the command.
            path: More folders to import from.
            stdio: The descriptors that it uses for 0, 1 and 2.
        """
        ours, theirs = os.pipe()
        request = {"arguments": arguments, "path": path, "environment": dict(os.environ)}
        try:
            line = json.dumps(request).encode() + b"\n"
            socket.send_fds(self._socket, [line], [*stdio, theirs])
        finally:
            os.close(theirs)
        return ours

    def close(self) -> None:
        """End it. Its forks live on."""
        self._socket.close()
        self._process.wait(10)


class Forked:
    """One fork, with those parts of `subprocess.Popen` that the tests use."""

    def __init__(
        self,
        source: Source,
        arguments: Sequence[str],
        *,
        path: Sequence[str] = (),
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        encoding: str = "utf-8",
    ) -> None:
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self.returncode: int | None = None
        with contextlib.ExitStack() as stack:
            theirs = []
            for name, given in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                if given == subprocess.PIPE:
                    ends = os.pipe()
                    mode = "w" if name == "stdin" else "r"
                    setattr(self, name, os.fdopen(ends[mode == "w"], mode, encoding=encoding))
                    given = ends[mode == "r"]
                    stack.callback(os.close, given)
                elif given == subprocess.DEVNULL:
                    given = os.open(os.devnull, os.O_RDWR)
                    stack.callback(os.close, given)
                theirs.append(given)
            self._end = source.fork(arguments, path, theirs)
        self.pid = int(os.read(self._end, _FIELD_BYTES))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                with contextlib.suppress(BrokenPipeError):
                    file.close()
        self.wait()
        os.close(self._end)

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if self.returncode is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("worker-adapters", timeout or 0)
            self.returncode = int(os.read(self._end, _FIELD_BYTES))
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write `text`, close its input, and read what it prints until its end."""
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(text)
                self.stdin.close()
        with ThreadPoolExecutor(2) as threads:
            reading = [threads.submit(_read, file) for file in (self.stdout, self.stderr)]
            end = None if timeout is None else time.monotonic() + timeout
            try:
                out, err = (
                    it.result(None if end is None else end - time.monotonic()) for it in reading
                )
                self.wait(None if end is None else max(end - time.monotonic(), 0))
            except TimeoutError as exc:
                self.kill()
                raise subprocess.TimeoutExpired("worker-adapters", timeout or 0) from exc
        return out, err


def _read(file: IO[str] | None) -> str:
    return "" if file is None or file.closed else file.read()


# In the process that forks


def _serve() -> None:
    """Fork for each request until the socket is closed."""
    import uvloop

    import registry
    from adapters.mock import MockAdapter
    from adapters.openai_http import OpenAIHttpAdapter
    from registry.cli.app import commands
    from registry.gateway import Gateway

    assert uvloop and registry.AdapterHost and MockAdapter and OpenAIHttpAdapter and Gateway
    assert commands()
    gc.freeze()
    requests = socket.socket(fileno=os.dup(0))
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its socket
    ends: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _report(ends)
        if requests in ready:
            data, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 4)
            if not data:
                return
            while not data.endswith(b"\n"):
                data += requests.recv(_MAX_REQUEST_BYTES)
            *stdio, end = fds
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                requests.close()
                for fd in (end, *ends.values()):
                    os.close(fd)
                os._exit(_run(json.loads(data), stdio))
            for fd in stdio:
                os.close(fd)
            ends[pid] = end
            os.write(end, b"%20d" % pid)


def _report(ends: dict[int, int]) -> None:
    """Write the exit status of each fork that has ended."""
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        end = ends.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # the test has ended
            os.write(end, b"%20d" % os.waitstatus_to_exitcode(status))
        os.close(end)


def _run(request: dict[str, Any], stdio: list[int]) -> int:
    """Be the command line; return the exit status."""
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = request["path"]
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    sys.argv = ["worker-adapters", *request["arguments"]]
    from registry.cli import main

    call: Callable[[], None] = main
    try:
        call()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    else:
        code = 0
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve()
