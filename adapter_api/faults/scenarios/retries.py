"""Temporary refusals, and requests that may be sent again."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

from adapter_api.faults.scenario import Scenario, collect, fails, scenario, whole
from adapter_api.faults.wire import PIECES, Wire


async def _first_refuses(status: int, times: int, headers: tuple[str, ...], wire: Wire) -> None:
    """Refuse the first `times` requests, answer the next."""
    if wire.request.number <= times:
        await wire.answer_json(status, wire.complaint("later"), *headers)
    else:
        await wire.whole_answer()


def _busy() -> Iterable[Scenario]:
    for status in (408, 425, 429, 502, 503, 504):
        yield Scenario(
            f"once-{status}",
            f"answers {status} to the first request",
            partial(_first_refuses, status, 1, ()),
            whole(requests=2, within_s=0.3),
        )
    yield Scenario(
        "twice-503",
        "answers 503 to the first two requests",
        partial(_first_refuses, 503, 2, ()),
        whole(requests=3, within_s=0.4),
    )


# Retry-After

_FITTING = (
    ("seconds", "Retry-After: 0", 0.0),
    ("fraction", "Retry-After: 0.2", 0.2),
    ("ms", "retry-after-ms: 200", 0.2),
    ("past-date", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ("nonsense", "Retry-After: soon", 0.0),
    ("negative", "Retry-After: -5", 0.0),
    ("odd-date", "Retry-After: Wed, 21 Oct 2015 07:28:00 +99999999999999", 0.0),
)
_TOO_LONG: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("seconds", "Retry-After: 30", 30_000, {"deadline_s": 2}),
    ("ms", "retry-after-ms: 2500", 2500, {"deadline_s": 2}),
    ("cap", "Retry-After: 3600", 3_600_000, {}),
)


def _retry_after() -> Iterable[Scenario]:
    for name, header, wait_s in _FITTING:
        yield Scenario(
            f"wait-{name}",
            f"answers 429 with `{header}` to the first request",
            partial(_first_refuses, 429, 1, (header,)),
            whole(requests=2, after_s=wait_s, within_s=wait_s + 0.3),
            task={"deadline_s": 5},
        )
    for name, header, wait_ms, task in _TOO_LONG:
        limit = f"; the job's deadline is {task['deadline_s']} s" if task else ""
        yield Scenario(
            f"wait-too-long-{name}",
            f"answers 429 with `{header}`{limit}",
            partial(_first_refuses, 429, 99, (header,)),
            fails("ADMISSION_REJECT", retry_after_ms=wait_ms),
            task=task,
        )


@scenario(
    "answers 503 with a date for Retry-After that is at most 1 s away",
    whole(requests=2, within_s=1.3),
    task={"deadline_s": 5},
)
async def wait_date(wire: Wire) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    await _first_refuses(503, 1, (f"Retry-After: {date}",), wire)


@scenario(
    "answers 503 and requests a delay of 200 ms each time; the job's deadline is 0.5 s",
    fails("POOL_UNAVAILABLE", requests=3, retry_after_ms=200, after_s=0.4, within_s=0.5),
    task={"deadline_s": 0.5},
)
async def wait_until_deadline(wire: Wire) -> None:
    await _first_refuses(503, 99, ("retry-after-ms: 200",), wire)


# Requests that must not be repeated


@scenario(
    "sends an error object with code 503 after a token", fails("POOL_UNAVAILABLE", text=PIECES[0])
)
async def busy_after_token(wire: Wire) -> None:
    if wire.request.number > 1:
        await wire.whole_answer()
        return
    await wire.begin(PIECES[0])
    await wire.event(wire.complaint(code=503))
    await wire.end()


@scenario("breaks the connection before its answer, once", fails("WORKER_RESET"))
async def broken_once(wire: Wire) -> None:
    if wire.request.number > 1:
        await wire.whole_answer()


# Fields that the server does not know


async def _refuses_field(status: int, field: str, refusal: dict[str, Any], wire: Wire) -> None:
    if field in wire.request.json():
        await wire.answer_json(status, refusal)
    else:
        await wire.whole_answer()


async def _refuses_required(wire: Wire) -> None:
    await wire.answer_json(400, wire.complaint("Unknown parameter: 'prompt', 'messages'"))


def _fields() -> Iterable[Scenario]:
    forbidden = {"loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 7}
    for name, status, field, refusal in (
        (
            "named",
            400,
            "stream_options",
            {"error": {"message": "Unknown parameter: 'stream_options'."}},
        ),
        ("param", 400, "seed", {"error": {"message": "Unsupported parameter", "param": "seed"}}),
        ("detail", 422, "seed", {"detail": [{**forbidden, "type": "extra_forbidden"}]}),
        ("text", 422, "seed", {"detail": "Unexpected keys in the request: {'seed'}"}),
    ):
        yield Scenario(
            f"field-{name}",
            f"answers {status} as long as the request has `{field}`: it refuses the field by name",
            partial(_refuses_field, status, field, refusal),
            whole(requests=2),
            task={"seed": 7},
        )
    yield Scenario(
        "field-value",
        "answers 400 as long as the request has `seed`: it refuses the value",
        partial(_refuses_field, 400, "seed", {"error": {"message": "seed must be at least 8"}}),
        fails("INVALID_PARAMS"),
        task={"seed": 7},
    )
    yield Scenario(
        "field-required",
        "answers 400 and claims that `prompt` and `messages` are unknown",
        _refuses_required,
        fails("INVALID_PARAMS"),
    )


@scenario(
    "answers 400 as long as a chat has `max_tokens`: it wants `max_completion_tokens` (OpenAI)",
    whole(requests=2),
    task={"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
)
async def field_max_tokens(wire: Wire) -> None:
    if wire.request.json().get("max_completion_tokens") == 9:
        await wire.whole_answer()
    else:
        said = "Unsupported parameter: 'max_tokens' is not supported with this model."
        await wire.answer_json(400, wire.complaint(said, param="max_tokens"))


@scenario(
    "refuses another field in each answer, endlessly",
    fails("INVALID_PARAMS", requests=4),
    task={"temperature": 0.5, "top_p": 0.5, "seed": 7, "stop": "x"},
)
async def field_after_field(wire: Wire) -> None:
    known = ("model", "prompt", "messages", "stream", "max_tokens", "max_completion_tokens")
    field = next((name for name in wire.request.json() if name not in known), "nothing")
    await wire.answer_json(400, wire.complaint(f"Unknown parameter: '{field}'."))


SCENARIOS = [*_busy(), *_retry_after(), *_fields(), *collect(vars())]
