"""One streaming request for any protocol: clock, allow-list, redaction and errors in one place."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import httpx
import msgspec

from adapter_api import (
    ErrorCode,
    InvalidRequest,
    Metrics,
    StreamClock,
    StreamingError,
    TaskRequest,
    WorkerError,
    WorkerTimeout,
)
from adapter_api.propagation import request_headers
from adapters.http_util.egress import check_egress
from adapters.http_util.errors import (
    error_from_exception,
    error_from_payload,
    error_from_response,
)
from adapters.http_util.lines import DecodeLimitError
from adapters.http_util.post import Posted, post
from adapters.http_util.retry import Unanswered
from adapters.http_util.transport.client import read_up_to

_T = TypeVar("_T")

MAX_REFUSAL_BYTES = 64 << 10
"""The maximum size read of a refusal's body: more than any error message."""

REFUSAL_S = 2.0
"""How long the body of a refusal may take to arrive after its status."""

SETTLE_S = 0.05
"""How long to wait for the end of a body whose answer is whole, to keep the connection."""


class Decoder(Protocol[_T]):
    """Turns bytes into items, such as SSEDecoder and LineDecoder."""

    def feed(self, chunk: bytes, /) -> list[_T]:
        """Return the items that `chunk` completes."""
        ...

    def finish(self) -> list[_T]:
        """Return the items that the end of the body completes."""
        ...


class AnswerStream(Generic[_T]):
    """The items of one answer. Iterate over it; `open_stream` makes it.

    Args:
        posted: The accepted answer.
        decoder: For its body.
        clock: The job's clock.
        stall_s: Seconds that may pass between two calls of `progress`.
        secrets: Credentials to keep out of errors.
    """

    def __init__(
        self,
        posted: Posted,
        decoder: Decoder[_T],
        clock: StreamClock,
        stall_s: float | None,
        secrets: Sequence[str],
    ) -> None:
        self.status = posted.status
        self.headers = posted.headers
        self._posted = posted
        self._decoder = decoder
        self._clock = clock
        self._stall_s = stall_s
        self._secrets = secrets
        self._first_at: float | None = None
        self._count = 0

    async def __aiter__(self) -> AsyncIterator[_T]:
        """Yield the items until the body ends, which does not prove that the answer is whole.

        Raises:
            WorkerError: STREAM_TRUNCATED if the connection broke, UPSTREAM_PROTOCOL if this is not
                such a stream, or the server's error in a line that is not part of one.
        """
        try:
            while piece := await self._posted.read():
                items = self._decoder.feed(piece)
                for item in items:
                    yield item
                self._check_unknown()
            for item in self._decoder.finish():
                yield item
            self._check_unknown()
        except httpx.HTTPError as exc:
            raise error_from_exception(exc, answering=True, secrets=self._secrets) from exc
        except DecodeLimitError as exc:
            raise StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"invalid stream: {exc}") from exc

    def _check_unknown(self) -> None:
        unknown = getattr(self._decoder, "unknown", None)
        if unknown:
            raise error_from_payload(decode_json(unknown[0]), secrets=self._secrets)

    def progress(self) -> int:
        """Note that a piece of the answer came, and start the wait for the next one.

        Returns:
            The index of the piece, for its Token.
        """
        if self._first_at is None:
            self._first_at = _now()
        self._clock.allow(self._stall_s)
        self._count += 1
        return self._count - 1

    async def settle(self) -> None:
        """Note that the answer is whole, and read the end of its body to keep the connection.

        Raises:
            WorkerError: The server's error in a line that is not part of a stream, and that came
                together with the end of the answer.
        """
        self._check_unknown()
        self._clock.disarm()
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not self._posted.ended() and await self._posted.read():
                    pass

    def metrics(self, generated: int | None = None, prompt_tokens: int | None = None) -> Metrics:
        """Return the job's numbers.

        Args:
            generated: Tokens of the answer by the engine's count; None counts the pieces.
            prompt_tokens: Tokens of the prompt by the engine's count.
        """
        first_at, started_at = self._first_at, self._clock.started_at
        return Metrics(
            tokens_generated=self._count if generated is None else generated,
            prompt_tokens=prompt_tokens,
            time_to_first_token_ms=None if first_at is None else (first_at - started_at) * 1000,
            decode_time_ms=0.0 if first_at is None else (_now() - first_at) * 1000,
            usage_source="counted" if generated is None else "engine",
        )


@asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient,
    url: str | httpx.URL,
    payload: Mapping[str, Any],
    *,
    decoder: Decoder[_T],
    clock: StreamClock,
    task: TaskRequest,
    headers: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
    first_s: float | None = 30.0,
    stall_s: float | None = 30.0,
    connect_timeout_s: float = 5.0,
    egress_allow: Sequence[str] | None = None,
) -> AsyncIterator[AnswerStream[_T]]:
    """Send a POST and yield the stream of its answer, which is closed at the end of the block.

    Args:
        client: Usually from make_client.
        url: Where to send it.
        payload: The body, sent as JSON.
        decoder: For the answer.
        clock: The job's clock, the same as that of its TokenStream.
        task: The job; its correlation_id, or else job_id, is sent as X-Correlation-Id.
        headers: In ASCII, with the credentials.
        secrets: Credentials to keep out of errors.
        first_s: Seconds within which the first piece must come; None for no limit.
        stall_s: Seconds that may pass between two pieces; None for no limit.
        connect_timeout_s: Seconds for connecting.
        egress_allow: As for check_egress.

    Raises:
        WorkerError: If the request cannot be sent, or the server refuses it or does not answer.

    Cancellation:
        The connection is closed, which stops generation on most servers.
    """
    target, secrets = httpx.URL(url), tuple(secrets)
    check_egress(target, egress_allow)
    content = _encode(payload)
    clock.allow(first_s, _unanswered)
    try:
        posted = await post(
            client,
            target,
            headers={"Content-Type": "application/json", **(headers or {})},
            correlation_id=task.correlation_id or task.job_id,
            content=content,
            connect_timeout_s=connect_timeout_s,
            trace=request_headers(task.job_id),
        )
    except httpx.HTTPError as exc:
        raise error_from_exception(exc, secrets=secrets) from exc
    try:
        if not 200 <= posted.status < 300 or posted.status in (204, 205):
            raise await _refusal(posted, clock, secrets)
        clock.rename(_silent)
        yield AnswerStream(posted, decoder, clock, stall_s, secrets)
    finally:
        await posted.aclose()


async def _refusal(posted: Posted, clock: StreamClock, secrets: Iterable[str]) -> WorkerError:
    error = partial(error_from_response, posted.status, posted.headers, secrets=secrets)
    clock.rename(partial(error, b""))  # if the body takes too long, only the status is used
    body = b""
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(REFUSAL_S):
            body = await read_up_to(posted.read, MAX_REFUSAL_BYTES)
    return error(body)


def decode_json(data: bytes) -> Any:
    """Return the JSON value in `data`, or its text if it is not JSON."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data.decode("utf-8", "replace")


def _encode(payload: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(payload)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise InvalidRequest(
            ErrorCode.INVALID_PARAMS, f"the task cannot be sent as JSON: {exc}"
        ) from exc


def _now() -> float:
    return asyncio.get_running_loop().time()


def _unanswered() -> WorkerError:
    return Unanswered(ErrorCode.POOL_UNAVAILABLE, "the server did not begin to answer in time")


def _silent() -> WorkerError:
    return WorkerTimeout(ErrorCode.DECODE_TIMEOUT, "the server sent no piece of the answer in time")
