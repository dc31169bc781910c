"""`worker-adapters probe` finds out what a server does."""

import registry
from registry.cli.commands.probe import Probe
from tests.word_server import WordServer


async def facts_of(adapter: registry.BoundAdapter, model: str | None = None) -> dict[str, str]:
    return {fact.name: fact.result async for fact in Probe(adapter, model).facts()}


async def test_the_facts_of_a_sound_server() -> None:
    """Every question has its answer, from health to a wrong key."""
    async with WordServer(api_key="right-key", delay_s=0.001) as server:
        adapter = registry.get("openai-http", base_url=server.base_url, api_key="right-key")
        facts = await facts_of(adapter, "words")
    assert facts["health"].startswith("healthy, live, ready")
    assert facts["models"] == "words"
    assert "usage 2+8 engine, finish_reason length, proof finish_reason" in facts["prompt"]
    assert "proof finish_reason" in facts["messages"]
    assert facts["same seed twice"] == "same text"
    assert facts["cancel"].startswith("connection closed in")
    assert facts["refused fields"] == "none"
    assert facts["wrong key"].startswith("UPSTREAM_AUTH")


async def test_an_absent_server_is_queried_once() -> None:
    """Nothing raises, and the error is there once instead of as the answer to every question."""
    facts = await facts_of(registry.get("openai-http", base_url="http://127.0.0.1:9"))
    assert list(facts) == ["health"]
    assert facts["health"].startswith("unhealthy")


async def test_adapters_without_keys_can_be_probed() -> None:
    """The mock adapter, too."""
    facts = await facts_of(registry.get("mock", tokens=(" ",)))
    assert facts["wrong key"] == "the adapter has no key"
    assert facts["stop"] == "no text to stop at"
    assert facts["cancel"] == "the answer was over before it could be cancelled"
    assert facts["capacity"] == "context unknown, slots unknown"
    assert "usage unknown+1 counted" in facts["prompt"]
