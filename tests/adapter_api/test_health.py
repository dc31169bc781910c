"""HealthStatus has a state and the views `live` and `ready` of it (ORCH-3057)."""

import attrs
import pytest

from adapter_api import EngineProps, HealthState, HealthStatus


@pytest.mark.parametrize(
    ("state", "works"),
    [
        (HealthState.HEALTHY, True),
        (HealthState.DEGRADED, True),
        (HealthState.UNHEALTHY, False),
        ("healthy", True),
        ("degraded", True),
        ("unhealthy", False),
    ],
)
def test_the_views_follow_the_state(state: HealthState, works: bool) -> None:
    """ORCH-3057: whatever is not unhealthy is live and ready; a state may be given by its name."""
    status = HealthStatus(state)
    assert status.state is HealthState(state)
    assert (status.live, status.ready) == (works, works)
    assert (status.message, status.latency_ms, status.model_listed) == ("", None, None)


def test_an_adapter_may_say_otherwise() -> None:
    """A loading engine is live and not ready; a busy one is degraded and not ready either."""
    loading = HealthStatus(HealthState.UNHEALTHY, "loading", live=True)
    assert (loading.live, loading.ready) == (True, False)
    busy = HealthStatus(HealthState.DEGRADED, "busy", ready=False, latency_ms=1.5)
    assert (busy.live, busy.ready, busy.latency_ms) == (True, False, 1.5)


def test_another_state_is_refused() -> None:
    """There are three states."""
    assert [str(state) for state in HealthState] == ["healthy", "degraded", "unhealthy"]
    with pytest.raises(ValueError, match="'fine' is not a valid HealthState"):
        HealthStatus("fine")


def test_health_is_a_value() -> None:
    """Equal by content, and immutable."""
    status = HealthStatus(HealthState.HEALTHY, "ok")
    assert status == HealthStatus("healthy", "ok")
    with pytest.raises(AttributeError):
        status.message = "changed"  # type: ignore[misc]


def test_unknown_props_are_none_or_empty() -> None:
    """ORCH-3603: an engine that reports nothing still has props, with its own mappings."""
    props = EngineProps()
    assert props == EngineProps("unknown", None, (), None, None, None, None, {}, {})
    assert props.features is not EngineProps().features
    assert attrs.evolve(props, slots_free=0).slots_free == 0
