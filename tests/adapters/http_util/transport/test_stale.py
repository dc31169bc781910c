"""Bytes that belong to one request never reach the next, whatever the event loop has read."""

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count as count_from
from threading import Event, Thread

import httpx
import pytest

from tests.adapters.http_util.conftest import client_of, transport_of
from tests.certificates import tls_pair

WRONG = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"


class ThreadServer:
    """A server outside of the event loop, so that bytes arrive while the loop is busy.

    Args:
        after_first: Called with the first connection once its first answer is sent and `go` is set.
        context: For TLS.
    """

    def __init__(
        self, after_first: Callable[[socket.socket], None], context: ssl.SSLContext | None
    ) -> None:
        self._after_first = after_first
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.go, self.done = Event(), Event()
        self.connections = 0
        self._threads: list[Thread] = []

    def run(self) -> None:
        """Accept connections until the listener is closed."""
        with suppress(OSError):
            while True:
                talk, _ = self._listener.accept()
                self.connections += 1
                thread = Thread(target=self._talk, args=(talk, self.connections))
                thread.start()
                self._threads.append(thread)

    def _talk(self, talk: socket.socket, number: int) -> None:
        with suppress(OSError):
            if self._context is not None:
                talk = self._context.wrap_socket(talk, server_side=True)
            with talk:
                talk.settimeout(5)
                for count in count_from(1):
                    if not _read_request(talk):
                        return
                    said = b"%d.%d" % (number, count)
                    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said)
                    talk.sendall(head + said)
                    if number == count == 1:
                        self.go.wait(5)
                        self._after_first(talk)
                        self.done.set()

    def close(self) -> None:
        """Stop listening, and wait for the connections to end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


def _read_request(talk: socket.socket) -> bool:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = talk.recv(1 << 16)
        if not piece:
            return False
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    rest = int(length[1]) - len(body) if length else 0
    while rest > 0:
        size = len(talk.recv(1 << 20))
        if not size:
            return False
        rest -= size
    return True


@contextmanager
def thread_server(
    after_first: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
) -> Iterator[ThreadServer]:
    """A ThreadServer that runs."""
    server = ThreadServer(after_first, context)
    thread = Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize(
    "what", [WRONG, WRONG[:9], b"\r\n", b""], ids=["answer", "part", "line", "end"]
)
async def test_what_the_loop_has_not_read_yet_ends_an_idle_connection(
    what: bytes, tls: bool
) -> None:
    """A second answer, or the end, waits in the kernel: the next request takes a new connection."""
    server_side, trusting = tls_pair()

    def send(talk: socket.socket) -> None:
        if what:
            talk.sendall(what)
        else:
            talk.shutdown(socket.SHUT_RDWR)

    with thread_server(send, server_side if tls else None) as server:
        async with client_of(transport_of(ssl_context=lambda: trusting)) as (client, _):
            assert (await client.get(server.url)).text == "1.1"
            server.go.set()
            server.done.wait(5)  # the loop is blocked meanwhile, as by a busy consumer
            response = await client.get(server.url)
            assert response.text == "2.1"
            assert "resent" not in response.request.extensions


async def test_an_answer_before_the_request_was_sent_is_not_its_answer() -> None:
    """On a connection used before, the request is sent again on a new one."""

    def send(talk: socket.socket) -> None:
        talk.recv(1, socket.MSG_PEEK)  # the next request begins to arrive
        talk.sendall(WRONG)
        ended.wait(5)

    ended = Event()
    with thread_server(send) as server:
        async with client_of() as (client, _):
            assert (await client.get(server.url)).text == "1.1"
            server.go.set()
            response = await client.post(server.url, content=b"x" * 30_000_000)
            assert response.text == "2.1"
            assert response.request.extensions["resent"]
        ended.set()


async def test_an_early_success_is_refused_on_a_new_connection() -> None:
    """A server cannot answer what it has not read; a refusal may come early."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        talk, _ = listener.accept()
        with talk:
            talk.recv(1, socket.MSG_PEEK)
            talk.sendall(WRONG)
            ended.wait(5)

    ended = Event()
    thread = Thread(target=answer)
    thread.start()
    try:
        async with client_of() as (client, transport):
            with pytest.raises(httpx.RemoteProtocolError, match="before the request was sent"):
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                await client.post(url, content=b"x" * 30_000_000)
            assert transport.open_connections == 0
    finally:
        ended.set()
        thread.join(5)
        listener.close()
