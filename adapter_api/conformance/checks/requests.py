"""Checks that an adapter's request carries the task."""

import json
import re
from collections.abc import Mapping
from typing import Any

from adapter_api.conformance.check import Check, check
from adapter_api.conformance.checks.damaged import Baseline, baseline, behind
from adapter_api.conformance.jobs import Adapter, run
from adapter_api.conformance.subject import Subject
from adapter_api.conformance.verdict import NotExamined, Violation
from adapter_api.faults import PASS
from adapter_api.task import TaskRequest

LIMIT = 29
"""A max_tokens that can be found in a request of any protocol."""

_TURNS = ("user", "assistant", "user")
_OPTIONS = {"model": "kit-model", "stop": ["kit-stop"], "seed": 7919, "temperature": 0.25}


@check("ADAPT-3000", needs=("proxied",))
async def proxy_requests(subject: Subject) -> str:
    """The request carries the task: each message, the limit and, to the lab, every option."""
    base = await baseline(subject)
    own = subject.network is None or subject.network.own
    async with behind(subject, PASS) as (adapter, front):
        task = _task(base, subject, adapter, own=own)
        outcome = await run(adapter, task)
        bodies = [one.body for one in front.posts]
    if outcome.error is not None:
        raise NotExamined(f"the engine refuses a conversation: {outcome}")
    contents = [str(message.content) for message in task.messages or ()]
    missing = [text for text in contents if not any(text.encode() in body for body in bodies)]
    if missing and len(missing) == len(contents):
        raise NotExamined("its requests do not show the messages as text")
    if missing:
        raise Violation(
            f"{len(missing)} of {len(contents)} messages are not in its request: send the whole "
            "conversation"
        )
    if not any(re.search(rb"\b%d\b" % LIMIT, body) for body in bodies):
        raise Violation("max_tokens is not in its request: the engine has to know the limit")
    if not own:
        _check_options(task, bodies[-1])
    return f"{len(contents)} messages"


def _task(base: Baseline, subject: Subject, adapter: Adapter, *, own: bool) -> TaskRequest:
    """Return a task whose parts can be found in its request."""
    fields: dict[str, Any] = {"max_tokens": LIMIT}
    if not subject.lacks("messages", adapter):
        turns = _TURNS if own else ("system", *_TURNS)
        said = [{"role": role, "content": f"kit-{n}-{role}"} for n, role in enumerate(turns)]
        fields["messages"] = said
    if not own:
        fields |= _OPTIONS
        if subject.lacks("seed", adapter):
            fields["seed"] = None
    return base.job(**fields)


def _check_options(task: TaskRequest, body: bytes) -> None:
    """Check the options in a request of the completions protocol."""
    sent: Mapping[str, Any] = json.loads(body)
    for name in _OPTIONS:
        expected, found = getattr(task, name), sent.get(name)
        if isinstance(expected, tuple):
            expected, found = list(expected), [found] if isinstance(found, str) else found
        if expected is not None and found != expected:
            raise Violation(
                f"the task's {name} is {expected!r}, and the request has {found!r}: send every "
                "option of the task, or fail the job"
            )


REQUESTS: tuple[Check, ...] = (proxy_requests,)
