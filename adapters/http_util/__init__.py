"""HTTP for adapters: client, stream decoder, retry, errors, redaction and recordings."""

from typing import TYPE_CHECKING

from adapter_api.lazy import lazy_exports
from adapters.http_util.delays import retry_after_ms
from adapters.http_util.egress import check_egress
from adapters.http_util.error_body import ErrorBody, read_error_body, read_error_payload
from adapters.http_util.errors import (
    error_from_exception,
    error_from_payload,
    error_from_response,
)
from adapters.http_util.failed import is_error
from adapters.http_util.foreign import clean_copy
from adapters.http_util.lines import MAX_LINE_BYTES, DecodeLimitError, LineDecoder
from adapters.http_util.meaning import code_for
from adapters.http_util.post import Posted, post
from adapters.http_util.retry import (
    RetryBudget,
    RetryPolicy,
    Unanswered,
    may_repeat,
    try_and_retry,
)
from adapters.http_util.secrets import (
    MAX_SEARCHED_CHARS,
    REDACTED,
    check_credential,
    redact,
    redact_headers,
    safe_text,
    with_bearer,
)
from adapters.http_util.sse import MAX_EVENT_BYTES, ServerSentEvent, SSEDecoder
from adapters.http_util.threads import DaemonThreads
from adapters.http_util.transport.client import (
    ClientOptions,
    body_reader,
    make_client,
    make_transport,
    read_bounded,
    read_up_to,
    tls_context,
)
from adapters.http_util.transport.connecting import NoTls, UntrustedCertificate
from adapters.http_util.transport.connection import Connection
from adapters.http_util.transport.stream import BodyStream, StreamTransport

if TYPE_CHECKING:
    from adapters.http_util.calls import CallParts
    from adapters.http_util.recording.exchange import RecordingError
    from adapters.http_util.recording.reading import read_recording
    from adapters.http_util.recording.replaying import RecordingTransport, ReplayTransport
    from adapters.http_util.streaming import AnswerStream, Decoder, decode_json, open_stream

__all__ = [
    "MAX_EVENT_BYTES",
    "MAX_LINE_BYTES",
    "MAX_SEARCHED_CHARS",
    "REDACTED",
    "AnswerStream",
    "BodyStream",
    "CallParts",
    "ClientOptions",
    "Connection",
    "DaemonThreads",
    "DecodeLimitError",
    "Decoder",
    "ErrorBody",
    "LineDecoder",
    "NoTls",
    "Posted",
    "RecordingError",
    "RecordingTransport",
    "ReplayTransport",
    "RetryBudget",
    "RetryPolicy",
    "SSEDecoder",
    "ServerSentEvent",
    "StreamTransport",
    "Unanswered",
    "UntrustedCertificate",
    "body_reader",
    "check_credential",
    "check_egress",
    "clean_copy",
    "code_for",
    "decode_json",
    "error_from_exception",
    "error_from_payload",
    "error_from_response",
    "is_error",
    "make_client",
    "make_transport",
    "may_repeat",
    "open_stream",
    "post",
    "read_bounded",
    "read_error_body",
    "read_error_payload",
    "read_recording",
    "read_up_to",
    "redact",
    "redact_headers",
    "retry_after_ms",
    "safe_text",
    "tls_context",
    "try_and_retry",
    "with_bearer",
]

__getattr__ = lazy_exports(__name__)
