"""Checks whether an answer has the form that its task requested."""

from adapter_api import Answer, JsonError, TaskRequest

_JSON = ("json_object", "json_schema")


def json_problem(task: TaskRequest, answer: Answer) -> JsonError | None:
    """Return why the answer is not JSON although the task asked for it; None if nothing is wrong.

    Tool calls can stand in its place. The schema is not checked.
    """
    asked = task.response_format is not None and task.response_format.get("type") in _JSON
    called = answer.tool_calls or answer.invalid_tool_calls
    if not asked or (called and not answer.text.strip()):
        return None
    try:
        answer.json()
    except JsonError as error:
        return error
    return None
