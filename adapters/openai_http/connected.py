"""The clients of one adapter, from its first request to its end."""

import asyncio
from contextlib import AsyncExitStack

import attrs
import httpx

from adapters.http_util import make_client
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.endpoints import Endpoints
from adapters.openai_http.server import Server

PROBE_CONNECTIONS = 4
"""Connections for health, version and models, in addition to those for jobs, so that neither waits
for the other. A check sends its requests one after the other, and few checks run at once."""


@attrs.define(eq=False)
class Connected:
    """The clients of one adapter, with their credentials and the known facts about the server.

    Args:
        client: Sends jobs.
        credentials: The key.
        server: The known facts about the server.
        own: The clients to close at the end, without the caller's own.
        fixed: The headers that all requests of jobs have.
    """

    client: httpx.AsyncClient
    credentials: Credentials
    server: Server
    own: tuple[httpx.AsyncClient, ...]
    _fixed: dict[str, str]
    _headers: tuple[dict[str, str], dict[str, str]] | None = attrs.field(default=None, init=False)
    _running: int = attrs.field(default=0, init=False)
    _stopping: set[asyncio.Task[None]] = attrs.field(factory=set, init=False)

    def headers(self, key_headers: dict[str, str]) -> dict[str, str]:
        """Return the headers of a job's request: the same object for the same key."""
        if self._headers is None or self._headers[0] is not key_headers:
            self._headers = key_headers, {**self._fixed, **key_headers}
        return self._headers[1]

    def begin(self) -> None:
        """Count a job that the server works on."""
        self._running += 1

    def end(self) -> None:
        """Count a job that has ended, in whatever way."""
        self._running -= 1

    def abandon(self) -> None:
        """Stop the generation of a job whose connection is about to be closed.

        Only some servers need that. Their endpoint stops all jobs, so nothing is sent while
        another job runs.
        """
        if self._running == 1 and self.server.dialect.stop_path is not None:
            task = asyncio.get_running_loop().create_task(self.server.stop_generation())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._stopping:
            await asyncio.wait(self._stopping)  # each is bounded by STOP_TIMEOUT_S
        async with AsyncExitStack() as stack:  # all of them, even if one fails
            for client in self.own:
                stack.push_async_callback(client.aclose)


def connect(config: OpenAIHttpConfig, endpoints: Endpoints) -> Connected:
    """Return the clients for `config`. Nothing is sent.

    Raises:
        ImportError: If an extra is missing.
        OSError: If a file cannot be read.
        ValueError: If the proxy's URL is invalid.
    """
    credentials = Credentials(config)
    clients = _clients(config, credentials.secrets)
    server = Server(config, endpoints, clients[-1], credentials)
    own = clients if config.client is None else ()
    fixed = {
        "Accept": config.accept,
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        **config.headers,
    }
    return Connected(clients[0], credentials, server, own, fixed)


def _clients(config: OpenAIHttpConfig, secrets: tuple[str, ...]) -> tuple[httpx.AsyncClient, ...]:
    """Return the client for jobs, followed by the one for probes, if there is one."""
    if config.client is not None:
        return (config.client,)
    options, transport = config.client_options(), config.used_transport(secrets)
    if transport is not None:
        return (make_client(options, transport),)
    few = attrs.evolve(options, max_connections=PROBE_CONNECTIONS)
    return make_client(options), make_client(few)
