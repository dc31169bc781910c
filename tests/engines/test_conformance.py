"""The conformance kit, with a real engine behind the adapter."""

from collections.abc import Callable
from typing import Any

import pytest

import registry
from adapter_api.conformance import CHECKS, examine
from tests.engines.conftest import Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_openai_http_conforms_with_a_real_engine(start_engine: Callable[..., Engine]) -> None:
    """The adapter keeps the contract with llama.cpp behind it, also through the fault proxy."""
    engine = start_engine()

    def make(**options: Any) -> registry.BoundAdapter:
        return registry.get("openai-http", **options)

    # The chapters of faults and the tests of engines that are down need no real engine.
    checks = [c for c in CHECKS if not c.name.startswith(("faults-", "lab-"))]
    report = examine(make, engine_url=engine.base_url, checks=checks, task={"model": "tiny"})
    verdicts = {r.check: (str(r.status), r.remark) for r in report.results if r.status != "passed"}
    # The tiny model neither calls tools nor reasons; test_tools.py has a model that does.
    assert {check: status for check, (status, _) in verdicts.items()} == {
        "tools": "absent",
        "reasoning": "absent",
        "proxy-cut-calls": "absent",
    }
