"""Rows that ask for JSON: what is none is an error row, with the answer in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapter_api import TaskRequest
from registry.batch import Limits, run
from tests.registry.batch.scripted_pool import ScriptedEngine, ids, pool
from tests.virtual_time import in_virtual_time

PROMPTS = ('{"city": "Oslo"}', '{"city": "Os', "Oslo, of course.")


def _tasks(response_format: dict[str, Any] | None) -> list[TaskRequest]:
    return [
        TaskRequest(job_id=str(n), prompt=prompt, response_format=response_format)
        for n, prompt in enumerate(PROMPTS)
    ]


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
@in_virtual_time
async def test_answers_that_are_not_json_are_error_rows(kind: str, tmp_path: Path) -> None:
    """It has the answer, a code and a reason; it is not sent again, and it counts as failed."""
    engine = ScriptedEngine()
    output = tmp_path / "out.jsonl"
    async with pool(engine) as host:
        summary = await run(_tasks({"type": kind}), host, output=output, limits=Limits())
    assert (summary.answered, dict(summary.failures)) == (1, {"unusable_json": 2})
    assert engine.asked == dict.fromkeys(PROMPTS, 1)
    assert ids(output) == ["0"]
    errors = [json.loads(line) for line in (tmp_path / "out.errors.jsonl").read_text().splitlines()]
    assert [error["error"]["code"] for error in errors] == ["unusable_json"] * 2
    assert "is not JSON" in errors[0]["error"]["message"]
    assert errors[0]["response"]["status_code"] == 200
    assert PROMPTS[1] in [choice["text"] for choice in errors[0]["response"]["body"]["choices"]]


@pytest.mark.parametrize("response_format", [None, {"type": "text"}, {"type": "regex"}])
@in_virtual_time
async def test_other_answers_may_be_anything(response_format: dict[str, Any] | None) -> None:
    """Where no JSON was asked for, none is expected."""
    async with pool(ScriptedEngine()) as host:
        summary = await run(_tasks(response_format), host, limits=Limits())
    assert (summary.answered, summary.failed) == (3, 0)
