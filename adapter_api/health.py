"""How an engine is (ORCH-3057) and what it can do (ORCH-3603)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs


class HealthState(StrEnum):
    """The engine's state in one word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@attrs.frozen
class HealthStatus:
    """The answer to a health check.

    Args:
        state: healthy, degraded (works, but busy or with a doubt) or unhealthy.
        message: One sentence for a person.
        live: The process answers. By default: whatever is not unhealthy.
        ready: It accepts work now. By default: whatever is not unhealthy. A loading engine is
            live and not ready.
        latency_ms: How long the check took.
        model_listed: Whether the configured model is among the engine's; None if unknown.
    """

    state: HealthState = attrs.field(converter=HealthState)
    message: str = ""
    live: bool = attrs.field()
    ready: bool = attrs.field()
    latency_ms: float | None = None
    model_listed: bool | None = None

    @live.default
    def _live(self) -> bool:
        return self.state is not HealthState.UNHEALTHY

    @ready.default
    def _ready(self) -> bool:
        return self.state is not HealthState.UNHEALTHY


@attrs.frozen
class EngineProps:
    """What is known of an engine; None or empty where it does not tell.

    Args:
        engine: The kind of engine.
        engine_version: Its version.
        models: The names of the models it serves.
        context_length: Tokens that prompt and answer may have together.
        slots_total: How many jobs it runs at the same time.
        slots_free: How many of them are idle now.
        model_digest: A digest of the model's weights.
        dropped_fields: Per model, the request fields the engine refused and the adapter leaves out.
        features: Anything else the adapter knows, by name.
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
