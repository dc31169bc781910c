"""Real clients of OpenAI's API against the gateway: Python, Node, LangChain, curl, Prometheus."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI

import registry
from adapter_api import TaskRequest
from adapter_api.faults import SCENARIOS, FaultServer, Scenario
from registry import AdapterHost
from tests.registry.gateway.conftest import CHAT, TEXT, Start
from tests.registry.gateway.test_faults_behind import AT_ONCE, DEADLINE_S, LIMITS, may_be_whole

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[3]
MESSAGES: Any = CHAT["messages"]
NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2] + "/v1", apiKey: "x", maxRetries: 0 });
const stream = await client.chat.completions.create({
  model: process.argv[3], messages: [{ role: "user", content: "Hello" }], stream: true });
let text = "";
try {
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  console.log(JSON.stringify({ text, whole: true }));
} catch (error) {
  console.log(JSON.stringify({ text, whole: false, error: error.message }));
}
"""


def client_of(url: str) -> AsyncOpenAI:
    """Return OpenAI's client, without retries of its own."""
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


async def test_openai_for_python(start: Start) -> None:
    """OpenAI's package streams, gets whole answers with usage, and lists models."""
    served = await start()
    async with client_of(served.url) as client:
        stream = await client.chat.completions.create(
            model="mock", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == TEXT
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 9
        whole = await client.chat.completions.create(model="mock", messages=MESSAGES)
        assert whole.choices[0].message.content == TEXT
        completion = await client.completions.create(model="mock", prompt="Hello")
        assert completion.choices[0].text == TEXT
        assert [model.id async for model in client.models.list()] == ["mock"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("QUOTA_EXHAUSTED", openai.RateLimitError),
        ("INVALID_PARAMS", openai.BadRequestError),
        ("CONTEXT_OVERFLOW", openai.BadRequestError),
        ("UPSTREAM_AUTH", openai.InternalServerError),
        ("DECODE_TIMEOUT", openai.InternalServerError),
    ],
)
async def test_openai_for_python_gets_its_own_errors(
    start: Start, code: str, error: type[Exception]
) -> None:
    """A failure before the first token is the exception that the client has for its status."""
    served = await start(registry.get("mock", {"error_code": code}))
    async with client_of(served.url) as client:
        with pytest.raises(error, match="scripted"):
            await client.chat.completions.create(model="mock", messages=MESSAGES)


async def test_openai_for_python_sees_a_failure_in_mid_stream(start: Start) -> None:
    """A failure after tokens raises from the iteration, with the error's words."""
    served = await start(registry.get("mock", {"error_code": "WORKER_RESET", "error_after": 3}))
    async with client_of(served.url) as client:
        stream = await client.chat.completions.create(model="mock", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="scripted"):
            async for _ in stream:
                pass


async def test_no_fault_makes_openai_take_half_for_whole(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenAI's client behind every fault of the fault server; the figure is printed."""
    lies: list[str] = []
    room = asyncio.Semaphore(AT_ONCE)
    async with FaultServer() as server, AdapterHost() as host:
        served = await start(host=host)
        client = client_of(served.url)

        async def examine(name: str) -> None:
            scenario = SCENARIOS[name]
            async with room:
                options = {"base_url": server.url(name), "dialect": scenario.server or "auto"}
                host.bind(name, "r0", registry.get("openai-http", {**options, **LIMITS}))
                await host.check(name)
                text, whole = "", False
                try:
                    async for piece in _pieces(client, scenario):
                        text += piece
                    whole = True
                except openai.APIError:
                    pass
                if whole and not may_be_whole(scenario, text):
                    lies.append(f"{name}: {text!r}")
                await host.unbind(name, "r0")

        await asyncio.gather(*map(examine, SCENARIOS))
        await client.close()
    with capsys.disabled():
        print(f"\nopenai: {len(SCENARIOS)} faults, {len(lies)} half answers taken for whole")
    assert lies == []


async def _pieces(client: AsyncOpenAI, scenario: Scenario) -> AsyncIterator[str]:
    """Yield the text of an answer as OpenAI's client sees it."""
    deadline_s = scenario.task.get("deadline_s", DEADLINE_S)
    headers = {"X-Request-Timeout": str(deadline_s)}
    if "messages" not in scenario.task:
        async for completion in await client.completions.create(
            model=scenario.name, prompt="hi", stream=True, extra_headers=headers
        ):
            yield completion.choices[0].text if completion.choices else ""
        return
    async for chunk in await client.chat.completions.create(
        model=scenario.name,
        messages=scenario.task["messages"],
        stream=True,
        extra_headers=headers,
    ):
        yield (chunk.choices[0].delta.content or "") if chunk.choices else ""


async def test_langchain(start: Start) -> None:
    """LangChain's client streams and invokes."""
    served = await start()
    model = ChatOpenAI(model="mock", base_url=f"{served.url}/v1", api_key="x", max_retries=0)
    assert (await model.ainvoke("Hello")).content == TEXT
    chunks = [chunk async for chunk in model.astream("Hello")]
    assert "".join(str(chunk.content) for chunk in chunks) == TEXT


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with OpenAI's package for Node."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    (folder / "ask.js").write_text(NODE)
    npm = shutil.which("npm")
    assert npm is not None, "this suite needs Node.js with npm"
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "openai"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    yield folder


async def _output(*command: str, cwd: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


async def test_openai_for_node(start: Start, node: Path) -> None:
    """OpenAI's package for Node gets whole answers, and an error where an answer breaks off."""
    served = await start()
    seen = json.loads(await _output("node", "ask.js", served.url, "mock", cwd=node))
    assert seen == {"text": TEXT, "whole": True}
    broken = await start(registry.get("mock", {"error_code": "WORKER_RESET", "error_after": 3}))
    seen = json.loads(await _output("node", "ask.js", broken.url, "mock", cwd=node))
    assert seen["whole"] is False
    assert seen["text"] == "Once upon a"


async def test_curl(start: Start) -> None:
    """curl gets the stream with -N, and status 22 for an error with --fail."""
    served = await start()
    url = f"{served.url}/v1/chat/completions"
    body = json.dumps({**CHAT, "stream": True})
    out = await _output("curl", "-sN", url, "-d", body)
    assert out.endswith("data: [DONE]\n\n")
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "--fail", url, "-d", "{", stdout=subprocess.DEVNULL
    )
    assert await process.wait() == 22


async def test_our_own_adapter(start: Start) -> None:
    """openai-http speaks to the gateway as to any engine, and sees a failure as one."""
    served = await start()
    async with registry.get("openai-http", {"base_url": served.url}) as adapter:
        assert await adapter.submit(TaskRequest(model="mock", messages=MESSAGES)).text() == TEXT
        assert (await adapter.health()).ready


WORKERS = """
[[replicas]]
pool = "chat"
replica = "r0"
adapter = "mock"
"""

SCRAPE = """
scrape_configs:
  - job_name: gateway
    scrape_interval: 250ms
    static_configs: [{{targets: ["{target}"]}}]
"""


async def test_prometheus_scrapes_it(tmp_path: Path) -> None:
    """A real Prometheus scrapes /metrics and answers a query about jobs."""
    (tmp_path / "workers.toml").write_text(WORKERS)
    async with AsyncExitStack() as stack:
        command = (sys.executable, "-m", "registry.cli", "gateway", "-w", "workers.toml")
        gateway = await _started(stack, *command, "-p", "0", cwd=tmp_path)
        url = await _line(gateway, r"listening on (\S+);")
        async with client_of(url) as client:
            await client.chat.completions.create(model="chat", messages=MESSAGES)
        target = url.removeprefix("http://")
        (tmp_path / "prometheus.yml").write_text(SCRAPE.format(target=target))
        address = f"127.0.0.1:{_free_port()}"
        await _started(
            stack,
            "prometheus",
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
            cwd=tmp_path,
        )
        query = 'worker_adapters_outcomes_total{outcome="ended"}'
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as http:
            found: list[Any] = []
            while not found:
                await asyncio.sleep(0.2)
                with contextlib.suppress(httpx.TransportError):
                    answer = await http.get("/api/v1/query", params={"query": query})
                    found = answer.json().get("data", {}).get("result", [])
    assert found[0]["metric"]["pool_id"] == "chat"
    assert found[0]["value"][1] == "1"


async def _started(stack: AsyncExitStack, *command: str, cwd: Path) -> "asyncio.subprocess.Process":
    """Start a process that is killed with the stack."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment, stderr=subprocess.PIPE
    )

    async def kill() -> None:
        process.kill()
        await process.communicate()

    stack.push_async_callback(kill)
    return process


async def _line(process: "asyncio.subprocess.Process", pattern: str) -> str:
    """Return the first match in what the process writes to standard error."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError("the process has ended")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
