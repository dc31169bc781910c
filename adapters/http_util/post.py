"""The request of a job, without the work of a general HTTP client.

Building httpx's request and response objects takes longer than sending the one and waiting for the
other. A client from `make_client` over our own transport adds nothing to a POST, so the POST goes
straight to the transport. With any other client it goes the usual way.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs
import httpx

from adapters.http_util.foreign import clean_copy
from adapters.http_util.secrets import is_secret_header
from adapters.http_util.transport.client import POOL_TIMEOUT_S, AdapterClient, body_reader
from adapters.http_util.transport.wire import RawHeaders, header_lines

CORRELATION_HEADER = "X-Correlation-Id"
_RAW_CORRELATION_HEADER = CORRELATION_HEADER.encode("ascii")
_NO_HEADERS: Mapping[str, str] = {}


@attrs.define(eq=False)
class Posted:
    """An answer whose body has not been read. It must be closed.

    Args:
        status: The HTTP status.
        headers: The answer's headers, by names in lower case.
        read: Returns the next piece of the body, b"" at the end.
        aclose: Returns or closes the connection.
        ended: Returns whether `read` would return b"" at once.
        resent: Whether the request was sent twice, because an idle connection had been closed.
    """

    status: int
    headers: Mapping[str, str]
    read: Callable[[], Awaitable[bytes]]
    aclose: Callable[[], Awaitable[None]]
    ended: Callable[[], bool] = lambda: False
    resent: bool = False


async def post(
    client: httpx.AsyncClient,
    url: httpx.URL,
    *,
    headers: Mapping[str, str],
    correlation_id: str,
    content: bytes,
    connect_timeout_s: float,
    trace: Mapping[str, str] = _NO_HEADERS,
    secrets: Iterable[str] = (),
) -> Posted:
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
        body = await client.stream_transport.exchange(origin, wire, timeouts)
        headers = _by_name(body.headers)
        return Posted(body.status, headers, body.read, body.aclose, body.ended, body.resent)
    request = client.build_request(
        "POST",
        url,
        content=content,
        headers={**headers, CORRELATION_HEADER: correlation_id, **trace},
        timeout=httpx.Timeout(None, connect=connect_timeout_s, pool=POOL_TIMEOUT_S),
    )
    secrets = (*_secrets_in(headers), *secrets)
    try:
        response = await client.send(request, stream=True, follow_redirects=False)
    except httpx.HTTPError as exc:
        failure = clean_copy(exc, secrets)
    else:
        return Posted(
            response.status_code,
            response.headers,
            body_reader(response, secrets),
            response.aclose,
            resent=bool(request.extensions.get("resent")),
        )
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


def _by_name(headers: RawHeaders) -> dict[str, str]:
    """Return the headers by lower-case names, as httpx reads them.

    Several headers of one name are joined by commas.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode("utf-8")
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
