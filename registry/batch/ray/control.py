"""The shared stop signal of a run on a cluster. Does not need Ray."""

import asyncio

from registry.batch.local import beyond
from registry.batch.pace import Limits


class Control:
    """An actor that signals the others to stop, on request of the run or at a limit.

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
