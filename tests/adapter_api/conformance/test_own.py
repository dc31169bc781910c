"""Our own adapters pass the kit that we hand to others."""

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest

import registry
from adapter_api import TaskRequest
from adapter_api.conformance import AdapterConformance, MakeAdapter
from adapter_api.conformance.check import Check
from adapter_api.conformance.verdict import Status
from adapters.openai_http import OpenAIHttpAdapter
from tests.fake_openai import FakeOpenAI, chat, completion, streams

HTTP = ("proxied", "proxy-", "faults-", "lab-")
"""The checks that only an adapter with a base_url can pass."""


class OwnConformance(AdapterConformance):
    """The kit's class, which here says also what must be absent.

    Attributes:
        lacking: Checks, or beginnings of their names, that have nothing to examine.
    """

    report_folder = None
    lacking: ClassVar[tuple[str, ...]] = ()

    def test_contract(
        self,
        check: Check,
        make_adapter: MakeAdapter,
        engine_url: str | None,
        pytestconfig: pytest.Config,
    ) -> None:
        """Each rule holds, or is reported as absent where that is known."""
        result = type(self)._judge(check, make_adapter, engine_url, pytestconfig.rootpath)
        expected = Status.ABSENT if check.name.startswith(self.lacking) else Status.PASSED
        assert result.status is expected, result.remark


class TestMock(OwnConformance):
    """The mock adapter keeps the contract (ORCH-3058)."""

    lacking = ("reasoning", "error-pickles", "secrets", *HTTP)

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """The mock, which echoes, so that its answers differ."""
        return lambda **options: registry.get("mock", {"echo": True, **options})


@pytest.mark.exhaustive
class TestOpenAIHttp(OwnConformance):
    """The openai-http adapter keeps the contract at every fault (OC-ADAPT-OAI-6000)."""

    lacking = ("reasoning",)  # the lab's engine does not think
    task: ClassVar = {"model": "fault"}
    failing = TaskRequest(model="no-such-model", prompt="hello")

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """The adapter, with quick retries."""
        retry = {"base_s": 0.01, "cap_s": 0.02}
        return lambda **options: registry.get("openai-http", {"retry": retry, **options})


async def _record(path: Path) -> None:
    words = [f"word {n} " for n in range(12)]
    routes = {
        "/v1/completions": streams(*completion(words)),
        "/v1/chat/completions": streams(*chat(words)),
    }
    said = [{"role": "user", "content": "hello"}]
    async with (
        FakeOpenAI(routes) as server,
        OpenAIHttpAdapter(server.base_url, record=str(path)) as adapter,
    ):
        await adapter.submit(TaskRequest(prompt="hello")).text()
        await adapter.submit(TaskRequest(messages=said)).text()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server's answers to a prompt and to a message."""
    path = tmp_path_factory.mktemp("recording") / "r.jsonl"
    asyncio.run(_record(path))
    return str(path)


class TestReplay(OwnConformance):
    """A recording that is played keeps the contract, as the adapter behind it does (ORCH-3045)."""

    lacking = ("tools", "reasoning", "error-pickles", "secrets", *HTTP)

    @pytest.fixture
    def make_adapter(self, recording: str) -> MakeAdapter:
        """The recording, from its beginning."""
        return lambda **options: registry.get("replay", {"path": recording, **options})
