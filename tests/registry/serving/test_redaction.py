"""The content of tasks stays out of the state folder."""

import html
import json
from urllib.parse import quote

import pytest

from adapter_api import Explanation, Step, TaskRequest
from registry.serving.redaction import LEFT_OUT, MAX_TASK_CHARS, without_task

SECRET = "My grandmother's recipe: 3 eggs, salt & butter"


def kept(detail: str, **fields: object) -> str:
    step = Step(0, "attempt", "r0", "INVALID_PARAMS", 1, detail)
    found = without_task(
        Explanation("j", "p", "INVALID_PARAMS", (step,)),
        TaskRequest(**fields),  # type: ignore[arg-type]
    )
    return found.steps[0].detail


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        SECRET.upper(),
        SECRET[5:30],
        json.dumps(SECRET),
        html.escape(SECRET),
        quote(SECRET),
        repr(SECRET),
        SECRET.replace(" ", "\n  "),
    ],
)
@pytest.mark.parametrize("as_chat", [False, True])
def test_a_refusal_that_quotes_the_prompt(spelled: str, as_chat: bool) -> None:
    """However a server spells or cuts it, the detail is left out."""
    messages = [{"role": "user", "content": [{"type": "text", "text": SECRET}]}]
    task = {"messages": messages} if as_chat else {"prompt": SECRET}
    assert kept(f"the server refused: invalid prompt {spelled} (code 7)", **task) == LEFT_OUT


def test_other_details_stay() -> None:
    """An error that does not quote the task is worth keeping, whatever words it has."""
    detail = "the user message in role user is too long: 9000 tokens, the context holds 4096"
    messages = [{"role": "user", "content": SECRET}]
    assert kept(detail, messages=messages) == detail
    assert kept(detail, prompt="hi") == detail


def test_a_short_prompt_is_found_whole() -> None:
    """A prompt of one word is found, too."""
    assert kept("cannot tokenize 'Rumpel'", prompt="rumpel") == LEFT_OUT


def test_a_long_task_keeps_no_details() -> None:
    """Searching it would block the loop."""
    assert kept("anything", prompt="x" * (MAX_TASK_CHARS + 1)) == LEFT_OUT
    assert kept("", prompt="x" * (MAX_TASK_CHARS + 1)) == ""
