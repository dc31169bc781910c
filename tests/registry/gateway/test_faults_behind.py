"""Every fault of the fault server behind the gateway: no client takes half an answer for whole."""

import asyncio
import json
from collections.abc import Sequence

import attrs
import pytest

import registry
from adapter_api.faults import LIMIT_S, SCENARIOS, FaultServer, Scenario
from adapter_api.faults.wire import TEXT
from registry import AdapterHost
from tests.registry.gateway.conftest import Start
from tests.registry.gateway.raw import RawClient, events, text_of

SAMPLE = [scenario for place, scenario in enumerate(SCENARIOS.values()) if place % 20 == 0]
AT_ONCE = 10

DEADLINE_S = 2.0
"""Ends the jobs that no limit of the adapter ends: an engine that drips without end."""

LIMITS = {
    "connect_timeout_s": LIMIT_S,
    "first_token_timeout_s": LIMIT_S,
    "stall_timeout_s": LIMIT_S,
    "retry": {"attempts": 1},
}


@attrs.frozen
class Seen:
    """One answer, as a client saw it.

    Args:
        status: The HTTP status.
        text: The text that came.
        whole: Whether the client takes the answer for whole.
    """

    status: int
    text: str
    whole: bool


def may_be_whole(scenario: Scenario, text: str) -> bool:
    """Return whether this text is a whole answer of the scenario's server.

    The host asks again where the adapter alone would not, and then gets what the server answers
    to a second request.
    """
    expected = scenario.expect
    return text == TEXT or (expected.proof is not None and expected.text in (None, text))


async def _ask(port: int, scenario: Scenario, *, stream: bool) -> Seen:
    async with RawClient(port) as client:
        chat = "messages" in scenario.task
        question = {"messages": scenario.task["messages"]} if chat else {"prompt": "hi"}
        fields = {"model": scenario.name, **question, "stream": stream}
        deadline_s = scenario.task.get("deadline_s", DEADLINE_S)
        path = "/v1/chat/completions" if chat else "/v1/completions"
        client.post(path, fields, X_Request_Timeout=str(deadline_s))
        status, headers = await client.head()
        if "content-length" in headers:
            body = json.loads(await client.reader.readexactly(int(headers["content-length"])))
            if "error" in body:
                return Seen(status, "", False)
            (choice,) = body["choices"]
            text = choice["message"]["content"] if chat else choice["text"]
            return Seen(status, text or "", status == 200)
        try:
            found = events(await client.body())
        except (asyncio.IncompleteReadError, ValueError, ConnectionError):
            return Seen(status, "", False)
        failed = any(isinstance(event, dict) and "error" in event for event in found)
        return Seen(status, text_of(found), not failed and found[-1:] == ["[DONE]"])


async def _lies(start: Start, scenarios: Sequence[Scenario]) -> list[str]:
    """Return the scenarios of which a client got half an answer as whole, or none for a whole."""
    lies: list[str] = []
    room = asyncio.Semaphore(AT_ONCE)
    async with FaultServer() as server, AdapterHost() as host:
        served = await start(host=host)

        async def examine(scenario: Scenario) -> None:
            async with room:
                adapter = registry.get(
                    "openai-http",
                    {
                        "base_url": server.url(scenario.name),
                        "dialect": scenario.server or "auto",
                        **LIMITS,
                    },
                )
                host.bind(scenario.name, "r0", adapter)
                await host.check(scenario.name)
                for stream in (True, False):
                    seen = await _ask(served.port, scenario, stream=stream)
                    if seen.whole and not may_be_whole(scenario, seen.text):
                        lies.append(f"{scenario.name}: {seen}")
                await host.unbind(scenario.name, "r0")

        await asyncio.gather(*map(examine, scenarios))
    return lies


async def test_no_half_answer_is_whole(start: Start) -> None:
    """A sample of the faults behind the gateway, streamed and not."""
    assert await _lies(start, SAMPLE) == []


@pytest.mark.exhaustive
async def test_no_fault_makes_half_an_answer_whole(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every fault behind the gateway; the figure is printed."""
    lies = await _lies(start, list(SCENARIOS.values()))
    with capsys.disabled():
        print(f"\n{len(SCENARIOS)} faults behind the gateway, {len(lies)} half answers as whole")
    assert lies == []
