"""Headers that are sent with the requests of one attempt, such as those of a trace.

An observer sets them when an attempt starts, and adapters send them; neither depends on the other.
The headers live in the context of the task that reads the stream and runs the adapter's code.
"""

from collections.abc import Mapping
from contextvars import ContextVar

_NONE: Mapping[str, str] = {}
_HEADERS: ContextVar[tuple[str, Mapping[str, str]]] = ContextVar(
    "worker_adapters_headers", default=("", _NONE)
)


def set_request_headers(job_id: str, headers: Mapping[str, str]) -> None:
    """Send `headers` with the requests of a job from now on, in this context.

    Args:
        job_id: The job; other jobs of the same context do not get the headers.
        headers: In printable ASCII; others are left out. Not for credentials.
    """
    sendable = {name: value for name, value in headers.items() if _can_be_sent(name, value)}
    _HEADERS.set((job_id, sendable))


def request_headers(job_id: str) -> Mapping[str, str]:
    """Return the headers to send with a request of the job; usually none."""
    owner, headers = _HEADERS.get()
    return headers if owner == job_id else _NONE


def _can_be_sent(name: str, value: str) -> bool:
    is_name = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return is_name and value.isascii() and value.isprintable()
