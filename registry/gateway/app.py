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
from adapter_api.task import MAX_ID_CHARS, new_id
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
from registry.serving.openai_api.errors import ApiError, from_worker_error, not_found

ABORT = "worker_adapters.abort"
"""The key of a scope's extension that breaks the connection at once; our server has it."""


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

        middleware = [Middleware(AccessLog)] if self.settings.access_log else []
        if self.settings.trace_context:
            from registry.observers.otel import TraceContext  # needs the extra `[otel]`

            middleware.append(Middleware(TraceContext))
        if self.settings.cors_origins:
            cors = Middleware(
                CORSMiddleware,
                allow_origins=list(self.settings.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "x-worker-replica", "x-worker-attempts"],
            )
            middleware.append(cors)
        application = Starlette(
            routes=routes,
            middleware=middleware,
            exception_handlers={ApiError: _refuse, HTTPException: missing},
        )
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
            job_id=self._job_id(headers.get("x-request-id")),
        )
        now = asyncio.get_running_loop().time()
        name = "" if key is None else key.name
        return request, Job(
            request.task.job_id, pool_id, request.model, name, request.priority, now
        )

    def _job_id(self, wanted: str | None) -> str:
        """Return the client's id of the request if it can be a job's id and is free."""
        if (
            wanted
            and len(wanted) <= MAX_ID_CHARS
            and wanted.isascii()
            and wanted.isprintable()
            and wanted not in self.table
        ):
            return wanted
        return new_id()

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

        Raises:
            ApiError: 401 or 403.
        """
        if self.keys is None or is_local(request.scope):
            return
        if not self.keys.find(request.headers.get("authorization")).limits.metrics:
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
        if gateway.draining:
            raise ApiError(503, "The gateway is shutting down.", code="shutting_down")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        key = None if gateway.keys is None else gateway.keys.find(headers.get("authorization"))
        body = await _body(receive, headers.get("content-length"), gateway.settings.max_body_bytes)
        request, job = gateway.admitted(key, headers, self._kind, body)
        if key is not None:
            key.admit(job.began_at)
        try:
            await self._run(request, job, scope, receive, send)
        finally:
            if key is not None:
                key.release()

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
        reply = relay.Reply(send, [(b"x-request-id", job_id.encode("ascii"))])

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
            else:
                await reply.fail(from_worker_error(error))
        finally:
            pulse.stop()
            gone.remove_done_callback(left)
            gone.cancel()
            gateway.board.end(job, reply.status, code)
            await reply.aclose()


async def _body(receive: relay.Receive, length: str | None, max_bytes: int) -> bytes | bytearray:
    """Return the body of a request, read once.

    Raises:
        ApiError: 413 if it is too large; 408 if the client left before its end.
    """
    if length is not None and length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    message = await receive()
    body: bytes | bytearray = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(408, "The request ended before its body did.", code="cut_request")
        if isinstance(body, bytes):
            body = bytearray(body)
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


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
