"""The request of a job, without the work of a general HTTP client.

Building httpx's request and response objects takes longer than sending the request and waiting for
the response. A client from `make_client` over our own transport adds nothing to a POST, so the POST
goes directly to the transport. With any other client it goes through the client.
"""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Protocol

import httpx

from adapters.http_util.foreign import clean_copy
from adapters.http_util.secrets import is_secret_header
from adapters.http_util.transport.client import POOL_TIMEOUT_S, AdapterClient, body_reader
from adapters.http_util.transport.wire import header_lines

CORRELATION_HEADER = "X-Correlation-Id"
_RAW_CORRELATION_HEADER = CORRELATION_HEADER.encode("ascii")
_NO_HEADERS: Mapping[str, str] = {}


class Posted(Protocol):
    """An answer whose body has not been read. It must be closed."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, by names in lower case."""
        ...

    @property
    def resent(self) -> bool:
        """True if the request was sent twice, because an idle connection had been closed."""
        ...

    def read(self) -> Awaitable[bytes]:
        """Return the next piece of the body, b"" at the end."""
        ...

    def ended(self) -> bool:
        """Return whether `read` would return b"" at once."""
        ...

    async def aclose(self) -> None:
        """Return or close the connection."""
        ...


class _Response:
    """The answer of a client other than ours."""

    def __init__(self, response: httpx.Response, secrets: Iterable[str], *, resent: bool) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.resent = resent
        self.read = body_reader(response, secrets)
        self.aclose = response.aclose

    def ended(self) -> bool:
        return False


def post(
    client: httpx.AsyncClient,
    url: httpx.URL,
    *,
    headers: Mapping[str, str],
    correlation_id: str,
    content: bytes,
    connect_timeout_s: float,
    trace: Mapping[str, str] = _NO_HEADERS,
    secrets: Iterable[str] = (),
) -> Awaitable[Posted]:
    """Send a POST and wait for the head of its answer. Redirects are not followed.

    Args:
        client: The client that sends it.
        url: Where to send it.
        headers: In ASCII, the same for many requests. Host and Content-Length are added.
        correlation_id: Of this request, in printable ASCII (AH-1003).
        content: The body.
        connect_timeout_s: Seconds for connecting. Nothing else is limited.
        trace: More headers of this request, from `adapter_api.propagation`.
        secrets: Credentials to keep out of errors, other than those in `headers`.

    Raises:
        httpx.HTTPError: As the transport does. It is safe to chain: errors of foreign clients are
            replaced by copies without secrets.
    """
    if isinstance(client, AdapterClient) and client.posts_directly:
        assert client.stream_transport is not None
        origin, head = client.post_head(url, headers)
        wire = _wire(head, correlation_id, trace, content)
        timeouts = {"connect": connect_timeout_s, "pool": POOL_TIMEOUT_S}
        return client.stream_transport.exchange(origin, wire, timeouts)
    request = client.build_request(
        "POST",
        url,
        content=content,
        headers={**headers, CORRELATION_HEADER: correlation_id, **trace},
        timeout=httpx.Timeout(None, connect=connect_timeout_s, pool=POOL_TIMEOUT_S),
    )
    return _send(client, request, (*_secrets_in(headers), *secrets))


async def _send(
    client: httpx.AsyncClient, request: httpx.Request, secrets: Iterable[str]
) -> _Response:
    try:
        response = await client.send(request, stream=True, follow_redirects=False)
    except httpx.HTTPError as exc:
        failure = clean_copy(exc, secrets)
    else:
        resent = bool(request.extensions.get("resent"))
        return _Response(response, secrets, resent=resent)
    raise failure


def _secrets_in(headers: Mapping[str, str]) -> list[str]:
    return [
        word for name, value in headers.items() if is_secret_header(name) for word in value.split()
    ]


def _wire(head: bytes, correlation_id: str, trace: Mapping[str, str], content: bytes) -> bytes:
    """Return the bytes of a request that begins with `head`."""
    lines = [(_RAW_CORRELATION_HEADER, correlation_id.encode("ascii"))]
    for name, value in trace.items():
        lines.append((name.encode("ascii"), value.encode("ascii")))
    own = header_lines(lines)
    return b"%s%sContent-Length: %d\r\n\r\n%s" % (head, own, len(content), content)
