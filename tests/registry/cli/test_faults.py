"""`worker-adapters serve-faults`, as a process that strangers talk to."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from adapter_api.faults import SCENARIOS

Cli = Callable[..., Any]


@pytest.fixture
def lab(start: Callable[..., "subprocess.Popen[str]"]) -> Iterator[tuple[Any, str]]:
    """The running process, and the address it printed."""
    process = start("serve-faults")
    assert process.stdout is not None
    first = process.stdout.readline()
    address = next(word for word in first.split() if word.startswith("http://"))
    yield process, address.partition("/<fault>")[0]


def _send(address: str, data: bytes) -> bytes:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as talk:
        talk.sendall(data)
        return b"".join(iter(lambda: talk.recv(65536), b""))


def test_any_client_can_ask(lab: tuple[Any, str]) -> None:
    """A client of another make gets a whole answer, and one that is cut."""
    _, address = lab
    body = {"prompt": "hello", "stream": True}
    whole = httpx.post(f"{address}/ordinary/v1/completions", json=body)
    assert whole.text.endswith("data: [DONE]\n\n")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{address}/fin-after-tokens/v1/completions", json=body)


@pytest.mark.parametrize(
    "junk",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\n\r\n",
        b"POST /ordinary HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /ordinary HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /ordinary HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_junk_is_refused(lab: tuple[Any, str], junk: bytes) -> None:
    """An invalid request gets a 400, and the next one is served."""
    _, address = lab
    assert _send(address, junk).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"{address}/ordinary/v1/models").status_code == 200


def test_each_request_has_a_line_with_its_end(lab: tuple[Any, str]) -> None:
    """The author of a client sees who ended a connection."""
    process, address = lab
    httpx.post(f"{address}/ordinary/v1/completions", json={})
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{address}/fin-after-tokens/v1/completions", json={})
    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.stream("POST", f"{address}/stall-between-tokens/v1/completions", timeout=0.3) as sent,
    ):
        sent.read()
    lines = [process.stdout.readline() for _ in range(5)][2:]
    ends = [line.rpartition(": ")[2].strip() for line in lines]
    assert ends[0] == "answered"
    assert ends[1] == "the server closed the connection"
    assert ends[2].startswith("the client closed the connection")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_it_ends_on_a_signal(lab: tuple[Any, str], number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM are its usual end, without a word, also after a body that is not JSON."""
    process, address = lab
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{address}/field-named/v1/completions", content=b"{")
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")


def test_the_list(cli: Cli) -> None:
    """Every fault is listed, for people and for programs."""
    lines = cli("serve-faults", "--list").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(SCENARIOS)
    faults = json.loads(cli("serve-faults", "--list", "--json").out)
    assert [fault["name"] for fault in faults] == list(SCENARIOS)
    cut = next(fault for fault in faults if fault["name"] == "fin-after-tokens")
    assert cut["codes"] == ["STREAM_TRUNCATED"]
    assert cut["whole"] is False


def test_a_port_in_use(cli: Cli) -> None:
    """A port that is taken is one line, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("serve-faults", "--port", str(taken.getsockname()[1]))
    assert done.code == 2
    assert "Address already in use; choose another with --port\n" in done.err
    assert done.err.count("\n") == 1
