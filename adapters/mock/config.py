"""The script of a mock adapter."""

import attrs

from adapter_api import ErrorCode, HealthState
from adapter_api.validators import integer, number, one_of

WORDS = ("Once", " upon", " a", " time", " there", " was", " a", " test", ".")


_limit = number(0, unit="seconds", optional=True)


def _to_texts(value: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, str):  # it is a sequence of strings, too, but hardly meant so
        raise ValueError(f"tokens must be a list of non-empty strings, got {value!r}")
    return tuple(value)


def _texts(_: object, __: object, value: tuple[str, ...]) -> None:
    if not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"tokens must be a list of non-empty strings, got {list(value)!r}")


@attrs.frozen
class MockConfig:
    """What the adapter plays. The same config and task give the same events."""

    tokens: tuple[str, ...] = attrs.field(
        default=WORDS,
        converter=_to_texts,
        validator=_texts,
        metadata={"help": "The texts of the tokens, in order"},
    )
    delay_s: float = attrs.field(
        default=0.0, validator=number(0), metadata={"help": "Seconds before each token"}
    )
    echo: bool = attrs.field(
        default=False, metadata={"help": "Answer with the words of the prompt instead of tokens"}
    )
    finish_reason: str = attrs.field(default="stop", metadata={"help": "How the answer ends"})
    engine_version: str = attrs.field(default="1.0", metadata={"help": "The version it tells"})
    model: str = attrs.field(
        default="mock", metadata={"help": "The model of jobs whose task names none"}
    )
    health: HealthState = attrs.field(
        default=HealthState.HEALTHY,
        converter=HealthState,
        metadata={"help": "healthy, degraded or unhealthy"},
    )
    live: bool | None = attrs.field(default=None, metadata={"help": "live, if not as health says"})
    ready: bool | None = attrs.field(
        default=None, metadata={"help": "ready, if not as health says"}
    )
    error_code: str | None = attrs.field(
        default=None,
        validator=one_of(*ErrorCode, optional=True),
        metadata={"help": "The error every job ends with"},
    )
    error_after: int = attrs.field(
        default=0,
        validator=integer(0),
        metadata={"help": "Tokens before the error; 0: it comes before Started"},
    )
    retry_after_ms: int | None = attrs.field(
        default=None,
        validator=integer(0, optional=True),
        metadata={"help": "What the error asks to wait"},
    )
    stall_after: int | None = attrs.field(
        default=None,
        validator=integer(0, optional=True),
        metadata={"help": "Tokens after which nothing comes any more"},
    )
    first_token_timeout_s: float | None = attrs.field(
        default=30.0,
        validator=number(0, unit="seconds", optional=True),
        metadata={"help": "Limit for the first token"},
    )
    stall_timeout_s: float | None = attrs.field(
        default=30.0,
        validator=number(0, unit="seconds", optional=True),
        metadata={"help": "Limit between two tokens"},
    )
    replica_id: str | None = attrs.field(default=None, metadata={"help": "The replica's name"})
