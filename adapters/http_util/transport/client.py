"""The HTTP client of an adapter: transport, limits, TLS and proxies in one place (HTU-1001)."""

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import attrs
import httpx

from adapters.http_util.foreign import clean_copy
from adapters.http_util.transport.pool import MAX_CONNECTIONS
from adapters.http_util.transport.stream import BodyStream, StreamTransport
from adapters.http_util.transport.wire import Origin, origin_of, serialize_head

POOL_TIMEOUT_S = 30.0
"""How long a request waits for a free connection if no deadline is shorter."""

CertFiles = str | tuple[str, str]


@attrs.frozen
class ClientOptions:
    """The connection settings of a client.

    Args:
        connect_timeout_s: Seconds for name look-up, TCP and TLS together.
        max_connections: The maximum number of open connections.
        http2: Offer HTTP/2 (extra `[http2]`), through httpx's own transport.
        proxy: URL of an HTTP or SOCKS proxy, through httpx's own transport. None for no proxy,
            whatever the environment contains.
        ca_file: PEM file of the certificate authorities to trust instead of the default ones.
        client_cert: PEM file with certificate and key, or a pair of files. The key must not be
            encrypted.
        keylog_file: File to which TLS keys are written, for debugging with Wireshark. The
            environment's SSLKEYLOGFILE is ignored.
    """

    connect_timeout_s: float = 5.0
    max_connections: int = MAX_CONNECTIONS
    http2: bool = False
    proxy: str | None = attrs.field(default=None, repr=False)
    ca_file: str | None = None
    client_cert: CertFiles | None = None
    keylog_file: str | None = None


@lru_cache(maxsize=32)
def tls_context(
    ca_file: str | None,
    client_cert: CertFiles | None,
    *,
    http2: bool = False,
    keylog_file: str | None = None,
) -> ssl.SSLContext:
    """Return the one verifying TLS context for these files. Building it takes tens of milliseconds.

    Args:
        ca_file: As in ClientOptions.
        client_cert: As in ClientOptions.
        http2: For a transport that offers HTTP/2. httpx writes the offer into the context, so
            HTTP/1.1 must have another one.
        keylog_file: As in ClientOptions.

    Raises:
        OSError: If a file cannot be read or is invalid (ssl.SSLError).
        ValueError: If the key of client_cert is encrypted.
    """
    # Not ssl.create_default_context, which honours SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=_default_authorities() if ca_file is None else ca_file)
    if client_cert is not None:
        certificate, key = (client_cert, None) if isinstance(client_cert, str) else client_cert
        context.load_cert_chain(certificate, key, password=_refuse_to_ask)
    if keylog_file is not None:
        context.keylog_filename = keylog_file
    context.set_alpn_protocols(["http/1.1", "h2"] if http2 else ["http/1.1"])
    return context


def _default_authorities() -> str:
    import certifi  # httpx needs it, too

    return certifi.where()


def _refuse_to_ask() -> str:
    """Raise instead of letting OpenSSL prompt on the terminal."""
    raise ValueError("the key of client_cert is encrypted; decrypt it with `openssl pkey`")


def make_transport(options: ClientOptions) -> httpx.AsyncBaseTransport:
    """Return the transport for these options: our own, or httpx's for proxies and HTTP/2.

    Raises:
        ImportError: http2 without the package h2, or a SOCKS proxy without socksio.
        OSError: If a file for TLS cannot be used, where httpx's transport needs it at once.
        ValueError: If the proxy's URL is invalid, or the key of client_cert encrypted.
    """
    if options.http2:
        _require_h2()
    context = partial(
        tls_context, options.ca_file, options.client_cert, keylog_file=options.keylog_file
    )
    if not options.http2 and options.proxy is None:
        return StreamTransport(ssl_context=context, max_connections=options.max_connections)
    return httpx.AsyncHTTPTransport(
        verify=context(http2=options.http2),
        http2=options.http2,
        proxy=None if options.proxy is None else _proxy(options.proxy, context),
        trust_env=False,
        limits=httpx.Limits(
            max_connections=options.max_connections,
            max_keepalive_connections=options.max_connections,
        ),
    )


def _proxy(url: str, context: Callable[[], ssl.SSLContext]) -> httpx.Proxy:
    """Return httpx's proxy. httpx's own errors would show the password."""
    try:
        return httpx.Proxy(url, ssl_context=context() if url.startswith("https:") else None)
    except (httpx.InvalidURL, ValueError):
        pass
    raise ValueError("proxy must be a URL such as http://user:password@host:3128")


def _require_h2() -> None:
    try:
        import h2  # noqa: F401  # httpcore would look for it only when it connects
    except ImportError as exc:
        raise ImportError(
            "http2=True needs the package h2: pip install 'worker-adapters[http2]'", name="h2"
        ) from exc


class _ShownURL(httpx.URL):
    """A URL whose text has no query, which may hold a key: httpx logs the text of each URL."""

    def __str__(self) -> str:
        text, asks, query = super().__str__().partition("?")
        secret = asks and not re.fullmatch(r"api-version=[\w.-]*", query)
        return f"{text}?[redacted]" if secret else f"{text}{asks}{query}"

    def __repr__(self) -> str:
        return f"URL({str(self)!r})"


class AdapterClient(httpx.AsyncClient):
    """An httpx client that knows its transport.

    Args:
        transport: Where requests go.
        options: As for httpx.AsyncClient.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self.stream_transport = transport if isinstance(transport, StreamTransport) else None
        self._lines = {
            name.decode("ascii").lower(): (name, value) for name, value in self.headers.raw
        }
        self._post: tuple[httpx.URL, Mapping[str, str], tuple[Origin, bytes]] | None = None

    def build_request(self, *args: Any, **options: Any) -> httpx.Request:
        """Return a request whose URL shows no query."""
        request = super().build_request(*args, **options)
        if request.url.query:
            request.url = _ShownURL(request.url)
        return request

    @property
    def posts_directly(self) -> bool:
        """Return whether a POST can bypass httpx.AsyncClient: it has our transport and no hooks."""
        hooks = self.event_hooks
        return self.stream_transport is not None and not (hooks["request"] or hooks["response"])

    def post_head(self, url: httpx.URL, headers: Mapping[str, str]) -> tuple[Origin, bytes]:
        """Return the destination of a POST, and its first bytes. The latest result is cached,
        because most requests begin like the previous one.

        Args:
            url: Where to send it.
            headers: In ASCII, and not changed afterwards. The client's own headers are added where
                they are not given.

        Raises:
            httpx.LocalProtocolError: A header is invalid.
            httpx.UnsupportedProtocol: Not http or https.
        """
        if self._post is not None and self._post[0] is url:
            known = self._post[1]
            if known is headers or known == headers:
                return self._post[2]
        given = {name.lower() for name in headers}
        lines = [(b"Host", url.netloc)]
        lines += [line for name, line in self._lines.items() if name not in given]
        lines += [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        head = origin_of(url), serialize_head(b"POST", url.raw_path, lines)
        self._post = (url, headers, head)
        return head


def make_client(
    options: ClientOptions | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    *,
    record: str | Path | None = None,
    replay: str | Path | None = None,
) -> AdapterClient:
    """Return a client that reads no environment, follows no redirect and sets no read timeout.

    The job's StreamClock limits how long an answer may take.

    Args:
        options: The connection settings.
        transport: A transport to use instead of the one from make_transport.
        record: A new file to which every exchange is written, without credentials.
        replay: A recording that answers instead of a server.

    Raises:
        ImportError, OSError, ValueError: As make_transport.
        OSError: If the recording cannot be made; FileExistsError if the file exists.
        RecordingError: If the file to replay is not a recording.
    """
    options = ClientOptions() if options is None else options
    if replay is not None:
        from adapters.http_util.recording.replaying import ReplayTransport  # rarely needed

        transport = ReplayTransport(replay)
    if transport is None:
        transport = make_transport(options)
    if record is not None:
        from adapters.http_util.recording.replaying import RecordingTransport

        transport = RecordingTransport(transport, record)
    return AdapterClient(
        transport,
        timeout=httpx.Timeout(None, connect=options.connect_timeout_s, pool=POOL_TIMEOUT_S),
        follow_redirects=False,
        trust_env=False,
        # A compressor would hold back pieces of a stream, and a compressed body may be a bomb.
        headers={"Accept-Encoding": "identity"},
    )


def body_reader(
    response: httpx.Response, secrets: Iterable[str] = ()
) -> Callable[[], Awaitable[bytes]]:
    """Return a function that returns the next piece of the body as it came, b"" at the end.

    With our own transport it reads the connection directly; with any other, httpx's raw iterator.

    Args:
        response: The answer, not read yet.
        secrets: Credentials to keep out of a foreign transport's errors.
    """
    body = response.extensions.get("body_stream")
    if isinstance(body, BodyStream):
        return body.read
    # httpx.MockTransport, and a client's hooks, may have read the answer already.
    pieces = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
    return partial(_next_piece, aiter(pieces), tuple(secrets))


async def _next_piece(pieces: AsyncIterator[bytes], secrets: tuple[str, ...]) -> bytes:
    try:
        async for piece in pieces:
            if piece:
                return piece
        return b""
    except httpx.HTTPError as exc:
        failure = clean_copy(exc, secrets)
    raise failure


async def read_bounded(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the body, or its first `max_bytes` bytes if it is longer."""
    return await read_up_to(body_reader(response), max_bytes)


async def read_up_to(read: Callable[[], Awaitable[bytes]], max_bytes: int) -> bytes:
    """Return at most `max_bytes` bytes of the pieces that `read` returns."""
    pieces, size = [], 0
    while size < max_bytes and (piece := await read()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)[:max_bytes]
