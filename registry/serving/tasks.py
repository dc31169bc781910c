"""The lines of standard input: a task to run or a job to cancel."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from adapter_api import InvalidRequest, TaskRequest
from adapter_api.validators import shown
from registry.host.jobs import PRIORITIES, Priority
from registry.near import nearest
from registry.serving.lines import MAX_LINE_BYTES

_TASK_KEYS = tuple(field.name for field in attrs.fields(TaskRequest))
_KEYS = ("pool", "priority", *_TASK_KEYS)


class BadLine(Exception):
    """An invalid line.

    Args:
        message: The problem.
        job_id: The job that the line names, if it names one.
    """

    def __init__(self, message: str, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


@attrs.frozen
class Submit:
    """Run this task in this pool."""

    pool_id: str
    task: TaskRequest
    priority: Priority


@attrs.frozen
class Cancel:
    """Cancel this job."""

    job_id: str


def parse_line(line: bytes, pools: Callable[[], Sequence[str]]) -> Submit | Cancel:
    """Return what a line requests.

    Args:
        line: `{"prompt": ...}` with the fields of TaskRequest, "pool" and "priority", or
            `{"cancel": job_id}`.
        pools: Returns the names of the pools: a line without "pool" goes to the only one.

    Raises:
        BadLine: If it is neither.
    """
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"the line is longer than {MAX_LINE_BYTES} bytes")
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        raise BadLine("the line is not JSON") from None
    if not isinstance(data, dict):
        raise BadLine('expected an object: {"prompt": ...} or {"cancel": job_id}')
    if "cancel" in data:
        return _cancel(data)
    job_id = data.get("job_id")
    try:
        return _submit(data, pools)
    except InvalidRequest as error:
        raise BadLine(error.message, job_id if isinstance(job_id, str) else None) from None


def _cancel(data: dict[str, Any]) -> Cancel:
    job_id = data["cancel"]
    if len(data) > 1 or not isinstance(job_id, str):
        raise BadLine('to cancel a job write {"cancel": job_id} and nothing else')
    return Cancel(job_id)


def _submit(data: dict[str, Any], pools: Callable[[], Sequence[str]]) -> Submit:
    fields = {key: value for key, value in data.items() if key in _TASK_KEYS}
    job_id = fields.get("job_id") if isinstance(fields.get("job_id"), str) else None
    for key in data:
        if key not in _KEYS:
            near = nearest(key, _KEYS)
            hint = f"did you mean {near!r}?" if near else f"the keys are {', '.join(_KEYS)}"
            raise BadLine(f"unknown key {shown(key)}; {hint}", job_id)
    pool_id, priority = data.get("pool"), data.get("priority", "interactive")
    if pool_id is None:
        names = pools()
        if len(names) != 1:
            known = f"this run has {', '.join(names)}" if names else "this run has none yet"
            raise BadLine(f'"pool" is missing; {known}', job_id)
        pool_id = names[0]
    if not isinstance(pool_id, str):
        raise BadLine("pool must be the name of a pool", job_id)
    if priority not in PRIORITIES:
        raise BadLine(f"priority must be one of {', '.join(PRIORITIES)}", job_id)
    return Submit(pool_id, TaskRequest(**fields), priority)
