"""The two endpoints that run jobs, as bare ASGI applications: every token passes here."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.propagation import set_request_headers
from registry.gateway.access import Access
from registry.gateway.exchange import EXTENSION, Exchange
from registry.gateway.gateway import Gateway
from registry.gateway.jobs import GatewayJob
from registry.gateway.keys import Key
from registry.gateway.relay import stream_answer, whole_answer
from registry.gateway.reply import AsgiReply, Message, Pulse, Receive, Reply, Send
from registry.serving.openai_api import requests
from registry.serving.openai_api.errors import (
    ApiError,
    Headers,
    broken,
    from_worker_error,
    shutting_down,
)

_TRACE = ("traceparent", "tracestate")
"""Headers that are passed to the engine, unless an observer creates its own traces."""


class Completions:
    """The endpoint of one kind of completion.

    Args:
        gateway: The gateway.
        kind: "chat" or "completion".
    """

    def __init__(self, gateway: Gateway, kind: requests.Kind) -> None:
        self._gateway = gateway
        self._kind: requests.Kind = kind

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        job_id = gateway.job_id(headers.get("x-request-id"))
        access = Access(scope, job_id)
        exchange: Exchange | None = scope.get("extensions", {}).get(EXTENSION, {}).get("it")
        unasked = partial(_unasked, job_id)
        if exchange is None:
            reply: Reply = AsgiReply(send, access, unasked)
        else:
            reply = exchange.reply(send, access, unasked)
        try:
            request, job, key = await self._admitted(scope, headers, receive, exchange, access)
            if traced := {name: headers[name] for name in _TRACE if name in headers}:
                set_request_headers(job.job_id, traced)
            try:
                await self._run(request, job, reply, receive, exchange)
            finally:
                if key is not None:
                    key.release(reply.now(), job.used_tokens or job.tokens)
        except ApiError as error:
            await reply.fail(error)
        except Exception as error:
            if not reply.started:
                await reply.fail(broken(error))
            raise
        finally:
            if gateway.settings.access_log:
                access.log()

    async def _admitted(
        self,
        scope: Message,
        headers: Mapping[str, str],
        receive: Receive,
        exchange: Exchange | None,
        access: Access,
    ) -> tuple[requests.ApiRequest, GatewayJob, Key | None]:
        """Read and admit a request. Its body is not kept any longer.

        Raises:
            ApiError: If it is refused.
        """
        gateway, settings = self._gateway, self._gateway.settings
        if gateway.is_draining:
            raise shutting_down()
        key = gateway.key(scope)
        if key is not None:
            access.key = key.name
        if headers.get("content-encoding", "").lower() not in ("", "identity"):
            raise _encoded()
        max_bytes, length = settings.max_body_bytes, headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > max_bytes:
            raise _too_large(max_bytes)
        body: bytes | bytearray | None = None if exchange is None else exchange.take_body()
        if body is None:
            body = await _body(receive, max_bytes, settings.stall_s or None)
        elif len(body) > max_bytes:
            raise _too_large(max_bytes)
        if gateway.is_draining:  # since then
            raise shutting_down()
        assert access.request_id is not None
        request, job = gateway.read(self._kind, body, headers, key, access.request_id)
        access.model = job.model
        if key is not None:
            key.admit(job.since)
        return request, job, key

    async def _run(
        self,
        request: requests.ApiRequest,
        job: GatewayJob,
        reply: Reply,
        receive: Receive,
        exchange: Exchange | None,
    ) -> None:
        gateway, job_id = self._gateway, job.job_id
        settings = gateway.settings
        reply.headers = partial(gateway.headers_of, job_id)

        def left() -> None:
            gateway.cancel(job_id)

        def stalled() -> None:
            gateway.cancel(job_id)
            if exchange is not None:
                exchange.abort()

        keep_alive_s = settings.keep_alive_s if request.stream else 0.0
        pulse = Pulse(reply, keep_alive_s, settings.stall_s, stalled)
        forget = _watch(exchange, receive, left)
        try:
            async with gateway.table.run(job) as stream:
                if request.stream:
                    await stream_answer(request, stream, reply, job)
                else:
                    await whole_answer(request, stream, reply, job)
        except WorkerError as error:
            if reply.started and settings.break_off and exchange is not None:
                gone = asyncio.Event()
                exchange.watch(gone.set)
                exchange.abort()
                await gone.wait()  # else the server takes it for an answer without an end
            elif error.code == ErrorCode.CANCELLED and gateway.is_draining:
                await reply.fail(shutting_down())
            else:
                await reply.fail(from_worker_error(error))
        finally:
            pulse.stop()
            forget()
            gateway.note_ended(job, reply)
            await reply.aclose()


def _watch(
    exchange: Exchange | None, receive: Receive, left: Callable[[], None]
) -> Callable[[], object]:
    """Call `left` if the client leaves, until the function that this returns is called."""
    if exchange is not None:
        exchange.watch(left)
        return exchange.unwatch
    gone = asyncio.create_task(_until_gone(receive))

    def call(_: object) -> None:
        left()

    def forget() -> None:
        gone.remove_done_callback(call)
        gone.cancel()

    gone.add_done_callback(call)
    return forget


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _unasked(job_id: str) -> Headers:
    """Return the headers of an answer to a request that never became a job."""
    return [(b"x-request-id", job_id.encode("ascii")), (b"x-worker-attempts", b"0")]


# The body of a request


async def _body(receive: Receive, max_bytes: int, stall_s: float | None) -> bytes | bytearray:
    """Return the body of a request, read once.

    Raises:
        ApiError: 413 if it is too large; 408 if it does not come to its end.
    """
    body: bytes | bytearray = b""
    while True:
        try:
            async with asyncio.timeout(stall_s):
                message = await receive()
        except TimeoutError as exc:
            raise _cut(f"The body of the request stopped for {stall_s:g} s.") from exc
        if message["type"] == "http.disconnect":
            raise _cut("The request ended before its body did.")
        piece = message.get("body", b"")
        if not body:
            body = piece
        else:
            body = body if isinstance(body, bytearray) else bytearray(body)
            body += piece
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body"):
            return body


def _cut(message: str) -> ApiError:
    return ApiError(408, message, code="cut_request", headers={"connection": "close"})


def _encoded() -> ApiError:
    return ApiError(
        415,
        "Send the body without Content-Encoding.",
        code="encoded_body",
        headers={"accept-encoding": "identity"},
    )


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The body is larger than {max_bytes} bytes, the gateway's maximum.",
        code="request_too_large",
        headers={"connection": "close"},
    )
