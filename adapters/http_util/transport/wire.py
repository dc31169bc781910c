"""Requests as bytes, and the headers that matter to connections."""

import re

import httpx

Origin = tuple[str, str, int]
"""Scheme, host and port."""

RawHeaders = list[tuple[bytes, bytes]]

_USUAL_NAMES = frozenset(
    {
        b"Accept",
        b"Accept-Encoding",
        b"Authorization",
        b"Connection",
        b"Content-Length",
        b"Content-Type",
        b"Host",
        b"User-Agent",
        b"X-Correlation-Id",
    }
)
_LENGTH_NAMES = (b"content-length", b"transfer-encoding")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


def origin_of(url: httpx.URL) -> Origin:
    """Return where a request for `url` goes.

    Raises:
        httpx.UnsupportedProtocol: Not http or https.
    """
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(
            f"the URL must begin with http:// or https://, not {url.scheme}"
        )
    port = (443 if url.scheme == "https" else 80) if url.port is None else url.port
    return url.scheme, url.raw_host.decode("ascii"), port


def serialize(method: bytes, path: bytes, headers: RawHeaders, content: bytes) -> bytes:
    """Return the bytes of a request, with a Content-Length where there is content.

    Raises:
        httpx.LocalProtocolError: The method or a header is invalid.
    """
    # The whole content is known, and so is its length.
    sized = [line for line in headers if line[0].lower() not in _LENGTH_NAMES]
    end = [(b"Content-Length", b"%d" % len(content))] if content or sized != headers else []
    return serialize_head(method, path, sized) + header_lines(end) + b"\r\n" + content


def serialize_head(method: bytes, path: bytes, headers: RawHeaders) -> bytes:
    """Return the request line and header lines; more header lines may follow.

    Raises:
        httpx.LocalProtocolError: The method or a header is invalid.
    """
    if not _TOKEN.fullmatch(method):
        raise httpx.LocalProtocolError(f"{method.decode('ascii')!r} is not an HTTP method")
    return b"%s %s HTTP/1.1\r\n" % (method, path) + header_lines(headers)


def header_lines(headers: RawHeaders) -> bytes:
    """Return the headers as they are sent.

    Raises:
        httpx.LocalProtocolError: A header is invalid.
    """
    parts: list[bytes] = []
    for name, value in headers:
        if name not in _USUAL_NAMES and not _TOKEN.fullmatch(name):
            raise httpx.LocalProtocolError(f"{name.decode('latin-1')!r} is not a header name")
        if b"\r" in value or b"\n" in value or b"\0" in value:
            raise httpx.LocalProtocolError(
                f"header {name.decode('latin-1')!r} has a line break in it"
            )
        parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)


def announced_idle_s(headers: RawHeaders) -> float | None:
    """Return one second less than the server's `Keep-Alive: timeout=N`; None if it sent none."""
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"keep-alive":
            for item in value.split(b","):
                key, _, seconds = item.strip().partition(b"=")
                if key.lower() == b"timeout" and seconds.isdigit() and len(seconds) < 9:
                    return max(0.0, float(seconds) - 1.0)
    return None


def by_name(headers: RawHeaders) -> dict[str, str]:
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
