"""Opening a TCP connection: names are resolved in dedicated threads, addresses are raced.

Source: RFC 8305, "Happy Eyeballs". asyncio's implementation leaks sockets when it is cancelled on
some Pythons, and uvloop has none, so all event loops share this one.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Any

import httpx

from adapters.http_util.threads import DaemonThreads

ATTEMPT_DELAY_S = 0.25
"""The delay after which the next address is tried in parallel. Source: RFC 8305, 5."""

MAX_LOOKUP_THREADS = 8
"""The number of names resolved concurrently; requests for the same name share a look-up."""

AddressInfo = tuple[int, int, int, str, Any]
"""As socket.getaddrinfo returns it."""

_lookup_threads = DaemonThreads(MAX_LOOKUP_THREADS, "worker-adapters-lookup")


class NoTls(httpx.ConnectError):
    """The server does not speak TLS at this port. Another attempt will not change that."""


class UntrustedCertificate(httpx.ConnectError):
    """The server's certificate cannot be trusted. Another attempt will not change that."""


_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons where the first bytes of an answer are not TLS."""

_EXPIRED, _OTHER_NAMES = (9, 10), (62, 64)
"""X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED; _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""


class Resolver:
    """Resolves host names for one event loop."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], asyncio.Task[Sequence[AddressInfo]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[AddressInfo]:
        """Return the addresses of `host`, alternating between the two IP versions.

        Raises:
            OSError: If the host is unknown.
            ValueError: If `host` is not a valid host name.
            OverflowError: If `port` is not a valid port.
        """
        with suppress(OSError):  # it is a name, not an address
            return _getaddrinfo(host, port, socket.AI_NUMERICHOST)
        place = host, port
        task = self._running.get(place)
        if task is None:
            task = asyncio.create_task(_lookup_threads.call(_getaddrinfo, host, port))
            self._running[place] = task
            task.add_done_callback(lambda _: self._running.pop(place, None))
        return _by_turns(await asyncio.shield(task))


def _getaddrinfo(host: str, port: int, flags: int = 0) -> Sequence[AddressInfo]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


def _by_turns(found: Sequence[AddressInfo]) -> Sequence[AddressInfo]:
    """Order the addresses so that the IP versions alternate. Source: RFC 8305, 4."""
    first = [info for info in found if info[0] == found[0][0]]
    others = [info for info in found if info[0] != found[0][0]]
    return [info for info in chain(*zip_longest(first, others)) if info is not None]


async def open_socket(addresses: Sequence[AddressInfo]) -> socket.socket:
    """Connect to the first address that answers.

    Args:
        addresses: In the order in which to try them.

    Raises:
        OSError: If no address accepts a connection; the text says why.

    Cancellation:
        Every socket is closed.
    """
    if len(addresses) == 1:
        return await _connected(addresses[0])
    untried = deque(addresses)
    connected: list[socket.socket] = []
    failures: list[OSError] = []
    running: set[asyncio.Task[None]] = set()

    async def attempt(address: AddressInfo) -> None:
        try:
            connected.append(await _connected(address))
        except OSError as exc:
            failures.append(exc)

    try:
        while not connected and (untried or running):
            if untried:
                running.add(asyncio.create_task(attempt(untried.popleft())))
            _, running = await asyncio.wait(
                running,
                timeout=ATTEMPT_DELAY_S if untried else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
        if not connected:
            raise OSError("; ".join(dict.fromkeys(reason_of(exc) for exc in failures)))
        return connected.pop()
    finally:
        for task in running:
            task.cancel()
        for late in connected:
            late.close()


async def _connected(address: AddressInfo) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_error(exc: Exception, place: str) -> httpx.ConnectError:
    """Return httpx's error for a failed attempt to connect.

    Args:
        exc: An OSError (as ssl.SSLError and failed look-ups are), ValueError or OverflowError.
        place: The host and port.
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        said = exc.verify_message.rstrip(".")
        return UntrustedCertificate(
            f"{place}: the certificate is not trusted: {said}. {_advice(exc.verify_code)}"
        )
    if isinstance(exc, ssl.SSLError) and exc.reason in _NOT_TLS:
        return NoTls(f"{place}: the server does not speak TLS at this port. Write http://")
    return httpx.ConnectError(f"{place}: {reason_of(exc)}")


def _advice(verify_code: int) -> str:
    """Return advice for a certificate that is not trusted."""
    if verify_code in _OTHER_NAMES:
        return "Write a name into the URL for which the certificate is valid"
    if verify_code in _EXPIRED:
        return "The operator of the server must renew it"
    return "Set ca_file to the certificate authority of this server"


def reason_of(exc: Exception) -> str:
    """Return the system's message for an error, without its number."""
    if isinstance(exc, ConnectionRefusedError):  # asyncio's own text names the call
        return "connection refused; is the server running?"
    said = exc.strerror if isinstance(exc, OSError) else None
    return said or str(exc) or type(exc).__name__
