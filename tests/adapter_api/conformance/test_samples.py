"""Adapters for other protocols, written with http_util, pass the kit through the fault proxy."""

import re
from typing import Any

import pytest

from adapter_api.conformance import Status, examine
from adapter_api.faults import Script, scripted_engine
from registry import BoundAdapter, Registry
from tests.adapter_api.conformance.engines import chat, messages
from tests.adapter_api.conformance.examine import ROOT

DISTRIBUTIONS = ROOT / "tests" / "distributions"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "script", "absent"),
    [
        ("acme-messages", messages, {"seed": "the protocol has none"}),
        ("acme-generate", chat, {}),
    ],
)
def test_a_sample_adapter_conforms(
    name: str, script: Script, absent: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anthropic's Messages and Ollama's native API, each behind its own scripted engine."""
    monkeypatch.syspath_prepend(DISTRIBUTIONS / name.replace("-", "_"))
    registry = Registry()
    with scripted_engine(script) as url:
        report = examine(
            lambda **options: registry.get(name, options), engine_url=url, absent=absent
        )
    wrong = {
        result.check: result.remark
        for result in report.results
        if result.status not in (Status.PASSED, Status.ABSENT)
    }
    assert wrong == {}
    passed = {result.check for result in report.results if result.status is Status.PASSED}
    assert {"tools", "proxy-cuts", "proxy-error-events", "proxy-silence", "lab-health"} <= passed


@pytest.mark.exhaustive
def test_the_adapter_of_the_tutorial_conforms() -> None:
    """ "Another protocol" ends with an adapter that passes, behind the engine that the page has."""
    page = (ROOT / "docs" / "tutorial" / "another-protocol.md").read_text()
    adapter, proof = re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M)
    names: dict[str, Any] = {}
    exec(adapter.replace("asyncio.run(main())", ""), names)
    exec(proof, names)

    def make(**options: Any) -> BoundAdapter:
        config = names["SayConfig"](**options)
        return BoundAdapter(names["SayAdapter"](config), name="acme-say", config=config)

    with scripted_engine(names["say"]) as url:
        report = examine(make, engine_url=url)
    assert report.conforms, report.to_markdown()
