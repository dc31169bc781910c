"""Our own adapters pass the kit that we hand to others."""

from typing import ClassVar

import pytest

import registry
from adapter_api import TaskRequest
from adapter_api.conformance import AdapterConformance, HttpAdapterConformance
from adapter_api.conformance.subject import MakeAdapter


class TestMock(AdapterConformance):
    """The mock adapter keeps the contract (ORCH-3058)."""

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """The mock, which echoes, so that its answers differ."""
        return lambda **options: registry.get("mock", {"echo": True, **options})


class TestOpenAIHttp(HttpAdapterConformance):
    """The openai-http adapter keeps the contract, and lies about no fault (OC-ADAPT-OAI-6000)."""

    task: ClassVar = {"model": "fault"}
    failing = TaskRequest(model="no-such-model", prompt="hello")

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """The adapter, with quick retries."""
        retry = {"base_s": 0.01, "cap_s": 0.02}
        return lambda **options: registry.get("openai-http", {"retry": retry, **options})
