"""The one place that knows when a run on a cluster stops. It needs no Ray."""

import asyncio

from registry.batch.local import beyond
from registry.batch.pace import Limits


class Control:
    """An actor that tells the others when to stop: when the run says so, or at a limit of the run.

    Args:
        limits: The limits of the run.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tokens = self._failures = 0
        self._why = ""
        self._stopped = asyncio.Event()

    async def stop(self, why: str) -> None:
        """Let every actor stop. The first reason is kept."""
        self._why = self._why or why
        self._stopped.set()

    async def use(self, tokens: int, failures: int) -> None:
        """Add what an actor has used since its last report."""
        self._tokens += tokens
        self._failures += failures
        if why := beyond(self._limits, self._tokens, self._failures):
            await self.stop(why)

    async def stopped(self) -> str:
        """Wait until the run stops; return why."""
        await self._stopped.wait()
        return self._why
