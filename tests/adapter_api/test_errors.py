"""The taxonomy (ORCH-3058, ADAPT-3002)."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from hypothesis import given

import adapter_api.errors
from adapter_api import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    AuthenticationFailed,
    Cancelled,
    CapacityExceeded,
    ConfigError,
    ContentFiltered,
    ContractError,
    EgressDenied,
    EngineUnavailable,
    ErrorCode,
    InternalError,
    InvalidRequest,
    JsonError,
    NotFound,
    Problem,
    RegistryError,
    StreamingError,
    WorkerAdaptersError,
    WorkerError,
    WorkerReset,
    WorkerTimeout,
)
from tests.strategies import errors

CODES: dict[type[WorkerError], set[str]] = {
    InvalidRequest: {"INVALID_PARAMS", "CONTEXT_OVERFLOW"},
    AuthenticationFailed: {"UPSTREAM_AUTH"},
    NotFound: {"UPSTREAM_NOT_FOUND"},
    CapacityExceeded: {"ADMISSION_REJECT", "QUOTA_EXHAUSTED", "LOCAL_SATURATED"},
    EngineUnavailable: {"POOL_UNAVAILABLE", "CIRCUIT_OPEN"},
    WorkerReset: {"WORKER_RESET"},
    WorkerTimeout: {"DECODE_TIMEOUT", "DEADLINE_UNMET"},
    StreamingError: {"STREAM_TRUNCATED", "UPSTREAM_PROTOCOL"},
    ContentFiltered: {"CONTENT_FILTER"},
    Cancelled: {"CANCELLED"},
    EgressDenied: {"EGRESS_DENIED"},
    InternalError: {"INTERNAL"},
}

RETRIABLE = {
    "ADMISSION_REJECT",
    "LOCAL_SATURATED",
    "POOL_UNAVAILABLE",
    "CIRCUIT_OPEN",
    "WORKER_RESET",
    "DECODE_TIMEOUT",
    "STREAM_TRUNCATED",
}


def test_every_code_has_one_class() -> None:
    """HTU-ERR-4002: the classes divide the codes among them; each code's name is its text."""
    assert set(WorkerError.__subclasses__()) == set(CODES)
    assert sorted(code for codes in CODES.values() for code in codes) == sorted(ErrorCode)
    for cls, codes in CODES.items():
        assert cls.codes == codes
        assert all(type(WorkerError.of(code, "x")) is cls for code in codes)
    assert all(code.name == code.value == str(code) for code in ErrorCode)


@pytest.mark.parametrize("cls", CODES, ids=lambda cls: cls.__name__)
def test_no_class_takes_a_foreign_code(cls: type[WorkerError]) -> None:
    """Own codes are taken, as members and as texts; others are refused, with those it has."""
    for code in ErrorCode:
        if code in CODES[cls]:
            assert cls(code, "x").code is cls(str(code), "x").code is code
        else:
            with pytest.raises(ValueError, match=f"{cls.__name__} has no code {code}; it has "):
                cls(code, "x")
    with pytest.raises(ValueError, match="'NO' is not a valid ErrorCode"):
        cls("NO", "x")


def test_one_except_catches_them_all() -> None:
    """One root has two branches; the matching built-in exception catches an error, too."""
    assert issubclass(WorkerError, WorkerAdaptersError)
    assert issubclass(RegistryError, WorkerAdaptersError)
    assert not issubclass(RegistryError, WorkerError)
    assert not issubclass(WorkerError, RegistryError)
    built_in = {
        InvalidRequest: ValueError,
        NotFound: LookupError,
        EngineUnavailable: ConnectionError,
        WorkerReset: ConnectionError,
        WorkerTimeout: TimeoutError,
        AdapterNotFound: LookupError,
        AmbiguousAdapter: LookupError,
        ConfigError: ValueError,
        JsonError: ValueError,
    }
    assert all(issubclass(cls, base) for cls, base in built_in.items())


@pytest.mark.parametrize("code", ErrorCode)
def test_retriable_follows_the_code_unless_said(code: ErrorCode) -> None:
    """AH-1005: the code decides, an adapter may say otherwise."""
    assert WorkerError.of(code, "x").retriable is (code in RETRIABLE)
    assert WorkerError.of(code, "x", retriable=True).retriable is True
    assert WorkerError.of(code, "x", retriable=False).retriable is False


def test_an_error_shows_its_facts() -> None:
    """Data in attributes, one line as text; what is not known is None."""
    error = WorkerError.of("ADMISSION_REJECT", "busy")
    assert error.fields() == {
        "code": ErrorCode.ADMISSION_REJECT,
        "message": "busy",
        "retriable": True,
        "retry_after_ms": None,
        "status": None,
        "request_id": None,
        "job_id": None,
        "tokens_emitted": 0,
        "field": None,
    }
    assert str(error) == "ADMISSION_REJECT: busy"
    assert repr(error) == "CapacityExceeded('ADMISSION_REJECT', 'busy')"
    assert WorkerError(**error.fields()).fields() == error.fields()


@pytest.mark.parametrize("code", ErrorCode)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(code: ErrorCode, protocol: int) -> None:
    """Class, every field, text and repr come back, with any protocol and from a copy."""
    error = WorkerError.of(
        code, "why", retry_after_ms=5, status=503, request_id="r", job_id="j", tokens_emitted=3
    )
    for back in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(back) is type(error)
        assert back.fields() == error.fields()
        assert (str(back), repr(back), back.args) == (str(error), repr(error), error.args)


@given(errors)
def test_any_error_survives_pickling(error: WorkerError) -> None:
    """Whatever the message and the numbers are."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert back.fields() == error.fields()


def test_notes_survive_pickling_too() -> None:
    """`add_note` and attributes of an application's own do not keep an error from travelling."""
    error = WorkerError.of("WORKER_RESET", "why")
    error.add_note("while serving job 7")
    error.attempt = 2  # type: ignore[attr-defined]
    back = pickle.loads(pickle.dumps(error))
    assert back.__notes__ == ["while serving job 7"]
    assert back.attempt == 2
    assert back.fields() == error.fields()


class _Special(WorkerReset):
    """A third party's error with a constructor of its own."""

    def __init__(self, gpu: int) -> None:
        super().__init__(ErrorCode.WORKER_RESET, f"GPU {gpu} fell off the bus")
        self.gpu = gpu


def test_a_third_partys_error_survives_pickling() -> None:
    """A subclass inherits its base's codes and may be built in another way."""
    back = pickle.loads(pickle.dumps(_Special(3)))
    assert (type(back), back.gpu, str(back)) == (
        _Special,
        3,
        "WORKER_RESET: GPU 3 fell off the bus",
    )


def _fail() -> None:
    raise WorkerError.of("QUOTA_EXHAUSTED", "pay first", retry_after_ms=9)


def test_an_error_travels_between_processes() -> None:
    """Raised in another process, caught in this one."""
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(CapacityExceeded) as caught,
    ):
        pool.submit(_fail).result(timeout=60)
    assert caught.value.retry_after_ms == 9


# The registry's errors

REGISTRY_ERRORS: list[tuple[RegistryError, list[str]]] = [
    (
        AdapterNotFound("opena", ["mock", "openai-http"], "openai-http"),
        ["did you mean 'openai-http'?", "installed: mock, openai-http", "registry.refresh()"],
    ),
    (AdapterNotFound("x", [], None), ["installed: none"]),
    (AdapterNotFound("mock", [], None, blocked=True), ["is blocked", "WORKER_ADAPTERS_BLOCKED"]),
    (
        AmbiguousAdapter("echo", ["acme", "rival"]),
        ["acme and rival", "registry.get('acme:echo')", "uninstall the other"],
    ),
    (
        AdapterLoadError("echo", "acme", "1.0", "acme:Echo", "no module named x"),
        ["acme:Echo", "acme 1.0", "no module named x"],
    ),
    (
        ContractError("echo", "acme:Echo", ["no submit", "no health"]),
        ["'echo' (acme:Echo)", "\n  - no submit\n  - no health"],
    ),
    (ContractError("echo", "acme:Echo", ["x"], "acme", "1.0"), ["(acme:Echo, from acme 1.0)"]),
    (
        ContractError("observers", "Printer", ["x"], kind="observers"),
        ["observers: Printer does not fulfil"],
    ),
    (ConfigError.single("echo", "wrong", "$.a"), ["configuration of 'echo': $.a: wrong"]),
    (
        ConfigError("echo", iter([Problem("$.a", "wrong"), Problem("$.b", "wrong")])),
        ["configuration of 'echo':\n  - $.a: wrong\n  - $.b: wrong"],
    ),
]


@pytest.mark.parametrize(("error", "says"), REGISTRY_ERRORS)
def test_registry_errors_say_what_to_do(error: RegistryError, says: list[str]) -> None:
    """Each message names the thing and the remedy."""
    assert all(part in str(error) for part in [error.name, *says])


@pytest.mark.parametrize("error", [error for error, _ in REGISTRY_ERRORS])
def test_registry_errors_survive_pickling(error: RegistryError) -> None:
    """Type, data, text and repr come back, notes included."""
    error = copy.copy(error)
    error.add_note("n")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert vars(back) == vars(error)
    assert (str(back), repr(back), back.args) == (str(error), repr(error), error.args)


def test_every_error_is_in_the_tree_of_the_documentation() -> None:
    """The module's docstring draws the whole tree."""
    drawn = adapter_api.errors.__doc__ or ""
    tree = [WorkerAdaptersError, *WorkerAdaptersError.__subclasses__(), *CODES]
    tree += RegistryError.__subclasses__()
    own = [cls.__name__ for cls in tree if cls.__module__.startswith("adapter_api.")]
    assert [name for name in own if name not in drawn] == []
    assert set(RegistryError.__subclasses__()) == {
        AdapterNotFound,
        AmbiguousAdapter,
        AdapterLoadError,
        ContractError,
        ConfigError,
    }
