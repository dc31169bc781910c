"""A key that was pasted into the wrong place does not show in the error about it."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

import registry
from adapter_api import TaskRequest
from adapter_api.keys import keys_in, without_keys
from adapters.openai_http import OpenAIHttpAdapter
from registry.config.fields import structure_config

KEYS = [
    "sk-proj-AbCdEf1234567890abcdef",
    "sk-short1",
    "hf_AbCdEfGhIjKlMnOp",
    "correct-horse-battery-staple-9000",
    "0f0b86d60f0b86d60f0b86d60f0b86d6",
    "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "sk-proj-" + "AbCdEf1234567890" * 10,
]
NAMES = [
    *("auto", "llama-server", "text-generation-webui", "first_token_timeout_seconds", "vllm2"),
    *("gpt-4o-mini-2024", "http://localhost:8000/v1", "127.0.0.1", "/etc/worker/pools-01.toml"),
    *("retry.attempts", "max_tokens", "1234567890123456789", "a value of 12 words, all short"),
]


@attrs.frozen
class Config:
    """A config of another distribution, whose own checks repeat what they refuse."""

    color: str = "red"

    def __attrs_post_init__(self) -> None:
        if self.color != "red":
            raise ValueError(f"color must be red, not {self.color}!")


def _openai(**options: Any) -> object:
    return registry.get("openai-http", **{"base_url": "http://h", **options})


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "attempt",
    [
        lambda key: _openai(dialect=key),
        lambda key: _openai(api=key),
        lambda key: _openai(**{key: "x"}),
        lambda key: _openai(api_path=key),
        lambda key: _openai(accept=f"{key}\n"),
        lambda key: _openai(headers={key: "\n"}),
        lambda key: _openai(headers={key: 5}),
        lambda key: _openai(headers={f"{key} ": "x"}),
        lambda key: _openai(retry={"attempts": key}),
        lambda key: _openai(retry={key: 1}),
        lambda key: _openai(max_line_bytes=key),
        lambda key: _openai(base_url=key),
        lambda key: OpenAIHttpAdapter("http://h", dialect=key),
        lambda key: OpenAIHttpAdapter("http://h", api=key),
        lambda key: structure_config("x", Config, {"color": key}),
        lambda key: registry.get(key),
        lambda key: TaskRequest(prompt="x", tool_choice=key),
        lambda key: TaskRequest(prompt="x", max_tokens=key),
        lambda key: TaskRequest(messages=[{"role": "user", "content": "x", key: "y"}]),
    ],
)
def test_an_error_does_not_repeat_a_key(attempt: Callable[[str], object], key: str) -> None:
    """As a value, as a name, and cut to a line."""
    with pytest.raises(Exception) as caught:  # of many classes
        attempt(key)
    shown = f"{caught.value}\n{caught.value!r}"
    assert key[:12] not in shown
    assert key[-12:] not in shown


@pytest.mark.parametrize("name", NAMES)
def test_words_that_are_not_keys_are_shown(name: str) -> None:
    """Else the message would not help."""
    assert without_keys(name) == name
    assert keys_in(name) == []


def test_an_unknown_value_is_shown() -> None:
    """A misspelt dialect is not a key."""
    with pytest.raises(ValueError, match="got 'lama-server'"):
        OpenAIHttpAdapter("http://h", dialect="lama-server")
