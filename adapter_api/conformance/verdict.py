"""Verdicts: the exceptions that a check raises, and their names in a report."""

from enum import StrEnum

CAPABILITIES = {
    "seed": "the same task with the same seed gives the same text",
    "messages": "tasks may have messages instead of a prompt",
    "tools": "tasks may have tools, and answers may have tool calls",
    "concurrency": "several jobs may run at the same time",
    "error-events": "the engine can report an error inside a stream that has begun",
    "backpressure": "the adapter stops reading from the engine while the stream is not read",
}
"""Capabilities that an adapter may lack if it declares so. The hooks `props`, `engine_version` and
`cancel` are optional without a declaration: where they are missing, their checks are absent."""


class Status(StrEnum):
    """The verdict of one check."""

    PASSED = "passed"
    FAILED = "failed"
    ABSENT = "absent"
    """The adapter does not claim to have what the check is about."""
    BLOCKED = "blocked"
    """A check that this one needs has failed, so its verdict would be meaningless."""
    NOT_EXAMINED = "not_examined"
    """The adapter may have what the check is about, and the kit could not examine it."""


class Violation(Exception):
    """The adapter breaks the contract; the text says how, and what to do."""


class Absent(Exception):
    """The check does not apply; the text says why."""


class NotExamined(Exception):
    """The kit could not examine the rule; the text says what it needs."""


class Misuse(Exception):
    """The kit cannot examine what it was given; the text says what to write instead."""
