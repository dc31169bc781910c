"""The settings of a gateway's answers."""

from collections.abc import Mapping

import attrs


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
    """

    aliases: Mapping[str, str] = attrs.field(factory=dict)
    max_body_bytes: int = 64 << 20
    keep_alive_s: float = 15.0
    stall_s: float = 60.0
    break_off: bool = False
    cors_origins: tuple[str, ...] = ()
    access_log: bool = True
    trace_context: bool = False
