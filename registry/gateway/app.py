"""The gateway as an ASGI application: OpenAI's endpoints over the pools of one host."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapter_api.errors import ErrorCode, WorkerError
from adapter_api.task import new_id
from registry.gateway import relay
from registry.gateway.access import AccessLog, is_local
from registry.gateway.dashboard import EventLog, Facts, dashboard_routes
from registry.gateway.jobs import Board, Job
from registry.gateway.keys import Key, Keyring
from registry.gateway.models import ModelDirectory
from registry.gateway.settings import Settings
from registry.host import AdapterHost
from registry.serving.jobs import JobTable
from registry.serving.openai_api import requests
from registry.serving.openai_api.errors import (
    ApiError,
    Headers,
    from_worker_error,
    not_found,
    shutting_down,
)

ABORT = "worker_adapters.abort"
"""The key of a scope's extension that breaks the connection at once; our server has it."""


EXPOSED_HEADERS = (
    "openai-processing-ms",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    "x-worker-attempts",
    "x-worker-replica",
)
"""The headers of an answer that a page of another origin may read."""


def app(
    host: AdapterHost,
    *,
    keys: Keyring | None = None,
    settings: Settings | None = None,
    metrics: Callable[[], tuple[bytes, str]] | None = None,
    events: EventLog | None = None,
) -> Starlette:
    """Return the gateway as an ASGI application.

    Args:
        host: Runs the jobs; the gateway does not close it.
        keys: The keys of the clients. None lets every client in, so listen on loopback only.
        settings: What can be set.
        metrics: Returns the body and the content type of `/metrics`; None for none.
        events: The host's observer that keeps the dashboard's events; None for none.
    """
    return Gateway(host, keys, settings or Settings(), metrics, events).application()


class Gateway:
    """One gateway: its host, its keys, and the jobs that run through it.

    Args: as for `app`.
    """

    def __init__(
        self,
        host: AdapterHost,
        keys: Keyring | None,
        settings: Settings,
        metrics: Callable[[], tuple[bytes, str]] | None = None,
        events: EventLog | None = None,
    ) -> None:
        self.host = host
        self.keys = keys
        self.settings = settings
        self.models = ModelDirectory(host, settings.aliases)
        self.table = JobTable(host)
        self.board = Board()
        self.leaving = False
        self.draining = False
        self._cancelling: set[asyncio.Task[bool]] = set()
        self._metrics = metrics
        self._facts = Facts(host, self.board, events, lambda: self.leaving or self.draining)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/v1/chat/completions", self._completion("chat"), methods=["POST"]),
            Route("/v1/completions", self._completion("completion"), methods=["POST"]),
            Route("/v1/models", self._list_models),
            Route("/v1/models/{name:path}", self._show_model),
            Route("/v1/jobs/{job_id}", self._explain),
            Route("/health/live", self._live),
            Route("/health/ready", self._ready),
            Route("/health", self._ready),
            Route("/ready", self._ready),
            *dashboard_routes(self._facts, self.admit_reader),
        ]
        if self._metrics is not None:
            routes.append(Route("/metrics", self._show_metrics))
        served = [route.path for route in routes]

        async def missing(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            return _refused(_http_error(request, error, served))

        middleware = [Middleware(AccessLog, log=self.settings.access_log)]
        if self.settings.trace_context:
            from registry.observers.otel import TraceContext  # needs the extra `[otel]`

            middleware.append(Middleware(TraceContext))
        if self.settings.cors_origins:
            cors = Middleware(
                CORSMiddleware,
                allow_origins=list(self.settings.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
            )
            middleware.append(cors)
        application = Starlette(
            routes=routes,
            middleware=middleware,
            exception_handlers={ApiError: _refuse, HTTPException: missing, Exception: _broken},
        )
        application.router.redirect_slashes = False  # a redirect would lead around a proxy's TLS
        application.state.gateway = self
        return application

    # Jobs

    def _completion(self, kind: requests.Kind) -> "_Completion":
        return _Completion(self, kind)

    def admitted(
        self,
        key: Key | None,
        headers: Mapping[str, str],
        kind: requests.Kind,
        body: bytes | bytearray,
        job_id: str,
    ) -> tuple[requests.ApiRequest, Job]:
        """Read a request and name its pool.

        Raises:
            ApiError: If it is refused.
        """
        fields = requests.decode(body)
        model = requests.requested_model(fields)
        pool_id = self.models.find(model, None if key is None else key.pools)
        request = requests.read(
            kind,
            model or pool_id,
            fields,
            headers,
            model=self.models.upstream_name(model),
            job_id=job_id,
        )
        now = asyncio.get_running_loop().time()
        name = "" if key is None else key.name
        return request, Job(
            request.task.job_id, pool_id, request.model, name, request.priority, now
        )

    def job_id(self, wanted: str | None) -> str:
        """Return the client's id of the request if it can be a job's id and is free."""
        if wanted is not None and requests.is_id(wanted) and wanted not in self.table:
            return wanted
        return new_id()

    def job_headers(self, job_id: str) -> Headers:
        """Return the headers that an answer to a job has, from what is known by now."""
        asked = self.host.asked(job_id)
        headers = [
            (b"x-request-id", job_id.encode("ascii")),
            (b"x-worker-attempts", str(len(asked)).encode()),
        ]
        if asked:
            headers.append((b"x-worker-replica", asked[-1].encode("ascii", "replace")))
        return headers

    def cancel(self, job_id: str) -> None:
        """Cancel a job; its answer ends with an error."""
        task = asyncio.create_task(self.table.cancel(job_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    # Facts

    async def _list_models(self, request: Request) -> Response:
        key = self._key(request)
        names = self.models.names(None if key is None else key.pools)
        return _json({"object": "list", "data": [_model(name) for name in names]})

    async def _show_model(self, request: Request) -> Response:
        key = self._key(request)
        name = request.path_params["name"]
        self.models.find(name, None if key is None else key.pools)
        return _json(_model(name))

    async def _explain(self, request: Request) -> Response:
        self.admit_reader(request)
        job_id = request.path_params["job_id"]
        explanation = self.host.explain(job_id)
        if explanation is None:
            raise ApiError(404, f"No job {job_id[:200]!r} is known.", code="job_not_found")
        return _json(attrs.asdict(explanation))

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        accepting = sum(
            replica.state in ("ready", "busy")
            for pool in self.host.snapshot().pools
            for replica in pool.replicas
        )
        leaving = self.leaving or self.draining
        ready = bool(accepting) and not leaving
        fields = {"ready": ready, "draining": leaving, "replicas_accepting": accepting}
        return _json(fields, 200 if ready else 503)

    async def _show_metrics(self, request: Request) -> Response:
        self.admit_reader(request)
        assert self._metrics is not None
        body, content_type = self._metrics()
        return Response(body, headers={"content-type": content_type})

    # Who may

    def _key(self, request: Request) -> Key | None:
        return None if self.keys is None else self.keys.find(request.headers.get("authorization"))

    def admit_reader(self, request: Request) -> None:
        """Let in who may see jobs and figures: this machine, or a key with `metrics`.

        A browser asks for the key as the password of Basic authentication.

        Raises:
            ApiError: 401 or 403.
        """
        if self.keys is None or is_local(request.scope):
            return
        if not self.keys.find(request.headers.get("authorization"), basic=True).limits.metrics:
            raise ApiError(
                403,
                "This key does not open this page: set `metrics = true` for it in the key file.",
                code="not_allowed",
            )


class _Completion:
    """The ASGI endpoint of one kind of completion."""

    def __init__(self, gateway: Gateway, kind: requests.Kind) -> None:
        self._gateway = gateway
        self._kind: requests.Kind = kind

    async def __call__(
        self, scope: relay.Message, receive: relay.Receive, send: relay.Send
    ) -> None:
        gateway = self._gateway
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        job_id = gateway.job_id(headers.get("x-request-id"))
        try:
            request, job, key = await self._admitted(headers, receive, job_id)
        except ApiError as error:
            reply = relay.Reply(send, lambda: _unasked(job_id))
            await reply.fail(error)
            return
        try:
            await self._run(request, job, scope, receive, send)
        finally:
            if key is not None:
                key.release()

    async def _admitted(
        self, headers: Mapping[str, str], receive: relay.Receive, job_id: str
    ) -> tuple[requests.ApiRequest, Job, Key | None]:
        """Read and admit a request. Its body is not kept any longer.

        Raises:
            ApiError: If it is refused.
        """
        gateway, settings = self._gateway, self._gateway.settings
        if gateway.draining:
            raise shutting_down()
        key = None if gateway.keys is None else gateway.keys.find(headers.get("authorization"))
        if headers.get("content-encoding", "identity") != "identity":
            raise ApiError(415, "Send the body without Content-Encoding.", code="encoded_body")
        body = await _body(
            receive, headers.get("content-length"), settings.max_body_bytes, settings.stall_s
        )
        if gateway.draining:  # since then
            raise shutting_down()
        if job_id in gateway.table:  # another request took the id while the body came
            job_id = new_id()
        request, job = gateway.admitted(key, headers, self._kind, body, job_id)
        if key is not None:
            key.admit(job.began_at)
        return request, job, key

    async def _run(
        self,
        request: requests.ApiRequest,
        job: Job,
        scope: relay.Message,
        receive: relay.Receive,
        send: relay.Send,
    ) -> None:
        gateway, job_id = self._gateway, job.job_id
        settings = gateway.settings
        reply = relay.Reply(send, lambda: gateway.job_headers(job_id))

        def stalled() -> None:
            gateway.cancel(job_id)
            _abort(scope)

        def left(_: object) -> None:
            gateway.cancel(job_id)

        gone = asyncio.create_task(_until_gone(receive))
        gone.add_done_callback(left)
        keep_alive_s = settings.keep_alive_s if request.stream else 0.0
        pulse = relay.Pulse(reply, keep_alive_s, settings.stall_s, stalled)
        gateway.board.begin(job)
        code: str = ErrorCode.CANCELLED
        try:
            async with gateway.table.run(
                job.pool_id, request.task, priority=request.priority
            ) as stream:
                if request.stream:
                    await relay.stream_answer(request, stream, reply, job)
                else:
                    await relay.whole_answer(request, stream, reply, job)
            code = ""
        except WorkerError as error:
            code = error.code
            if reply.started and settings.break_off and _abort(scope):
                await gone
            elif code == ErrorCode.CANCELLED and gateway.draining:
                await reply.fail(shutting_down())
            else:
                await reply.fail(from_worker_error(error))
        finally:
            pulse.stop()
            gone.remove_done_callback(left)
            gone.cancel()
            gateway.board.end(job, reply.status, code)
            await reply.aclose()


async def _body(
    receive: relay.Receive, length: str | None, max_bytes: int, stall_s: float
) -> bytes | bytearray:
    """Return the body of a request, read once.

    Raises:
        ApiError: 413 if it is too large; 408 if it does not come to its end.
    """
    if length is not None and length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    now = asyncio.get_running_loop().time
    body: bytes | bytearray = b""
    try:
        async with asyncio.timeout(stall_s or None) as limit:
            while True:
                message = await receive()
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
                if stall_s:
                    limit.reschedule(now() + stall_s)
    except TimeoutError as exc:
        raise _cut(f"The body of the request stopped for {stall_s:g} s.") from exc


def _cut(message: str) -> ApiError:
    return ApiError(408, message, code="cut_request", headers={"connection": "close"})


def _unasked(job_id: str) -> Headers:
    """Return the headers of an answer to a request that never became a job."""
    return [(b"x-request-id", job_id.encode("ascii")), (b"x-worker-attempts", b"0")]


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The body is larger than {max_bytes} bytes, the gateway's maximum.",
        code="request_too_large",
        headers={"connection": "close"},
    )


def _abort(scope: relay.Message) -> bool:
    """Break the connection; return False if the server cannot."""
    server = scope.get("extensions", {}).get(ABORT)
    if server is None:
        return False
    server["abort"]()
    return True


async def _until_gone(receive: relay.Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "worker-adapters"}


def _json(fields: Any, status: int = 200) -> Response:
    headers = {"content-type": "application/json"}
    return Response(msgspec.json.encode(fields), status, headers)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _refused(error)


async def _broken(_: Request, error: Exception) -> Response:
    """Answer a failure of the gateway itself, which the server logs."""
    message = f"The gateway failed ({type(error).__name__}). Its log has the cause."
    return _refused(ApiError(500, message, code="internal"))


def _refused(error: ApiError) -> Response:
    response = Response(error.body(), error.status, {"content-type": "application/json"})
    response.raw_headers += error.wire_headers()
    return response


def _http_error(request: Request, error: HTTPException, served: list[str]) -> ApiError:
    """Return OpenAI's shape for what the router refuses: a path or a method."""
    path = request.url.path
    if error.status_code == 404:
        return not_found(path, served)
    allowed = (error.headers or {}).get("Allow", "")
    return ApiError(
        error.status_code,
        f"{request.method} is not served at {path}. Use {allowed or 'another method'}.",
        code="method_not_allowed",
        headers=dict(error.headers or {}),
    )
