"""Checks: one rule of the contract each."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from adapter_api.conformance.subject import Subject

Run = Callable[[Subject], Awaitable[str | None]]


@attrs.frozen
class Check:
    """One rule of the contract.

    Args:
        name: Its name in reports.
        summary: The rule, in one sentence.
        run: Examines a subject. Returns a remark or None; raises Violation, Absent or NotExamined.
        requirement: The ids of the requirements that it proves.
        needs: The names of checks without which its verdict would be meaningless.
        capability: The key of CAPABILITIES that it examines, None if every adapter must pass.
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
    """Turn the decorated coroutine function into a Check.

    The check has the function's name, and its rule is the first sentence of the docstring.
    """

    def make(run: Callable[..., Any]) -> Check:
        name = run.__name__.strip("_").replace("_", "-")
        summary = " ".join((run.__doc__ or "").partition("\n\n")[0].split())
        return Check(name, summary, run, requirement, needs, capability)

    return make
