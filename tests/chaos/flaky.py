"""A server that can be killed, hung, slowed, broken and restarted on its port."""

import asyncio
import random
from typing import Literal

from adapter_api.faults import Request, ScriptServer, Wire
from tests.openai_chunks import piece, usage

Mood = Literal["well", "slow", "hung", "busy", "failing", "cutting"]
MOODS: tuple[Mood, ...] = ("well", "slow", "hung", "busy", "failing", "cutting")

TOKEN_S = 0.05
"""The time between two tokens."""

SLOW_S = 0.3
"""The same of a slow server."""


class FlakyServer(ScriptServer):
    """Answers with the tokens "0 ", "1 ", ... as its mood has it.

    Args:
        rng: Decides where answers are cut.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__(self._answer)
        self.mood: Mood = "well"
        self.jobs = 0
        self._rng = rng

    async def kill(self) -> None:
        """Stop at once; every connection is reset."""
        await self.stop()
        self.requests.clear()
        self.connections.clear()

    async def _answer(self, request: Request, wire: Wire) -> None:
        if request.method == "POST":
            self.jobs += 1
        if self.mood == "hung":
            await wire.until_closed(60)
        elif request.method != "POST":
            listed = {"object": "list", "data": [{"id": "m", "object": "model"}]}
            known = request.path == "/v1/models"
            await wire.reply(listed if known else {"error": {}}, 200 if known else 404)
        elif self.mood == "busy":
            await wire.reply({"error": {"message": "busy"}}, 429, {"retry-after-ms": "50"})
        elif self.mood == "failing":
            await wire.reply({"error": {"message": "broken"}}, 500)
        else:
            await self._stream(wire, request.json()["max_tokens"])

    async def _stream(self, wire: Wire, count: int) -> None:
        cut_at = self._rng.randrange(count) if self.mood == "cutting" else None
        await wire.stream_head()
        for index in range(count):
            if index == cut_at:
                await wire.reset()
                return
            await asyncio.sleep(SLOW_S if self.mood == "slow" else TOKEN_S)
            await wire.event(piece(f"{index} "))
        await wire.event(piece("", "length"))
        await wire.event(usage(2, count))
        await wire.event("[DONE]")
        await wire.end()
