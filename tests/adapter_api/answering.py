"""Adapters that react to an interruption in one way or another, for the tests of cancelling."""

import asyncio
from collections.abc import AsyncIterator

from adapter_api import (
    Token,
    TokenEvent,
    WorkerReset,
)
from tests.scripted import END, STARTED


def answers(how: str) -> AsyncIterator[TokenEvent]:
    """An adapter that answers its interruption in one way or another."""

    async def events() -> AsyncIterator[TokenEvent]:
        yield STARTED
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if how == "lets it pass":
                raise
            if how == "raises":
                raise OSError("broken pipe") from None
            if how == "raises a WorkerError":
                raise WorkerReset("WORKER_RESET", "x") from None
            if how == "yields":
                yield Token("late", 0)
            if how == "ends the answer":
                yield END

    return events()
