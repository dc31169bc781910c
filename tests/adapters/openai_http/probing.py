"""Servers and probes of them, for the tests of health and props."""

from collections.abc import Mapping
from typing import Any

from adapter_api import HealthStatus
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import (
    Handler,
    answers,
)
from tests.openai_chunks import recorded


def recording(name: str) -> Handler:
    """The recorded answer, with the header that gives its server away."""
    status, headers, body = recorded(name)
    kept = {"Server": headers["server"]} if "server" in headers else {}
    return answers(body, status, kept)


async def health(serving: Serving, routes: Mapping[str, Handler], **options: Any) -> HealthStatus:
    """Return what the adapter reports of a server with these routes; only GETs may be sent."""
    async with serving(routes, **options) as (server, adapter):
        status: HealthStatus = await adapter.health()
        assert all(request.method == "GET" for request in server.requests)
    assert status.latency_ms is not None
    assert status.latency_ms > 0
    return status
