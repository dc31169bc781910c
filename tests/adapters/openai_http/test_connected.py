"""An adapter closes everything it holds."""

import httpx
import pytest

from adapters.http_util import ClientOptions, make_client
from adapters.openai_http import OpenAIHttpConfig
from adapters.openai_http.connected import Connected
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.server import Server


class Stuck(httpx.MockTransport):
    """Cannot be closed."""

    async def aclose(self) -> None:
        raise OSError("stuck")


async def test_one_client_that_cannot_be_closed_leaves_no_other_open() -> None:
    """The failure propagates when all are closed."""
    config = OpenAIHttpConfig("http://127.0.0.1:9")
    clients = tuple(
        make_client(ClientOptions(), transport)
        for transport in (Stuck(httpx.Response), None, Stuck(httpx.Response))
    )
    credentials = Credentials(config)
    server = Server(config, config.endpoints(), clients[0], credentials)
    with pytest.raises(OSError, match="stuck"):
        await Connected(clients[0], credentials, server, clients, {}).aclose()
    assert all(client.is_closed for client in clients)
