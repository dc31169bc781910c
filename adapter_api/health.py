"""The state of an engine (ORCH-3057) and what it can do (ORCH-3603)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs


class HealthState(StrEnum):
    """The engine's state in one word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


def _to_state(value: HealthState | str) -> HealthState:
    # Passing the enum itself as the converter misleads type checkers: it is also a factory.
    return HealthState(value)


def _is_up(status: "HealthStatus") -> bool:
    return status.state is not HealthState.UNHEALTHY


@attrs.frozen
class HealthStatus:
    """The result of a health check.

    Args:
        state: healthy, degraded (works, but is busy or in doubt) or unhealthy.
        message: One sentence for a person.
        live: The process answers. By default, true unless it is unhealthy.
        ready: It accepts work now. By default, true unless it is unhealthy. A loading engine is
            live and not ready.
        latency_ms: How long the check took.
        model_listed: Whether the engine lists the configured model; None if unknown.
    """

    state: HealthState = attrs.field(converter=_to_state)
    message: str = ""
    live: bool = attrs.field(default=attrs.Factory(_is_up, takes_self=True))
    ready: bool = attrs.field(default=attrs.Factory(_is_up, takes_self=True))
    latency_ms: float | None = None
    model_listed: bool | None = None


@attrs.frozen
class EngineProps:
    """The known facts about an engine; None or empty where unknown.

    Args:
        engine: The kind of engine.
        engine_version: Its version.
        models: The names of the models it serves.
        context_length: Tokens that prompt and answer may have together.
        slots_total: How many jobs it runs at the same time.
        slots_free: How many of its slots are idle now.
        model_digest: A digest of the model's weights.
        dropped_fields: Per model, the request fields that the engine refused and the adapter leaves
            out.
        features: Other facts that the adapter knows, by name.
    """

    engine: str = "unknown"
    engine_version: str | None = None
    models: tuple[str, ...] = ()
    context_length: int | None = None
    slots_total: int | None = None
    slots_free: int | None = None
    model_digest: str | None = None
    dropped_fields: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    features: Mapping[str, Any] = attrs.field(factory=dict)
