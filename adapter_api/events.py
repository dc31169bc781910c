"""What an adapter tells of a job: Started, Token*, MetricsFrame?, End or Error (ADAPT-3001)."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from adapter_api.errors import WorkerError

Proof = Literal["finish_reason", "done"]
UsageSource = Literal["engine", "counted"]


@attrs.frozen
class Metrics:
    """The numbers of one finished job.

    Args:
        tokens_generated: Tokens of the answer.
        prompt_tokens: Tokens of the prompt, None where the engine does not tell.
        time_to_first_token_ms: From submit to the first Token, None without one.
        decode_time_ms: From the first Token to the end.
        usage_source: "engine" if the engine counted the tokens; "counted" if tokens_generated
            is the number of Token events, which may differ from the engine's own count.
        attempts: How many requests the adapter sent for the job.
        ledger: What a host did with the job, step by step: mappings with `at_ms`, `kind`,
            `replica_id`, `reason`, `took_ms` and `detail`. Empty without a host.
    """

    tokens_generated: int
    prompt_tokens: int | None = None
    time_to_first_token_ms: float | None = None
    decode_time_ms: float = 0.0
    usage_source: UsageSource = "counted"
    attempts: int = 1
    ledger: tuple[Mapping[str, Any], ...] = ()


@attrs.frozen
class Started:
    """The engine accepted the job and began to answer.

    Args:
        job_id: The task's job_id.
        engine: The kind of engine ("vllm", "llama.cpp", "openai", ...).
        engine_version: The most exact version the engine told so far (OC-ADAPT-OAI 6010).
        model: The model that answers, in the engine's words.
        seed: The seed that was sent, None if none was.
        replica_id: Which replica answers, where the adapter knows.
    """

    job_id: str
    engine: str
    engine_version: str
    model: str | None = None
    seed: int | None = None
    replica_id: str | None = None


@attrs.frozen(weakref_slot=False)
class Token:
    """A piece of the answer's text, never empty. `index` counts 0, 1, 2, ... in the stream.

    A piece is what the engine sent at once: usually, not always, one token of the model.
    `logprob` is the natural logarithm of its probability where it was asked for.
    """

    text: str
    index: int
    logprob: float | None = None


@attrs.frozen
class MetricsFrame:
    """Numbers the engine tells on its own account; JSON-able, engine-specific keys."""

    data: Mapping[str, Any]


@attrs.frozen
class End:
    """The answer is whole.

    Args:
        metrics: The job's numbers.
        finish_reason: The engine's word ("stop", "length", ...), None if it gave none.
        proof: What proves that the answer is whole: "finish_reason", or "done" for a
            `[DONE]` after at least one choice.
    """

    metrics: Metrics
    finish_reason: str | None
    proof: Proof


@attrs.frozen
class Error:
    """The job failed after it had started; what was delivered is not a whole answer."""

    error: WorkerError


TokenEvent = Started | Token | MetricsFrame | End | Error
