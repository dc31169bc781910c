"""How servers are recognized: by their hosts, headers, chunks and model lists."""

import json
from typing import Any

import pytest

from adapters.http_util import SSEDecoder
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.dialects import (
    DIALECTS,
    UNKNOWN,
    Dialect,
    by_chunk,
    by_headers,
    by_host,
    by_owner,
    version_in,
)
from tests.openai_chunks import STREAMS, recorded

UUID = "7b2e2b3c-1c22-4d4f-9c9d-0123456789ab"


def _name(dialect: Dialect | None) -> str | None:
    return None if dialect is None else dialect.name


def test_the_servers_that_must_work_are_there() -> None:
    """Each by the name that `dialect=` takes; the unknown one is none of them."""
    assert set(DIALECTS) == {
        "openai", "azure", "vllm", "text-generation-webui", "localai", "ollama", "llama-server",
        "llama-cpp-python", "transformers", "litellm", "sglang", "dynamo", "lm-studio", "deepseek",
        "mistral", "openrouter", "groq",
    }  # fmt: skip
    assert UNKNOWN.name not in DIALECTS
    assert (UNKNOWN.always_finishes, UNKNOWN.error_text) == (False, None)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("res.openai.azure.com", "azure"),
        ("res.openai.azure.us", "azure"),
        ("res.cognitiveservices.azure.com", "azure"),
        ("res.services.ai.azure.com", "azure"),
        ("openai.azure.com", None),
        ("evil-api.openai.com", None),
        ("api.openai.com.example", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_by_host(host: str, name: str | None) -> None:
    """Whole names, and endings behind a dot."""
    assert _name(by_host(host)) == name


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"server": "llama.cpp"}, "llama-server"),
        ({"server": "uvicorn"}, None),
        ({"x-litellm-version": "1.106.0"}, "litellm"),
        ({"x-litellm-call-id": "abc"}, "litellm"),
        ({"openai-version": "2020-10-01"}, "openai"),
        ({"x-ms-region": "France Central"}, "azure"),
        ({"apim-request-id": "abc"}, "azure"),
        ({"openai-version": "2020-10-01", "x-litellm-version": "1"}, "litellm"),
        ({"server": "llama.cpp", "x-litellm-version": "1"}, "litellm"),
        ({"x-litellm-version": ""}, None),
        ({}, None),
    ],
)
def test_by_headers(headers: dict[str, str], name: str | None) -> None:
    """A proxy goes before what is behind it."""
    assert _name(by_headers(headers)) == name


@pytest.mark.parametrize(
    ("fingerprint", "completion_id", "model", "name"),
    [
        ("vllm-0.32.0-227ce6a1", "cmpl-1", "m", "vllm"),
        ("b5000-1a2b3c4d", "chatcmpl-x", "m", "llama-server"),
        ("fp_44709d6fcb", "chatcmpl-x", "gpt", "openai"),
        ("fp_ollama", "chatcmpl-1", "llama3", "ollama"),
        ("unknown-1", f"cmpl-{UUID}", "m", None),
        (None, "cmpl-993791d3f7663d03", "tiny", "vllm"),
        (None, "chatcmpl-9607ea6c74fc8985", "tiny", "vllm"),
        (None, "cmpl-993791d3f7663d03993791d3f7663d03", "tiny", "vllm"),
        (None, f"cmpl-{UUID}", "m", "unknown"),
        (None, f"chatcmpl-{UUID}", "m", "unknown"),
        (None, UUID, "models/tiny@main", "transformers"),
        (None, UUID, "llama3", None),
        (None, UUID, None, None),
        (None, "conv-1763856000123456789", "m", "text-generation-webui"),
        (None, "chatcmpl-1763856000123456789", "m", "text-generation-webui"),
        (None, "cmpl-1763856000123456789", "m", "text-generation-webui"),
        (None, "cmpl-176385600012345678", "m", None),
        (None, "cmpl-1", "m", None),
        (None, None, None, None),
        ("", "", "", None),
    ],
)
def test_by_chunk(
    fingerprint: str | None, completion_id: str | None, model: str | None, name: str | None
) -> None:
    """The fingerprint where there is one; else the form of the id, which alone may not do."""
    assert _name(by_chunk(fingerprint, completion_id, model)) == name


def test_an_id_that_several_servers_have_does_not_name_one() -> None:
    """Dynamo and llama-cpp-python have the same ids; the Server header distinguishes them, and both
    end every whole answer with a finish_reason."""
    dynamo = by_chunk(None, f"chatcmpl-{UUID}", "m", None)
    assert dynamo is not None
    assert (dynamo.engine, dynamo.always_finishes) == ("openai-compatible", True)
    assert _name(by_chunk(None, f"chatcmpl-{UUID}", "m", "uvicorn")) == "llama-cpp-python"


@pytest.mark.parametrize(
    ("dialect", "fingerprint", "version"),
    [
        ("vllm", "vllm-0.32.0-227ce6a1", "0.32.0"),
        ("vllm", "vllm-0.32.1rc1.dev12+gabc-tp2-dp4-227ce6a1", "0.32.1rc1.dev12+gabc"),
        ("vllm", "vllm-0.32.0", "0.32.0"),
        ("vllm", "something else", None),
        ("llama-server", "b5000-abc", "b5000-abc"),
        ("openai", "fp_44709d", "fp_44709d"),
        ("azure", "fp_44709d", "fp_44709d"),
        ("ollama", "fp_ollama", None),
        ("unknown", "anything", "anything"),
        ("unknown", "", None),
        ("unknown", None, None),
    ],
)
def test_the_version_in_a_fingerprint(
    dialect: str, fingerprint: str | None, version: str | None
) -> None:
    """The same text as the version endpoint gives, so that it never depends on the source."""
    assert version_in(DIALECTS.get(dialect, UNKNOWN), fingerprint) == version


@pytest.mark.parametrize(
    ("owned_by", "name"),
    [
        ("vllm", "vllm"),
        ("llamacpp", "llama-server"),
        ("me", "llama-cpp-python"),
        ("library", "ollama"),
        ("openai", None),
        ("", None),
        (None, None),
    ],
)
def test_by_owner(owned_by: str | None, name: str | None) -> None:
    """The model list's entries identify the server."""
    assert _name(by_owner(owned_by)) == name


@pytest.mark.parametrize("recording", STREAMS)
def test_recorded_streams_give_their_servers_away(recording: str) -> None:
    """Headers or the first chunk identify the server before Started is yielded."""
    _, headers, body = recorded(recording)
    first = SSEDecoder().feed(body)[0]
    answer = AnswerReader()
    answer.read(first, [])
    facts = answer.facts
    by_first = by_chunk(facts.fingerprint, facts.completion_id, facts.model, headers.get("server"))
    found = by_headers(headers) or by_first
    assert _name(found) == recording.split("/")[0].removesuffix("-serve")


@pytest.mark.parametrize("server", ["vllm", "llama-server", "llama-cpp-python"])
def test_recorded_model_lists_give_their_servers_away(server: str) -> None:
    """transformers lists nothing, LiteLLM says "openai" of all."""
    _, _, body = recorded(f"{server}/a_get_v1_models.txt")
    entry: dict[str, Any] = json.loads(body)["data"][0]
    assert _name(by_owner(entry["owned_by"])) == server
