"""The paths that report a gateway's facts: models, jobs, health and metrics."""

from collections.abc import Callable
from typing import Any

import attrs
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from registry.gateway.gateway import Gateway
from registry.serving.openai_api.errors import ApiError

ShowMetrics = Callable[[], tuple[bytes, str]]


def fact_routes(gateway: Gateway, metrics: ShowMetrics | None) -> list[Route]:
    """Return the routes of one gateway's facts.

    Args:
        gateway: The gateway.
        metrics: Returns the body and the content type of `/metrics`; None for none.
    """
    facts = _Facts(gateway)

    async def show_metrics(request: Request) -> Response:
        gateway.admit_reader(request.scope)
        assert metrics is not None
        body, content_type = metrics()
        return Response(body, headers={"content-type": content_type})

    routes = [
        Route("/v1/models", facts.models),
        Route("/v1/models/{name:path}", facts.model),
        Route("/v1/jobs/{job_id}", facts.job),
        Route("/health/live", facts.live),
        Route("/health/ready", facts.ready),
        Route("/health", facts.ready),
        Route("/ready", facts.ready),
    ]
    return routes if metrics is None else [*routes, Route("/metrics", show_metrics)]


class _Facts:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def models(self, request: Request) -> Response:
        key = self._gateway.key(request.scope)
        names = self._gateway.models.names(None if key is None else key.pools)
        return _json({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request) -> Response:
        key = self._gateway.key(request.scope)
        name = request.path_params["name"]
        if not name:
            raise HTTPException(404)
        self._gateway.models.find(name, None if key is None else key.pools)
        return _json(_model(name))

    async def job(self, request: Request) -> Response:
        self._gateway.admit_reader(request.scope)
        job_id = request.path_params["job_id"]
        explanation = self._gateway.host.explain(job_id)
        if explanation is None:
            raise ApiError(404, f"No job {job_id[:200]!r} is known.", code="job_not_found")
        return _json(attrs.asdict(explanation))

    async def live(self, _: Request) -> Response:
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        accepting = sum(
            replica.state in ("ready", "busy")
            for pool in self._gateway.host.snapshot().pools
            for replica in pool.replicas
        )
        leaving = self._gateway.is_leaving
        ready = bool(accepting) and not leaving
        fields = {"ready": ready, "draining": leaving, "replicas_accepting": accepting}
        return _json(fields, 200 if ready else 503)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "worker-adapters"}


def _json(fields: Any, status: int = 200) -> Response:
    headers = {"content-type": "application/json"}
    return Response(msgspec.json.encode(fields), status, headers)
