"""The settings of a gateway's answers."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

_PORTS = {"http": 80, "https": 443}
"""Ports that browsers leave out."""


def is_origin(text: str) -> bool:
    """Return whether browsers send `text` as an origin (RFC 6454), or it stands for all of them."""
    if text in ("*", "null"):  # pages from files have "null"
        return True
    try:
        url = urlsplit(text)
        usual_port = url.port is not None and _PORTS.get(url.scheme) == url.port
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and text == text.lower()
    alone = bool(url.hostname) and text == f"{url.scheme}://{url.netloc}"
    return plain and alone and not usual_port and not set("*@ ") & set(text)


def _origins(_: object, field: "attrs.Attribute[tuple[str, ...]]", value: tuple[str, ...]) -> None:
    for one in value:
        if not is_origin(one):
            raise ValueError(
                f"{field.name}: {one!r} is not an origin such as https://chat.example.org, or *"
            )


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a gateway.

    Args:
        aliases: Further model names, each with the pool that serves it.
        max_body_bytes: The largest body of a request.
        keep_alive_s: Seconds without a byte after which a stream gets a comment; 0 for none.
        stall_s: Seconds for which a client may leave a stream unread before it is ended; 0 for
            no limit.
        break_off: Whether a failure in mid-stream breaks the connection. By default the stream
            ends in order, with an error event and without `[DONE]`.
        cors_origins: The origins that browsers may call from; `*` for all, empty for none.
        access_log: Whether each request is logged, as one JSON object a line.
        trace_context: Whether jobs continue the trace that a request's headers name (`[otel]`).

    Raises:
        ValueError: If one of `cors_origins` is not an origin.
    """

    aliases: Mapping[str, str] = attrs.field(factory=dict)
    max_body_bytes: int = 64 << 20
    keep_alive_s: float = 15.0
    stall_s: float = 60.0
    break_off: bool = False
    cors_origins: tuple[str, ...] = attrs.field(default=(), validator=_origins)
    access_log: bool = True
    trace_context: bool = False
