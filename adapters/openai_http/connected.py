"""What an adapter holds from its first request to its end."""

from contextlib import AsyncExitStack

import attrs
import httpx

from adapters.http_util import make_client
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.endpoints import Endpoints
from adapters.openai_http.server import Server

PROBE_CONNECTIONS = 4
"""Connections for health, version and models, beside those for jobs: neither ever waits for the
other. A check asks one thing after the other, and few run at once."""


@attrs.frozen(eq=False)
class Connected:
    """The clients of one adapter, and what they are used with.

    Args:
        client: What jobs are sent with.
        credentials: Whose key.
        server: What is known of the server.
        own: The clients to close in the end; not one that the caller gave.
    """

    client: httpx.AsyncClient
    credentials: Credentials
    server: Server
    own: tuple[httpx.AsyncClient, ...]

    async def aclose(self) -> None:
        """Close every connection."""
        async with AsyncExitStack() as stack:  # all of them, also where one fails
            for client in self.own:
                stack.push_async_callback(client.aclose)


def connect(config: OpenAIHttpConfig, endpoints: Endpoints) -> Connected:
    """What `config` asks for. Nothing is sent.

    Raises:
        ImportError: An extra is missing.
        OSError: A file cannot be read.
        ValueError: The proxy's URL is none.
    """
    credentials = Credentials(config)
    clients = _clients(config)
    server = Server(config, endpoints, clients[-1], credentials)
    own = clients if config.client is None else ()
    return Connected(clients[0], credentials, server, own)


def _clients(config: OpenAIHttpConfig) -> tuple[httpx.AsyncClient, ...]:
    """The client for jobs, and behind it one for probes, if they have one of their own."""
    if config.client is not None:
        return (config.client,)
    options, transport = config.client_options(), config.used_transport()
    if transport is not None:
        return (make_client(options, transport),)
    few = attrs.evolve(options, max_connections=PROBE_CONNECTIONS)
    return make_client(options), make_client(few)
