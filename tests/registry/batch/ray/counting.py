"""An engine that counts its requests and requires a key."""

import asyncio
import random
from collections import Counter
from typing import Any, Self

import attrs

from adapter_api.faults import Request, ScriptServer, Wire

KEY = "sk-of-the-cluster"
VARIABLE = "RAY_TEST_KEY"


@attrs.define(eq=False)
class CountingEngine:
    """Answers each prompt with the prompt; use it with `async with`.

    Attributes:
        answer_s: The longest time that an answer takes.
        asked: How often each prompt has come with the right key.
        asked_is: Notified at each request.
    """

    answer_s: float = 0.04
    asked: Counter[str] = attrs.field(factory=Counter)
    server: ScriptServer = attrs.field(init=False)

    async def __aenter__(self) -> Self:
        self.server = await ScriptServer(self._answer).__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.server.__aexit__(*exc_info)

    async def _answer(self, request: Request, wire: Wire) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            await wire.reply({"error": {"message": "no key"}}, 401)
            return
        if request.method != "POST":
            await wire.reply({"data": [{"id": "m"}]})
            return
        prompt = request.json()["messages"][0]["content"]
        self.asked[prompt] += 1
        await asyncio.sleep(random.uniform(0, self.answer_s))
        await wire.stream_head()
        await wire.text(prompt)
        await wire.rest()

    def workers(self) -> str:
        """Return a workers file whose one replica is this engine."""
        return (
            '[[replicas]]\npool = "p"\nreplica = "r0"\nadapter = "openai-http"\n'
            f'options = {{ base_url = "{self.server.base_url}", model = "m" }}\n'
            f'secrets = {{ api_key = "{VARIABLE}" }}  # not {KEY}\n'
        )
