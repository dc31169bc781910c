"""The events of a job are plain, frozen data (ADAPT-3001)."""

import copy
import pickle
import typing

import attrs
import pytest
from hypothesis import given

import adapter_api
from adapter_api import End, Error, Metrics, MetricsFrame, Started, Token, TokenEvent
from tests.strategies import events


def test_there_are_five_events() -> None:
    """Started, Token, MetricsFrame, End, Error, and no other."""
    assert typing.get_args(TokenEvent) == (Started, Token, MetricsFrame, End, Error)


def test_their_fields_are_those_of_the_contract() -> None:
    """Names and order are public: events are matched by position and by name."""
    names = {cls: [f.name for f in attrs.fields(cls)] for cls in typing.get_args(TokenEvent)}
    assert names == {
        Started: ["job_id", "engine", "engine_version", "model", "seed", "replica_id"],
        Token: ["text", "index", "logprob"],
        MetricsFrame: ["data"],
        End: [
            "metrics",
            "finish_reason",
            "proof",
            "tool_calls",
            "invalid_tool_calls",
            "refused",
            "message_extra",
        ],
        Error: ["error"],
    }
    assert [f.name for f in attrs.fields(Metrics)] == [
        "tokens_generated",
        "prompt_tokens",
        "time_to_first_token_ms",
        "decode_time_ms",
        "usage_source",
        "attempts",
        "ledger",
        "cached_tokens",
        "reasoning_tokens",
    ]


def test_what_is_not_known_is_none() -> None:
    """Only facts that every engine reports are required; a count is ours unless the engine
    counted."""
    assert Started("j", "e", "1") == Started("j", "e", "1", None, None, None)
    assert Token("a", 0).logprob is None
    assert Metrics(3) == Metrics(3, None, None, 0.0, "counted", 1)


@given(events)
def test_an_event_is_immutable_and_can_be_copied(event: TokenEvent) -> None:
    """Events are immutable and can be pickled."""
    for field in attrs.fields(type(event)):
        with pytest.raises(AttributeError):
            setattr(event, field.name, None)
    for twin in (copy.copy(event), pickle.loads(pickle.dumps(event))):
        if isinstance(event, Error):
            assert isinstance(twin, Error)
            assert type(twin.error) is type(event.error)
            assert twin.error.fields() == event.error.fields()
        else:
            assert twin == event


def test_events_match_by_name() -> None:
    """The loop of the documentation: one case for each event."""
    seen = []
    for event in (Started("j", "e", "9"), Token("a", 0), End(Metrics(1), "stop", "done")):
        match event:
            case Started(engine_version=version):
                seen.append(version)
            case Token(text=text, index=index):
                seen.append(f"{text}{index}")
            case End(metrics=metrics, finish_reason=why):
                seen.append(f"{metrics.tokens_generated} {why}")
    assert seen == ["9", "a0", "1 stop"]


def test_the_package_offers_what_it_says() -> None:
    """Every name of `__all__` is there; another name is an ordinary AttributeError."""
    assert all(getattr(adapter_api, name) is not None for name in adapter_api.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'TokenStreem'"):
        adapter_api.TokenStreem  # noqa: B018
