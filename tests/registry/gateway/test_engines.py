"""The gateway in front of engines on real sockets: queues, failures, reloads, several gateways."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

import registry
from adapter_api.faults import ScriptServer
from adapter_api.faults.wire import Request, Wire
from registry import AdapterHost
from registry.host import PoolPolicy
from registry.workers import WorkersWatch
from tests.registry.gateway.conftest import CHAT, Served, Start
from tests.registry.gateway.raw import RawClient, events, text_of

PATH = "/v1/chat/completions"
ASK = {**CHAT, "model": "default"}
STREAM = {**ASK, "stream": True}
Answer = Callable[[Request, Wire], Awaitable[None]]


def engine(answer: Answer) -> ScriptServer:
    """Return an engine that answers completions like this, and lists one model."""

    async def script(request: Request, wire: Wire) -> None:
        if request.method == "POST":
            await answer(request, wire)
        else:
            await wire.answer_json(200, {"object": "list", "data": [{"id": "m"}]})

    return ScriptServer(script)


async def hello(_: Request, wire: Wire) -> None:
    """Answer with two words, a moment apart."""
    await wire.stream_head()
    await wire.text("Hel")
    await wire.sleep(0.01)
    await wire.text("lo")
    await wire.finish()
    await wire.done()


async def silent(_: Request, wire: Wire) -> None:
    """Take the request and send nothing until the client is gone."""
    await wire.until_closed(20.0)


def bound(server: ScriptServer) -> registry.BoundAdapter:
    """Return the adapter of an engine."""
    return registry.get("openai-http", {"base_url": server.base_url, "dialect": "vllm"})


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_full_queue_is_refused_at_once(start: Start, *, stream: bool) -> None:
    """Beyond the queue a request is a 429 with the time to wait; it never reaches an engine."""
    async with engine(silent) as server, AdapterHost() as host:
        host.set_policy("default", PoolPolicy(max_queue=1, max_in_flight=1))
        host.bind("default", "r0", bound(server))
        await host.check("default")
        served = await start(host=host)
        clients = [RawClient(served.port) for _ in range(3)]
        async with clients[0], clients[1], clients[2]:
            clients[0].post(PATH, STREAM)
            await until(lambda: server.posts)
            clients[1].post(PATH, STREAM)
            await until(lambda: len(served.gateway.table) == 2)
            clients[2].post(PATH, {**ASK, "stream": stream})
            status, headers = await clients[2].head()
            error = json.loads(await clients[2].reader.readexactly(int(headers["content-length"])))[
                "error"
            ]
        assert (status, error["code"], error["source"]) == (429, "admission_reject", "gateway")
        assert int(headers["retry-after"]) >= 1
        assert int(headers["retry-after-ms"]) >= 1
        assert headers["x-worker-attempts"] == "0"
        await until(lambda: not served.gateway.table)
        assert len(server.posts) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_the_job_of_a_client_that_left_the_queue_never_reaches_an_engine(
    start: Start, *, stream: bool
) -> None:
    """A client that leaves while its job waits takes the job with it; the next one is served."""
    release = asyncio.Event()

    async def held(request: Request, wire: Wire) -> None:
        await release.wait()
        await hello(request, wire)

    async with engine(held) as server, AdapterHost() as host:
        host.set_policy("default", PoolPolicy(max_in_flight=1))
        host.bind("default", "r0", bound(server))
        await host.check("default")
        served = await start(host=host)
        running = served.gateway.table
        async with RawClient(served.port) as first, RawClient(served.port) as last:
            first.post(PATH, STREAM, X_Request_Id="first")
            await until(lambda: server.posts)
            async with RawClient(served.port) as leaver:
                leaver.post(PATH, {**ASK, "stream": stream}, X_Request_Id="leaver")
                await until(lambda: "leaver" in running)
                last.post(PATH, STREAM, X_Request_Id="last")
                await until(lambda: "last" in running)
            await until(lambda: "leaver" not in running)
            release.set()
            for client in (first, last):
                assert (await client.head())[0] == 200
                assert text_of(events(await client.body())) == "Hello"
        assert len(server.posts) == 2
        assert served.gateway.recent[0].code == "CANCELLED"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_token_frees_its_engine(
    start: Start, *, stream: bool
) -> None:
    """The connection to the engine is closed, streamed or not."""
    async with engine(silent) as server:
        served = await start(bound(server))
        async with RawClient(served.port) as client:
            client.post(PATH, {**ASK, "stream": stream})
            await until(lambda: server.posts)
        await until(lambda: not served.gateway.table)
        await until(lambda: not server.tasks)


async def test_a_trace_goes_on_to_the_engine(start: Start, http: httpx.AsyncClient) -> None:
    """The headers of a client's trace reach the engine, and those of another job do not."""
    trace = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "vendor=1",
    }
    async with engine(hello) as server:
        served = await start(bound(server))
        for headers in (trace, {}):
            answer = await http.post(served.url + PATH, json=ASK, headers=headers)
            assert answer.status_code == 200
        sent = [{name: post.headers.get(name) for name in trace} for post in server.posts]
    assert sent == [trace, dict.fromkeys(trace)]


async def test_an_engines_refusal_is_passed_on(start: Start, http: httpx.AsyncClient) -> None:
    """The status, the time to wait and the source of an engine's error reach the client."""

    async def busy(_: Request, wire: Wire) -> None:
        complaint = {"error": {"message": "too many requests"}}
        await wire.answer_json(429, complaint, "Retry-After: 7")

    async with engine(busy) as server, AdapterHost() as host:
        host.set_policy("default", PoolPolicy(max_attempts=1))
        host.bind("default", "r0", bound(server))
        await host.check("default")
        served = await start(host=host)
        answer = await http.post(served.url + PATH, json=ASK)
    assert (answer.status_code, answer.json()["error"]["source"]) == (429, "engine")
    assert 6 <= int(answer.headers["retry-after"]) <= 7
    assert answer.headers["x-worker-replica"] == "r0"


@pytest.mark.parametrize(("code", "told"), [("QUOTA_EXHAUSTED", "false"), ("WORKER_RESET", None)])
async def test_what_lasts_is_not_to_be_repeated(
    start: Start, http: httpx.AsyncClient, code: str, told: str | None
) -> None:
    """OpenAI's clients repeat a 429 and a 502, unless the answer says that it is no use."""
    served = await start(registry.get("mock", {"error_code": code}))
    answer = await http.post(served.url + PATH, json=ASK, headers={"X-Request-Timeout": "5"})
    assert answer.headers.get("x-should-retry") == told


async def _burst(gateways: list[Served], count: int) -> list[tuple[int, str]]:
    """Send requests to gateways in turn, some at a time; return statuses and texts."""
    room = asyncio.Semaphore(10)

    async def ask(number: int) -> tuple[int, str]:
        async with room, RawClient(gateways[number % len(gateways)].port) as client:
            client.post(PATH, STREAM)
            status, headers = await client.head()
            if "content-length" in headers:
                return status, ""
            found = events(await client.body())
            return status, text_of(found[:-1]) if found[-1] == "[DONE]" else ""

    return await asyncio.gather(*map(ask, range(count)))


async def test_a_reload_under_load_loses_no_job(start: Start, tmp_path: Path) -> None:
    """While the workers file changes again and again, every request gets its whole answer."""
    file = tmp_path / "workers.toml"

    def declare(version: int, *urls: str) -> None:
        replicas = [
            f'[[replicas]]\npool = "default"\nreplica = "r{number}"\nadapter = "openai-http"\n'
            f'options = {{ base_url = "{url}", dialect = "vllm", stall_timeout_s = {version} }}\n'
            for number, url in enumerate(urls)
        ]
        draft = tmp_path / "draft.toml"
        draft.write_text("".join(replicas))
        draft.replace(file)

    async with engine(hello) as one, engine(hello) as two, AdapterHost() as host:
        declare(10, one.base_url)
        async with WorkersWatch(host, file, interval_s=0.02):
            await host.check("default")
            served = await start(host=host)
            burst = asyncio.create_task(_burst([served], 200))
            for version in range(11, 21):
                urls = (one.base_url, two.base_url)
                declare(version, *(urls if version % 2 else urls[::-1]))
                await asyncio.sleep(0.05)
            answers = await burst
    assert answers == [(200, "Hello")] * 200
    assert one.posts
    assert two.posts


async def test_two_gateways_share_engines_and_nothing_else(start: Start) -> None:
    """Gateways side by side over the same engines answer everything, each with its own jobs."""
    async with engine(hello) as one, engine(hello) as two:
        first = await start(bound(one), bound(two))
        second = await start(bound(one), bound(two))
        answers = await _burst([first, second], 60)
        assert answers == [(200, "Hello")] * 60
        assert [each.gateway.table.totals.answered for each in (first, second)] == [30, 30]
    assert len(one.posts) + len(two.posts) == 60
