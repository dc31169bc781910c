"""The gateway as an ASGI application: OpenAI's endpoints over the pools of one host."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.gateway.access import AccessLog
from registry.gateway.completions import Completions
from registry.gateway.dashboard import EventLog, Facts, dashboard_routes
from registry.gateway.gateway import Gateway
from registry.gateway.keys import Keyring
from registry.gateway.routes import ShowMetrics, fact_routes
from registry.gateway.settings import Settings
from registry.host import AdapterHost
from registry.serving.openai_api.errors import ApiError, broken, not_found

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
    metrics: ShowMetrics | None = None,
    events: EventLog | None = None,
) -> ASGIApp:
    """Return the gateway as an ASGI application.

    Args:
        host: Runs the jobs; the gateway does not close it.
        keys: The keys of the clients. None allows every client, so listen on loopback only.
        settings: The settings.
        metrics: Returns the body and the content type of `/metrics`; None for none.
        events: The host's observer that keeps the dashboard's events; None for none.
    """
    return application(Gateway(host, keys, settings), metrics, events)


def application(
    gateway: Gateway, metrics: ShowMetrics | None = None, events: EventLog | None = None
) -> ASGIApp:
    """Return the ASGI application of a gateway; the arguments are those of `app`."""
    settings = gateway.settings
    jobs: dict[str, ASGIApp] = {
        "/v1/chat/completions": Completions(gateway, "chat"),
        "/v1/completions": Completions(gateway, "completion"),
    }
    routes = [
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in jobs.items()),
        *fact_routes(gateway, metrics),
        *dashboard_routes(Facts(gateway, events), gateway.admit_reader),
    ]
    rest: ASGIApp = _starlette(routes)
    if settings.cors_origins:
        rest, jobs = _cors(rest, settings), {p: _cors(each, settings) for p, each in jobs.items()}
    front: ASGIApp = _Front(jobs, AccessLog(rest, log=settings.access_log))
    if settings.trace_context:
        from registry.observers.otel import TraceContext  # needs the extra `[otel]`

        front = TraceContext(front)
    return front


class _Front:
    """Passes jobs to their endpoints, and every other request to the router.

    The router would take a tenth of the time of a small request.

    Args:
        jobs: The endpoints by path.
        rest: Everything else, among it these paths with other methods.
    """

    def __init__(self, jobs: dict[str, ASGIApp], rest: ASGIApp) -> None:
        self._jobs = jobs
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = self._rest
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            application = self._jobs.get(path, application)
        await application(scope, receive, send)


def _cors(application: ASGIApp, settings: Settings) -> ASGIApp:
    return CORSMiddleware(
        application,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )


def _starlette(routes: list[Route]) -> Starlette:
    served = [route.path.replace(":path", "") for route in routes]

    async def missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _refused(_http_error(request, error, served))

    handlers = {ApiError: _refuse, HTTPException: missing, Exception: _broken}
    made = Starlette(routes=routes, exception_handlers=handlers)
    made.router.redirect_slashes = False  # a redirect would lead around a proxy's TLS
    return made


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _refused(error)


async def _broken(_: Request, error: Exception) -> Response:
    """Answer a failure of the gateway itself, which the server logs."""
    return _refused(broken(error))


def _refused(error: ApiError) -> Response:
    response = Response(error.body(), error.status, {"content-type": "application/json"})
    response.raw_headers += error.wire_headers()
    return response


def _http_error(request: Request, error: HTTPException, served: list[str]) -> ApiError:
    """Return the error, in OpenAI's shape, for a path or a method that the router refuses."""
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
