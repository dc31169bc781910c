"""Differences between servers, as data. A new server is one entry here and nowhere else."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

ReasoningStyle = Literal[
    "as_it_came", "none", "reasoning", "reasoning_content", "both", "with_calls", "parts"
]
"""How reasoning of earlier answers is sent back: not at all, under one name or both, under
`reasoning_content` only beside calls, or as parts of the content."""


class Dialect(NamedTuple):
    """The traits of one kind of server.

    Args:
        name: Its name for `dialect=`.
        engine: Its name in Started.engine.
        health_path: Its health endpoint, below the server's root. It must be free of cost.
        version_path: Its version endpoint, with the key of the answer that holds the version.
        slots_path: Its list of slots.
        stop_path: The endpoint that stops generation, of a server that keeps generating when its
            client has gone.
        always_finishes: It never ends a whole answer without a finish_reason, so `[DONE]` alone
            proves nothing.
        error_text: It reports failures as text that begins with this, in place of the answer.
        reasoning: The form in which it accepts the reasoning of earlier answers.
        empty_content: The content that it requires with calls that have no text; None for null.
        short_call_ids: It accepts only ids of nine alphanumerics.
        message_keys: The only keys of a message that it accepts; None for any.
        hosts: Host names, or endings of them, that are always this server.
        headers: Response headers, in lower case, that identify it, with a pattern of the value.
        version_header: The response header that holds its version.
        fingerprint: A pattern of its `system_fingerprint`. Its group "version" is the engine's
            version, as the version endpoint reports it.
        model_is_version: Its model names are dated, so one is the version if no better is known.
        owned_by: The owner in its model list.
        completion_id: A pattern of the ids of its completions.
        model: A pattern of the model names in its completions, if the id is not enough.
        server: A pattern of its Server header, if the id is not enough.
    """

    name: str
    engine: str
    health_path: str | None = None
    version_path: tuple[str, str] | None = None
    slots_path: str | None = None
    stop_path: str | None = None
    always_finishes: bool = False
    error_text: str | None = None
    reasoning: ReasoningStyle = "as_it_came"
    empty_content: str | None = None
    short_call_ids: bool = False
    message_keys: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    headers: Mapping[str, str] = MappingProxyType({})
    version_header: str | None = None
    fingerprint: str | None = None
    model_is_version: bool = False
    owned_by: str | None = None
    completion_id: str | None = None
    model: str | None = None
    server: str | None = None


UNKNOWN = Dialect(name="unknown", engine="openai-compatible", model_is_version=True)
"""Safe defaults for a server that nothing has identified yet."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"

UNKNOWN_FINISHING = UNKNOWN._replace(always_finishes=True, completion_id=rf"(chat)?cmpl-{_UUID}")
"""A server with such ids: llama-cpp-python, Dynamo, or another. All of them end a whole answer with
a finish_reason, so `[DONE]` alone does not prove one."""

READINESS_PATHS = (
    *("/readiness", "/readyz", "/health/readiness", "/ready", "/health/ready"),
    *("/v1/health/ready", "/v2/health/ready"),
)
"""Where routers and gateways report whether they can serve: sglang-router, LocalAI and others in
Kubernetes' words, LiteLLM, NVIDIA's NIM and Triton. All are free; /health is not: LiteLLM runs a
completion for each model."""

_ALL = (
    Dialect(
        name="openai",
        engine="openai",
        always_finishes=True,
        reasoning="none",
        hosts=("api.openai.com",),
        headers={"openai-version": ".", "openai-organization": "."},
        fingerprint=r"(?P<version>fp_\w+)",
        model_is_version=True,
    ),
    Dialect(
        name="azure",
        engine="azure-openai",
        always_finishes=True,
        reasoning="none",
        hosts=(
            ".openai.azure.com",
            ".openai.azure.us",
            ".cognitiveservices.azure.com",
            ".services.ai.azure.com",
        ),
        headers={"x-ms-region": ".", "apim-request-id": "."},
        model_is_version=True,
    ),
    Dialect(
        name="vllm",
        engine="vllm",
        health_path="/health",
        version_path=("/version", "version"),
        always_finishes=True,
        reasoning="reasoning",
        fingerprint=r"vllm-(?P<version>\S+?)(-(tp|pp|dp|ep)\d\S*)?(-[0-9a-f]{8})?",
        # The fingerprint comes with the last chunk; ids were longer in older versions.
        completion_id=r"(chat)?cmpl-([0-9a-f]{16}|[0-9a-f]{32})",
        owned_by="vllm",
    ),
    Dialect(
        name="llama-server",
        engine="llama.cpp",
        health_path="/health",
        version_path=("/props", "build_info"),
        slots_path="/slots",
        always_finishes=True,
        reasoning="reasoning_content",
        headers={"server": r"llama\.cpp"},
        fingerprint=r"(?P<version>b\d+-\w+)",
        owned_by="llamacpp",
    ),
    Dialect(
        name="llama-cpp-python",
        engine="llama-cpp-python",
        # A second request interrupts the first one with [DONE] and no finish_reason.
        always_finishes=True,
        owned_by="me",
        completion_id=rf"(chat)?cmpl-{_UUID}",
        server="uvicorn",  # Dynamo has such ids, too, and no Server header
    ),
    Dialect(
        name="transformers",
        engine="transformers",
        health_path="/health",
        always_finishes=True,
        # LocalAI and others have such ids, too; only this server adds a revision to the model.
        completion_id=_UUID,
        model=r".+@.+",
    ),
    Dialect(
        name="text-generation-webui",
        engine="text-generation-webui",
        health_path="/v1/internal/health",
        always_finishes=True,
        reasoning="reasoning_content",
        completion_id=r"(conv|chatcmpl|cmpl)-\d{19}",
        stop_path="/v1/internal/stop-generation",
    ),
    Dialect(
        name="litellm",
        engine="litellm",
        health_path="/health/readiness",
        headers={"x-litellm-version": ".", "x-litellm-call-id": "."},
        version_header="x-litellm-version",
    ),
    Dialect(
        name="ollama",
        engine="ollama",
        health_path="/",
        version_path=("/api/version", "version"),
        always_finishes=True,
        reasoning="reasoning",
        fingerprint=r"fp_ollama",
        owned_by="library",
    ),
    Dialect(
        name="localai",
        engine="localai",
        health_path="/readyz",
        version_path=("/version", "version"),
        error_text="Internal error: ",
        reasoning="both",
    ),
    Dialect(
        name="sglang",
        engine="sglang",
        health_path="/health",
        version_path=("/get_server_info", "version"),
        always_finishes=True,
        reasoning="reasoning_content",
        owned_by="sglang",
    ),
    Dialect(
        name="dynamo",
        engine="dynamo",
        health_path="/health",
        owned_by="nvidia",
    ),
    Dialect(
        name="lm-studio",
        engine="lm-studio",
        empty_content="",  # its builds of 2024 refuse null (lmstudio#261)
        owned_by="organization_owner",
    ),
    Dialect(
        name="deepseek",
        engine="deepseek",
        always_finishes=True,
        reasoning="with_calls",
        hosts=("api.deepseek.com",),
    ),
    Dialect(
        name="mistral",
        engine="mistral",
        always_finishes=True,
        reasoning="parts",
        short_call_ids=True,
        message_keys=frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "prefix"}),
        hosts=("api.mistral.ai",),
    ),
    Dialect(
        name="openrouter",
        engine="openrouter",
        hosts=("openrouter.ai",),
    ),
    Dialect(
        name="groq",
        engine="groq",
        always_finishes=True,
        hosts=("api.groq.com",),
    ),
)

# A proxy passes on the headers of its upstream.
_PROXIES_FIRST = tuple(
    sorted((d for d in _ALL if d.headers), key=lambda dialect: dialect.version_header is None)
)
_TELLING_HEADERS = frozenset(name for dialect in _PROXIES_FIRST for name in dialect.headers)

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in _ALL}


def by_host(host: str) -> Dialect | None:
    """Return the dialect that a host name identifies."""
    for dialect in _ALL:
        if any(host == name or (name[0] == "." and host.endswith(name)) for name in dialect.hosts):
            return dialect
    return None


def by_headers(headers: Mapping[str, str]) -> Dialect | None:
    """Return the dialect that an answer's headers identify."""
    if _TELLING_HEADERS.isdisjoint(headers):
        return None
    for dialect in _PROXIES_FIRST:
        for name, pattern in dialect.headers.items():
            value = headers.get(name)
            if value is not None and re.match(pattern, value):
                return dialect
    return None


def by_chunk(
    fingerprint: str | None,
    completion_id: str | None,
    model: str | None,
    server: str | None = None,
) -> Dialect | None:
    """Return the dialect that the first chunk of an answer identifies.

    Args:
        fingerprint: Its system_fingerprint.
        completion_id: Its id.
        model: Its model.
        server: The answer's Server header.
    """
    for dialect in reversed(_ALL):  # Ollama's fingerprint looks like OpenAI's, only longer
        if fingerprint and dialect.fingerprint and re.fullmatch(dialect.fingerprint, fingerprint):
            return dialect
    if fingerprint:
        return None
    for dialect in (*_ALL, UNKNOWN_FINISHING):
        if (
            dialect.completion_id
            and re.fullmatch(dialect.completion_id, completion_id or "")
            and re.fullmatch(dialect.model or ".*", model or "", re.DOTALL)
            and re.fullmatch(dialect.server or ".*", server or "", re.DOTALL)
        ):
            return dialect
    return None


def by_owner(owned_by: str | None) -> Dialect | None:
    """Return the dialect that the owner of a listed model identifies."""
    for dialect in _ALL:
        if owned_by and dialect.owned_by == owned_by:
            return dialect
    return None


def version_in(dialect: Dialect, fingerprint: str | None) -> str | None:
    """Return the engine's version in a `system_fingerprint`, None if it holds none.

    The fingerprint of an unknown server is its version; that of a known one may be a constant
    (Ollama), or hold more than the version (vLLM).
    """
    if not fingerprint or dialect.fingerprint is None:
        return fingerprint or None
    match = re.fullmatch(dialect.fingerprint, fingerprint)
    return match.groupdict().get("version") if match else None
