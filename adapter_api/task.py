"""What an orchestrator asks for: one job, checked when it is made."""

from collections.abc import Mapping, Sequence
from functools import partial
from os import urandom
from typing import Any

import attrs

from adapter_api.errors import ErrorCode, InvalidRequest
from adapter_api.validators import integer, is_text, must_be, number, refusal

_MESSAGE_KEYS = ("role", "content", "name")

# Ids travel in HTTP headers and log lines: longer ones are refused by common servers.
MAX_ID_CHARS = 256


def new_id() -> str:
    """A random UUID of version 4 (RFC 9562) as text, without the object that `uuid.uuid4` makes of
    it: that takes a third of the time of a whole TaskRequest."""
    raw = urandom(16)
    digits = raw.hex()
    variant = "89ab"[raw[8] >> 6]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(ErrorCode.INVALID_PARAMS, message)


def _invalid(field: str, allowed: str, value: object) -> InvalidRequest:
    return _refused(refusal(field, allowed, value))


_must_be = partial(must_be, error=_refused)


def _is_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID_CHARS
        and value.isascii()
        and value.isprintable()
        and value.strip() == value
    )


_id = _must_be(f"1 to {MAX_ID_CHARS} printable ASCII characters", _is_id)
_optional_id = _must_be(f"1 to {MAX_ID_CHARS} printable ASCII characters", _is_id, optional=True)


def _is_content(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(part, Mapping) for part in value)
    )


def _freeze_content(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@attrs.frozen
class Message:
    """One message of a chat.

    Args:
        role: "system", "user", "assistant" or what the engine's template knows.
        content: The text, or a list of content parts as mappings (sent as they are).
        name: Who speaks, where the engine's template uses it.
    """

    role: str = attrs.field(
        validator=_must_be("a non-empty string", lambda v: isinstance(v, str) and v != "")
    )
    content: str | tuple[Mapping[str, Any], ...] = attrs.field(
        converter=_freeze_content,
        validator=_must_be("a string or a list of content parts", _is_content),
    )
    name: str | None = attrs.field(
        default=None,
        validator=_must_be(
            "a non-empty string", lambda v: isinstance(v, str) and v != "", optional=True
        ),
    )


def _to_message(value: object, where: str) -> Message:
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise _invalid(where, 'a Message or a {"role", "content"} mapping', value)
    unknown = [key for key in value if key not in _MESSAGE_KEYS]
    if unknown:
        raise _invalid(where, f"a mapping with only the keys {', '.join(_MESSAGE_KEYS)}", unknown)
    missing = [key for key in ("role", "content") if key not in value]
    if missing:
        raise _invalid(where, "a mapping with role and content", dict(value))
    try:
        return Message(**value)
    except InvalidRequest as error:
        raise InvalidRequest(error.code, f"{where}.{error.message}") from None


def _to_messages(value: Any) -> tuple[Message, ...] | None:
    if value is None:
        return None
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence) or not value:
        raise _invalid("messages", "a non-empty list of messages (or None)", value)
    return tuple(_to_message(item, f"messages[{i}]") for i, item in enumerate(value))


def _to_stop(value: Any) -> tuple[str, ...]:
    if value is None or value == ():
        return ()
    if isinstance(value, str):
        value = (value,)
    if (
        isinstance(value, bytes)
        or not isinstance(value, Sequence)
        or not all(isinstance(s, str) and s for s in value)
    ):
        raise _invalid("stop", "a non-empty string or a list of them (or None)", value)
    return tuple(value)


def _to_extra(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict | Mapping) or not all(isinstance(key, str) for key in value):
        raise _invalid("extra", "a mapping with string keys", value)
    return dict(value)


@attrs.frozen(kw_only=True)
class TaskRequest:
    """One job for one engine. Immutable; every field is checked when it is made.

    Args:
        model: The engine's name of the model. None leaves it to the adapter's default.
        prompt: The text to complete. Exactly one of prompt and messages is given.
        messages: The chat to answer: Message objects or {"role", "content"} mappings.
        max_tokens: The most tokens to generate, at least 1.
        job_id: Unique name of the job (ORCH-3024); a random UUID if none is given.
        temperature: 0 or more; None leaves it to the engine, as for all that follow.
        top_p: 0 to 1.
        seed: Any integer. With one engine version it makes the stream repeatable (ORCH-3045).
        stop: A text, or several, at which generation ends.
        session_id: Tasks of one session go to one replica where possible (ORCH-3009).
        correlation_id: Sent to the engine as X-Correlation-Id and logged (AH-1003).
        deadline_s: Seconds from submit to the last event; everything is charged to it.
        max_attempts: The most attempts at the job, at least 1; None leaves it to the policy of
            the adapter or pool. A pool allows an adapter one: it decides itself who is asked again.
        extra: More keys for the engine's request body. Keys the adapter owns are refused.

    Raises:
        InvalidRequest: INVALID_PARAMS; the message names the field and what is allowed.
    """

    model: str | None = attrs.field(
        default=None,
        validator=_must_be("a non-empty string", is_text, optional=True),
    )
    prompt: str | None = attrs.field(
        default=None, validator=_must_be("a string", lambda v: isinstance(v, str), optional=True)
    )
    messages: tuple[Message, ...] | None = attrs.field(default=None, converter=_to_messages)
    max_tokens: int = attrs.field(default=256, validator=integer(1, error=_refused))
    job_id: str = attrs.field(factory=new_id, validator=_id)
    temperature: float | None = attrs.field(
        default=None, validator=number(0, optional=True, error=_refused)
    )
    top_p: float | None = attrs.field(
        default=None, validator=number(0, maximum=1, optional=True, error=_refused)
    )
    seed: int | None = attrs.field(default=None, validator=integer(optional=True, error=_refused))
    stop: tuple[str, ...] = attrs.field(default=(), converter=_to_stop)
    session_id: str | None = attrs.field(default=None, validator=_optional_id)
    correlation_id: str | None = attrs.field(default=None, validator=_optional_id)
    deadline_s: float | None = attrs.field(
        default=None,
        validator=number(above=0, unit="seconds", optional=True, error=_refused),
    )
    max_attempts: int | None = attrs.field(
        default=None, validator=integer(1, optional=True, error=_refused)
    )
    extra: Mapping[str, Any] = attrs.field(factory=dict, converter=_to_extra)

    def __attrs_post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            both = "both" if self.prompt is not None else "neither"
            raise InvalidRequest(
                ErrorCode.INVALID_PARAMS,
                f"exactly one of prompt and messages must be given, got {both}",
            )
