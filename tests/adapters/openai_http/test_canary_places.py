"""Credentials other than the key, and the files of a long run: a canary is in none of them."""

import asyncio
import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import registry
from adapter_api import TaskRequest, WorkerError
from adapter_api.faults import Request, ScriptServer, Wire
from registry import AdapterHost
from registry.serving.lines import LineReader, LineWriter
from registry.serving.state import StateWriter
from registry.serving.stdin import StdinJobs
from tests.adapters.openai_http.test_canary import KEY, SPELLINGS, _answer, _leak, _shown

Options = dict[str, Any]

QUOTED = quote(KEY, safe="")
HOLDERS: dict[str, Callable[[str], Options]] = {
    "userinfo": lambda url: {"base_url": url.replace("://", f"://me-too:{QUOTED}@")},
    "basic_auth": lambda url: {"base_url": url, "basic_auth": f"me-too:{KEY}"},
    "header": lambda url: {"base_url": url, "headers": {"X-Gateway-Key": KEY}},
    "query": lambda url: {"base_url": f"{url}/chat/completions?sig={QUOTED}"},
    "proxy": lambda url: {
        "base_url": "http://engine.test/v1",
        "proxy": url.replace("://", f"://me-too:{QUOTED}@").removesuffix("/v1"),
    },
}
"""Options that hold the canary, for a server's URL."""

PLACES = ["407", "refusal", "names", "finish_reason", "models", "health", "not JSON"]
TASK = TaskRequest(messages=[{"role": "user", "content": "hi"}], max_attempts=1)


async def _proxy_answer(where: str, text: str, request: Request, wire: Wire) -> None:
    if where == "407":
        page = json.dumps({"error": {"message": f"no {text}"}}).encode()
        await wire.answer(407, page, f"Proxy-Authenticate: {KEY}")
    else:
        await _answer(where, text, request, wire)


async def _check(
    holder: str, where: str, names: list[str], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # of all loggers: httpx logs each URL
    text = ""

    async def script(request: Request, wire: Wire) -> None:
        await _proxy_answer(where, text, request, wire)

    async with ScriptServer(script) as server:
        options = HOLDERS[holder](f"{server.base_url}/v1")
        for name in names:
            text = SPELLINGS[name]
            recording = folder / f"{name}.jsonl"
            shown = await _shown(recording, caplog, **options)
            for said in (*shown, recording.read_text("utf-8")):
                assert not _leak(said), (name, _leak(said))
        assert server.requests


@pytest.mark.parametrize(("number", "holder"), [*enumerate(HOLDERS)])
async def test_no_credential_of_any_option_is_shown(
    number: int, holder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """HTU-1004: another place and another spelling for each."""
    await _check(holder, PLACES[number], [[*SPELLINGS][3 * number]], tmp_path, caplog)


@pytest.mark.exhaustive
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("holder", HOLDERS)
async def test_no_spelling_of_any_credential_is_shown_anywhere(
    holder: str, where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every spelling in every place."""
    await _check(holder, where, [*SPELLINGS], tmp_path, caplog)


async def test_a_proxy_that_refuses_a_tunnel_does_not_show_its_password() -> None:
    """Its reason phrase is the text of a foreign exception, which is a cause."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 407 no {KEY}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        proxy = f"http://me-too:{QUOTED}@127.0.0.1:{port}"
        adapter = registry.get("openai-http", base_url="https://engine.test", proxy=proxy)
        with pytest.raises(WorkerError) as caught:
            await adapter.submit(TASK).text()
        health = await adapter.health()
        await adapter.aclose()
    shown = "".join(traceback.format_exception(caught.value))
    assert "407" in shown
    assert not _leak(shown + repr(health))


@pytest.mark.parametrize(
    "base_url",
    [f"http://me:{KEY}@ho st/", f"http://me:{KEY}@h:1x/", f"http://h:{KEY}/", f"http://{KEY}@h!/",
     f"http://me/{KEY}@h/", f"http://me:{QUOTED}@h/#x", f"http://me:{QUOTED}@h..x/"],
)  # fmt: skip
def test_an_invalid_url_is_refused_unseen(base_url: str) -> None:
    """At construction, as base_url and as a proxy, with no cause that shows it."""
    for options in ({"base_url": base_url}, {"base_url": "http://h", "proxy": base_url}):
        if "proxy" in options and base_url.endswith(("@h/", "#x")):
            continue  # what follows a proxy's host and port means nothing
        with pytest.raises(ValueError, match="base_url|proxy") as caught:
            registry.get("openai-http", **options)
        assert not _leak("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize(
    ("where", "spelling"), [("refusal", "url"), ("names", "plain"), ("finish_reason", "unicode")]
)
async def test_the_files_of_a_long_run_do_not_hold_the_key(
    where: str, spelling: str, tmp_path: Path
) -> None:
    """State folder and frames, of jobs that fail and of jobs that end well."""

    async def script(request: Request, wire: Wire) -> None:
        await _answer(where, SPELLINGS[spelling], request, wire)

    jobs, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    jobs.write_text('{"job_id": "j", "prompt": "hi", "max_attempts": 1}\n')
    state = StateWriter(tmp_path / "state")
    async with ScriptServer(script) as server:
        adapter = registry.get("openai-http", base_url=f"{server.base_url}/v1", api_key=KEY)
        async with AdapterHost() as host:
            host.bind("p", "r0", adapter)
            with jobs.open("rb") as lines, out.open("wb") as sink:
                writer = LineWriter(sink.fileno(), lambda error: None)
                runs = StdinJobs(host, writer, state, 1)
                await runs.read(LineReader(lines.fileno()))
                await runs.finish()
                runs.save()
                await host.health("p")
                runs.save(running=False)
    state.close()
    files = [out, *state.folder.iterdir()]
    assert len(files) == 3
    for file in files:
        content = file.read_text()
        assert content
        assert not _leak(content), file.name
