"""The conformance kit, with a real engine behind the adapter."""

from collections.abc import Callable

import pytest

import registry
from adapter_api.conformance import CHECKS, Subject, judge_all
from tests.engines.conftest import KEY, Engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

ABSENT = {"backpressure": "a long answer goes on in the engine when its reader has left"}


def test_openai_http_conforms_with_a_real_engine(start_engine: Callable[..., Engine]) -> None:
    """Everything llama-cpp-python can do, the adapter does by the contract (ADAPT-3000)."""
    # Otherwise a new request interrupts the one that runs, even a job that was left.
    engine = start_engine("--api_key", KEY, "--interrupt_requests", "False")
    options = {"base_url": engine.base_url, "api_key": KEY}
    subject = Subject(
        lambda **more: registry.get("openai-http", {**options, **more}),
        task={"model": "tiny"},
        absent=ABSENT,
    )
    checks = [check for check in CHECKS if check.name != "secrets"]  # it needs a key of its own
    results = {result.check: result for result in judge_all(checks, subject)}
    absent = {name for name, result in results.items() if result.status == "absent"}
    passed = {name for name, result in results.items() if result.status == "passed"}
    failed = {name: results[name].remark for name in results.keys() - passed - absent}
    assert failed == {}
    assert absent == {"slow-reader"}
