"""Servers that let requests through one by one, for the tests of the pool."""

import asyncio

from adapter_api.faults import Request, Script, Wire
from tests.adapters.http_util.conftest import OK


class Gate:
    """A script that holds every answer until it is let go."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.open = asyncio.Semaphore(0)

    async def __call__(self, request: Request, wire: Wire) -> None:
        self.order.append(request.target)
        async with asyncio.timeout(5):
            await self.open.acquire()
        await wire.raw(OK)


def second_time(action: str) -> Script:
    """Answers the first request of each connection; with the second it does what `action` says."""

    async def script(request: Request, wire: Wire) -> None:
        if request.connection.requests == 1:
            await wire.raw(OK)
        elif action == "close":
            await wire.close()
        elif action == "reset":
            await wire.reset()
        elif action == "half":
            await wire.raw(b"H")
            await wire.close()
        else:
            await wire.raw(b"nonsense\r\n\r\n")

    return script
