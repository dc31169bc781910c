"""The metrics of one job: names, units and buckets of the conventions for generative AI.

The conventions left open-telemetry/semantic-conventions after version 1.41 for a repository of
their own, semantic-conventions-genai, whose version 0.1 renames the metrics.
"""

from collections.abc import Callable
from typing import Any, Literal

from opentelemetry import metrics
from opentelemetry.metrics import Histogram, Meter, MeterProvider

from adapter_api.notices import JobNotice
from adapter_api.version import __version__

SCOPE = "worker_adapters"

Conventions = Literal["1.41", "genai-0.1"]

Attributes = dict[str, Any]

_SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_TOKENS = tuple(4**power for power in range(14))

_PREFIXES = {"1.41": "gen_ai.client.operation", "genai-0.1": "gen_ai.client.inference"}

_PROVIDERS = {"azure-openai": "azure.ai.openai", "mistral": "mistral_ai"}
"""Engines that the conventions call by another name; others keep their own."""


def provider_of(engine: str) -> str:
    """Return the value of `gen_ai.provider.name` for an engine."""
    return _PROVIDERS.get(engine, engine)


class Instruments:
    """The histograms and counters that are recorded once per job.

    Args:
        provider: Makes them; None for the application's global one.
        conventions: The version of the conventions that names them.
    """

    def __init__(self, provider: MeterProvider | None, conventions: Conventions) -> None:
        meter = metrics.get_meter(SCOPE, __version__, provider)
        prefix = prefix_of(conventions)
        self.duration = _times(meter, f"{prefix}.duration", "GenAI operation duration.")
        self.first_chunk = _times(
            meter, f"{prefix}.time_to_first_chunk", "Time to receive the first chunk."
        )
        self.record_tokens = _usage(meter) if conventions == "1.41" else _genai_usage(meter)


def chunk_times(provider: MeterProvider | None, conventions: Conventions) -> Histogram:
    """Return the histogram of the times between tokens."""
    return _times(
        metrics.get_meter(SCOPE, __version__, provider),
        f"{prefix_of(conventions)}.time_per_output_chunk",
        "Time per output chunk, recorded for each chunk after the first one.",
    )


def prefix_of(conventions: Conventions) -> str:
    """Return the prefix of the names of metrics.

    Raises:
        ValueError: If the version is unknown.
    """
    if conventions not in _PREFIXES:
        known = " or ".join(map(repr, _PREFIXES))
        raise ValueError(f"conventions must be {known}, got {conventions!r}")
    return _PREFIXES[conventions]


def _times(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(
        name, "s", description, explicit_bucket_boundaries_advisory=_SECONDS
    )


def _usage(meter: Meter) -> Callable[[JobNotice, Attributes], None]:
    record = meter.create_histogram(
        "gen_ai.client.token.usage",
        "{token}",
        "Number of input and output tokens used.",
        explicit_bucket_boundaries_advisory=_TOKENS,
    ).record

    def usage(job: JobNotice, shared: Attributes) -> None:
        record(job.tokens_out, {**shared, "gen_ai.token.type": "output"})
        if job.tokens_in is not None:
            record(job.tokens_in, {**shared, "gen_ai.token.type": "input"})

    return usage


def _genai_usage(meter: Meter) -> Callable[[JobNotice, Attributes], None]:
    prefix = _PREFIXES["genai-0.1"]
    sums = {
        name: meter.create_counter(f"{prefix}.usage.{name}", "{token}", description).add
        for name, description in (
            ("input_tokens", "The number of input (prompt) tokens used."),
            ("output_tokens", "The number of output (completion) tokens used."),
            ("cache_read.input_tokens", "The number of input tokens served from a cache."),
            ("reasoning.output_tokens", "The number of output tokens used for reasoning."),
        )
    }
    each = {
        name: meter.create_histogram(
            f"{prefix}.operation.{name}",
            "{token}",
            "The number of tokens used per inference operation.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        ).record
        for name in ("input_tokens", "output_tokens")
    }

    def usage(job: JobNotice, shared: Attributes) -> None:
        # Engines do not report which tokens are of text, and which of an image.
        counted = {**shared, "gen_ai.token.modality": "unknown"}
        for name, tokens in (
            ("input_tokens", job.tokens_in),
            ("output_tokens", job.tokens_out),
            ("cache_read.input_tokens", job.cached_tokens),
            ("reasoning.output_tokens", job.reasoning_tokens),
        ):
            if tokens is not None:
                sums[name](tokens, counted)
                if name in each:
                    each[name](tokens, shared)

    return usage
