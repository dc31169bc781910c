"""What a check is, and how its verdict is spoken."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from adapter_api.conformance.subject import Subject

CAPABILITIES = {
    "seed": "the same task with the same seed gives the same text",
    "messages": "tasks may have messages instead of a prompt",
    "concurrency": "several jobs may run at the same time",
    "backpressure": "reading from the engine stops while nobody reads the stream",
}
"""What an adapter may lack and still be right, if it says so. The hooks `props`, `engine_version`
and `cancel` are optional anyway: without them their checks are absent too."""


class Violation(Exception):
    """The adapter breaks the contract; the text says how, and what to do."""


class Absent(Exception):
    """The check does not apply; the text says why."""


class Misuse(Exception):
    """The kit was given what it cannot examine; the text says what to write instead."""


Run = Callable[["Subject"], Awaitable[str | None]]


@attrs.frozen
class Check:
    """One thing the contract asks.

    Args:
        name: Its name in reports.
        summary: The rule, one sentence.
        run: Examines a subject. Returns a remark or None; raises Violation or Absent.
        requirement: The requirements it proves, by id.
        needs: The names of checks without which this one could not tell what is wrong.
        capability: The key of CAPABILITIES it examines, None if every adapter must pass.
    """

    name: str
    summary: str
    run: Run = attrs.field(repr=False)
    requirement: str
    needs: tuple[str, ...] = ()
    capability: str | None = None


def check(
    requirement: str, *, needs: tuple[str, ...] = (), capability: str | None = None
) -> Callable[[Callable[..., Any]], Check]:
    """Make the decorated coroutine function a Check.

    Its name is the function's; its rule is the first sentence of the docstring.
    """

    def make(run: Callable[..., Any]) -> Check:
        name = run.__name__.strip("_").replace("_", "-")
        summary = " ".join((run.__doc__ or "").partition("\n\n")[0].split())
        return Check(name, summary, run, requirement, needs, capability)

    return make
