"""The gateway read with openai's own package: refusals, calls, the engine's own numbers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

import registry
from adapter_api.faults.wire import Request, Wire
from registry import AdapterHost
from tests.registry.gateway.conftest import Start
from tests.registry.gateway.test_engines import bound, engine

pytestmark = pytest.mark.clients

WORDS = ("I ", "cannot ", "help.")
MESSAGES: Any = [{"role": "user", "content": "Hello"}]
OWN = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 5, "accepted_prediction_tokens": 3},
    "cost": 0.25,
}


class City(BaseModel):
    """A structured answer."""

    city: str


def client_of(url: str) -> AsyncOpenAI:
    """Return OpenAI's client, without retries of its own."""
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


@asynccontextmanager
async def client_before(
    start: Start, answer: Callable[[Request, Wire], Awaitable[None]]
) -> AsyncIterator[AsyncOpenAI]:
    """A client of a gateway whose one engine answers with `answer`."""
    async with engine(answer) as server, AdapterHost() as host:
        host.bind("default", "r0", bound(server))
        await host.check("default")
        served = await start(host=host)
        async with client_of(served.url) as client:
            yield client


async def test_a_refusal_is_not_content(start: Start) -> None:
    """A refusal comes in `refusal`, streamed or not, so that nothing parses it as the answer."""
    served = await start(registry.get("mock", {"tokens": WORDS, "refuses": True}))
    async with client_of(served.url) as client:
        chat = client.chat.completions
        whole = await chat.parse(model="mock", messages=MESSAGES, response_format=City)
        async with chat.stream(model="mock", messages=MESSAGES, response_format=City) as stream:
            kinds = [event.type async for event in stream if event.type != "chunk"]
            streamed = await stream.get_final_completion()
    assert kinds == ["refusal.delta"] * 3 + ["refusal.done"]
    for answer in (whole, streamed):
        message = answer.choices[0].message
        assert (message.content, message.refusal, message.parsed) == (None, "".join(WORDS), None)


async def test_a_refusal_of_an_engine_is_passed_on(start: Start) -> None:
    """Pieces of `delta.refusal` arrive unchanged, even if a server repeats them as content."""

    async def answer(_: Request, wire: Wire) -> None:
        await wire.stream_head()
        for delta in ({"refusal": "I can"}, {"refusal": "not.", "content": "not."}):
            await wire.event(wire.payload(choices=[{"index": 0, "delta": delta}]))
        await wire.finish()
        await wire.done()

    async with (
        client_before(start, answer) as client,
        client.chat.completions.stream(
            model="default", messages=MESSAGES, response_format=City
        ) as stream,
    ):
        kinds = [event.type async for event in stream if event.type != "chunk"]
        message = (await stream.get_final_completion()).choices[0].message
    assert kinds == ["refusal.delta"] * 2 + ["refusal.done"]
    assert (message.content, message.refusal) == (None, "I cannot.")


async def test_a_custom_call_streams(start: Start) -> None:
    """The first piece of a call comes with the role, as openai's reader of custom calls needs."""

    async def answer(_: Request, wire: Wire) -> None:
        call = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls "}}
        more = {"index": 0, "custom": {"input": "-l"}}
        await wire.stream_head()
        for delta in ({"tool_calls": [call]}, {"tool_calls": [more]}):
            await wire.event(wire.payload(choices=[{"index": 0, "delta": delta}]))
        await wire.finish("tool_calls")
        await wire.done()

    async with (
        client_before(start, answer) as client,
        client.chat.completions.stream(
            model="default",
            messages=MESSAGES,
            tools=[{"type": "custom", "custom": {"name": "sh"}}],
        ) as stream,
    ):
        deltas = [e.chunk.choices[0].delta async for e in stream if e.type == "chunk"]
    first, second = (delta.tool_calls or [] for delta in deltas[:2])
    assert (deltas[0].role, deltas[0].content) == ("assistant", None)
    assert first[0].model_dump()["custom"] == {"name": "sh", "input": "ls "}
    assert second[0].model_dump()["custom"] == {"input": "-l"}


async def test_the_numbers_of_the_engine_reach_the_client(start: Start) -> None:
    """Further counts of usage, costs and the tier arrive, and none of it replaces our own keys."""

    async def answer(_: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.text("Hi")
        await wire.finish(service_tier="flex")
        await wire.usage(OWN)
        await wire.done()

    async with client_before(start, answer) as client:
        ask: dict[str, Any] = {"model": "default", "messages": MESSAGES}
        whole = await client.chat.completions.create(**ask, service_tier="flex")
        ask |= {"stream": True, "stream_options": {"include_usage": True}}
        chunks = [chunk async for chunk in await client.chat.completions.create(**ask)]
    assert whole.service_tier == chunks[-2].service_tier == "flex"
    for usage in (whole.usage, chunks[-1].usage):
        found = usage.model_dump(exclude_none=True)
        assert found == {**OWN, "total_tokens": 21}
