"""The HTTP client of an adapter: transport, limits, TLS and proxies in one place (HTU-1001)."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import attrs
import httpx

from adapters.http_util.transport.pool import MAX_CONNECTIONS
from adapters.http_util.transport.stream import BodyStream, StreamTransport
from adapters.http_util.transport.wire import Origin, origin_of, serialize_head

POOL_TIMEOUT_S = 30.0
"""How long a request waits for a free connection where no deadline says otherwise."""


@attrs.frozen
class ClientOptions:
    """How to connect.

    Args:
        connect_timeout_s: Seconds for name look-up, TCP and TLS together.
        max_connections: Open connections at most.
        http2: Offer HTTP/2 (extra `[http2]`), through httpx's own transport.
        proxy: URL of an HTTP proxy, through httpx's own transport. None: no proxy, whatever the
            environment says.
        ca_file: PEM file of the certificate authorities to trust instead of the default ones.
        client_cert: PEM file with certificate and key, or a pair of files.
    """

    connect_timeout_s: float = 5.0
    max_connections: int = MAX_CONNECTIONS
    http2: bool = False
    proxy: str | None = attrs.field(default=None, repr=False)
    ca_file: str | None = None
    client_cert: str | tuple[str, str] | None = None


@lru_cache(maxsize=32)
def tls_context(
    ca_file: str | None, client_cert: str | tuple[str, str] | None, *, http2: bool = False
) -> ssl.SSLContext:
    """The one verifying TLS context for these files (building it takes tens of milliseconds).

    Args:
        ca_file: As in ClientOptions.
        client_cert: As in ClientOptions.
        http2: For a transport that offers HTTP/2. httpx writes the offer into the context, so
            this must be another one than for HTTP/1.1.

    Raises:
        OSError: A file cannot be read, or is not what it should be (ssl.SSLError).
    """
    if ca_file is not None:
        context = ssl.create_default_context(cafile=ca_file)
    else:
        context = httpx.create_ssl_context(trust_env=False)
    if client_cert is not None:
        files = (client_cert,) if isinstance(client_cert, str) else client_cert
        context.load_cert_chain(*files)
    context.set_alpn_protocols(["http/1.1", "h2"] if http2 else ["http/1.1"])
    return context


def make_transport(options: ClientOptions) -> httpx.AsyncBaseTransport:
    """The transport for these options: our own, or httpx's for proxies and HTTP/2.

    Raises:
        ImportError: http2 without the package h2, or a SOCKS proxy without socksio.
        OSError: A file for TLS cannot be used, where httpx's transport wants it at once.
    """
    if options.http2:
        _require_h2()
    if not options.http2 and options.proxy is None:
        return StreamTransport(
            ssl_context=partial(tls_context, options.ca_file, options.client_cert),
            max_connections=options.max_connections,
        )
    return httpx.AsyncHTTPTransport(
        verify=tls_context(options.ca_file, options.client_cert, http2=options.http2),
        http2=options.http2,
        proxy=options.proxy,
        trust_env=False,
        limits=httpx.Limits(
            max_connections=options.max_connections,
            max_keepalive_connections=options.max_connections,
        ),
    )


def _require_h2() -> None:
    try:
        import h2  # noqa: F401  # httpcore would look for it only when it connects
    except ImportError as exc:
        raise ImportError(
            "http2=True needs the package h2: pip install 'worker-adapters[http2]'", name="h2"
        ) from exc


class AdapterClient(httpx.AsyncClient):
    """What make_client makes: httpx's client, which knows its transport.

    Args:
        transport: Where requests go.
        options: As of httpx.AsyncClient.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self.stream_transport = transport if isinstance(transport, StreamTransport) else None
        self._lines = {
            name.decode("ascii").lower(): (name, value) for name, value in self.headers.raw
        }
        self._post: tuple[httpx.URL, Mapping[str, str], tuple[Origin, bytes]] | None = None

    @property
    def posts_directly(self) -> bool:
        """Whether a POST needs nothing of httpx.AsyncClient: our own transport, and no hooks."""
        hooks = self.event_hooks
        return self.stream_transport is not None and not (hooks["request"] or hooks["response"])

    def post_head(self, url: httpx.URL, headers: Mapping[str, str]) -> tuple[Origin, bytes]:
        """Where a POST goes, and what it begins with. The last one is remembered, for mostly the
        next is the same.

        Args:
            url: Where to.
            headers: In ASCII. The client's own go besides those that are not given.

        Raises:
            httpx.LocalProtocolError: A header is none.
            httpx.UnsupportedProtocol: Not http or https.
        """
        if self._post is not None and self._post[0] is url and self._post[1] == headers:
            return self._post[2]
        given = {name.lower() for name in headers}
        lines = [(b"Host", url.netloc)]
        lines += [line for name, line in self._lines.items() if name not in given]
        lines += [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        head = origin_of(url), serialize_head(b"POST", url.raw_path, lines)
        self._post = (url, dict(headers), head)
        return head


def make_client(
    options: ClientOptions, transport: httpx.AsyncBaseTransport | None = None
) -> AdapterClient:
    """A client that reads no environment, follows no redirect and sets no read timeout: how long an
    answer may take is for the job's StreamClock to say.

    Args:
        options: How to connect.
        transport: Used instead of the one make_transport would make.
    """
    return AdapterClient(
        make_transport(options) if transport is None else transport,
        timeout=httpx.Timeout(None, connect=options.connect_timeout_s, pool=POOL_TIMEOUT_S),
        follow_redirects=False,
        trust_env=False,
        # Compressed streams would be held back by the compressor, and may be bombs.
        headers={"Accept-Encoding": "identity"},
    )


def body_reader(response: httpx.Response) -> Callable[[], Awaitable[bytes]]:
    """A function that gives the next piece of the body as it came, b"" at the end.

    With our own transport it reads the connection directly; with any other, httpx's raw iterator.
    """
    body = response.extensions.get("body_stream")
    if isinstance(body, BodyStream):
        return body.read
    # httpx.MockTransport, and a client's hooks, may have read the answer already.
    pieces = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
    return partial(_next_piece, aiter(pieces))


async def _next_piece(pieces: AsyncIterator[bytes]) -> bytes:
    async for piece in pieces:
        if piece:
            return piece
    return b""


async def read_bounded(response: httpx.Response, max_bytes: int) -> bytes:
    """The body, or its first `max_bytes` bytes if it is longer."""
    return await read_up_to(body_reader(response), max_bytes)


async def read_up_to(read: Callable[[], Awaitable[bytes]], max_bytes: int) -> bytes:
    """As read_bounded, of what `read` gives piece by piece."""
    pieces, size = [], 0
    while size < max_bytes and (piece := await read()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)[:max_bytes]
