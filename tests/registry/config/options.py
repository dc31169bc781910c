"""Config classes for the tests of options."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal

import attrs

from adapter_api import ErrorCode, InvalidRequest


class Mode(Enum):
    """How to run."""

    FAST = "fast"
    SLOW = "slow"


@attrs.frozen
class Retry:
    """A nested config."""

    attempts: int = attrs.field(default=4, validator=attrs.validators.ge(1))
    key: str = attrs.field(default="", metadata={"secret": True})


def not_negative(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if value < 0:
        raise InvalidRequest(
            ErrorCode.INVALID_PARAMS, f"timeout_s must not be below 0, got {value}"
        )


def long_enough(instance: object, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, str) and len(value) < 4:
        raise ValueError(f"{value!r} is too short")


@attrs.frozen
class Config:
    """Options of many kinds."""

    base_url: str = attrs.field(metadata={"env": "MADE_URL", "help": "Where the engine is."})
    api_key: str | Callable[[], str] | None = attrs.field(
        default=None, validator=long_enough, metadata={"env": "MADE_KEY", "secret": True}
    )
    timeout_s: float = attrs.field(
        default=5.0, validator=not_negative, metadata={"env": "MADE_TIMEOUT"}
    )
    strict: bool = attrs.field(default=False, metadata={"env": "MADE_STRICT"})
    slots: int | None = attrs.field(default=None, metadata={"env": "MADE_SLOTS"})
    api: Literal["auto", "chat"] = attrs.field(default="auto", metadata={"env": "MADE_API"})
    mode: Mode = attrs.field(default=Mode.FAST, metadata={"env": "MADE_MODE"})
    allow: tuple[str, ...] = attrs.field(default=(), metadata={"env": "MADE_ALLOW"})
    ports: list[int] = attrs.field(factory=list, metadata={"env": "MADE_PORTS"})
    headers: Mapping[str, str] = attrs.field(factory=dict)
    retry: Retry = attrs.field(factory=Retry)
    client: Retry | None = None
