"""The taxonomy (ORCH-3058)."""

import pickle

import pytest

from adapter_api import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    ConfigError,
    ContractError,
    ErrorCode,
    InternalError,
    InvalidRequest,
    RegistryError,
    WorkerError,
    WorkerReset,
)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_one_class_and_survives_pickling(code: ErrorCode) -> None:
    """WorkerError.of finds the class; all fields come back from a pickle."""
    error = WorkerError.of(
        code, "why", retry_after_ms=5, status=503, request_id="r", job_id="j", tokens_emitted=3
    )
    assert type(error) is not WorkerError
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert back.fields() == error.fields()
    assert str(back) == f"{code}: why"


def test_a_class_refuses_a_foreign_code() -> None:
    """A WorkerReset cannot be made with INVALID_PARAMS."""
    with pytest.raises(ValueError, match="WorkerReset has no code INVALID_PARAMS"):
        WorkerReset(ErrorCode.INVALID_PARAMS, "x")


def test_retriable_follows_the_code_unless_said() -> None:
    """AH-1005: the code decides, an adapter may say otherwise."""
    assert WorkerError.of("WORKER_RESET", "x").retriable
    assert not WorkerError.of("DEADLINE_UNMET", "x").retriable
    assert not WorkerError.of("WORKER_RESET", "x", retriable=False).retriable


def test_invalid_request_is_a_value_error() -> None:
    """Whoever guards TaskRequest with `except ValueError` is right too."""
    assert issubclass(InvalidRequest, ValueError)
    assert "INTERNAL" in repr(InternalError("INTERNAL", "x"))


REGISTRY_ERRORS = [
    AdapterNotFound("opena", ["mock", "openai-http"], "openai-http"),
    AdapterNotFound("mock", [], None, blocked=True),
    AmbiguousAdapter("echo", ["acme", "rival"]),
    AdapterLoadError("echo", "acme", "1.0", "acme:Echo", "no module named x"),
    ContractError("echo", "acme:Echo", ["no submit", "no health"]),
    ConfigError("echo", ["$.a: wrong"]),
    ConfigError("echo", ["$.a: wrong", "$.b: wrong"]),
]


@pytest.mark.parametrize("error", REGISTRY_ERRORS, ids=lambda e: type(e).__name__)
def test_registry_errors_survive_pickling(error: RegistryError) -> None:
    """Type, data and text come back."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert str(back) == str(error)


def test_registry_errors_say_what_to_do() -> None:
    """Each message names the thing and the remedy."""
    texts = [str(error) for error in REGISTRY_ERRORS]
    assert "did you mean 'openai-http'?" in texts[0]
    assert "WORKER_ADAPTERS_BLOCKED" in texts[1]
    assert "registry.get('acme:echo')" in texts[2]
    assert "acme 1.0" in texts[3]
    assert "\n  - no submit\n  - no health" in texts[4]
    assert texts[5] == "configuration of 'echo': $.a: wrong"
    assert texts[6].count("\n") == 2
