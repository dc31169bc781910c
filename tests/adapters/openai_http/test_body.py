"""Bodies of every kind, in any pieces: over sockets, what arrives is whole or it is an error."""

import asyncio
import random
from typing import Any

import pytest

from adapter_api import (
    End,
    ErrorCode,
    Started,
    TaskRequest,
    Token,
    WorkerError,
)
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.framing import MAX_BLANK_BYTES, MAX_PAGE_BYTES
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import answers, completion, sends, sse
from tests.openai_chunks import RECORDED, STREAMS, piece, recorded, usage

PROMPT = TaskRequest(prompt="hi")
MESSAGES = TaskRequest(messages=[{"role": "user", "content": "hi"}])
WHOLE = sse(*completion())
OK = "Hello world"
TEXT_OF = {"b": "~\x17\ufffd world\ufffd44as", "c": '5\ufffd\ufffdel naïve"upon'}
"""The recorded model's answers: completions (b) and chats (c)."""


TEXT_OF_LCP = {"b": "~\x17 world44as", "c": '5el naïve"upon"L'}
"""The same from llama-cpp-python, which drops bytes that are not UTF-8."""


RAW = sorted(
    str(path.relative_to(RECORDED))
    for path in RECORDED.rglob("*_stream_raw.txt")
    if path.parent.name != "transformers-serve"  # a name was shortened there, the framing was not
)
"""Answers with the framing of their chunks."""


async def _failure(adapter: OpenAIHttpAdapter, task: TaskRequest = PROMPT) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await adapter.submit(task).text()
    return caught.value


def _split(data: bytes, rng: random.Random, pieces: int) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(pieces - 1))
    return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# What real servers sent


def _check_recorded(name: str, events: list[Any]) -> None:
    server, file = name.split("/")
    kind = file[0]
    expected = (TEXT_OF_LCP if server == "llama-cpp-python" else TEXT_OF)[kind]
    assert "".join(e.text for e in events if isinstance(e, Token)) == expected
    end = events[-1]
    assert isinstance(end, End)
    assert (end.finish_reason, end.proof) == ("length", "finish_reason")
    if b'"usage":{' in (RECORDED / name).read_bytes():
        assert end.metrics.usage_source == "engine"
        assert end.metrics.tokens_generated == 8
        assert end.metrics.prompt_tokens == (2 if kind == "b" else 17)
    else:
        assert end.metrics.usage_source == "counted"


ENGINES = {"llama-server": "llama.cpp", "transformers-serve": "transformers"}
"""Their names in Started, if these differ from the names of their recordings."""


@pytest.mark.parametrize("name", STREAMS)
async def test_recorded_answers_are_whole_however_they_are_split(
    serving: Serving, name: str
) -> None:
    """HTU-1003: text, finish and usage are what the engine meant, however the bytes are split, and
    the server is recognized."""
    _, headers, body = recorded(name)
    rng = random.Random(name)
    kept = {k: v for k, v in headers.items() if k not in ("transfer-encoding", "content-type")}
    splits = [[body], [body[:1], body[1:]], *(_split(body, rng, n) for n in (2, 7, 40))]
    task = PROMPT if "/b_" in name else MESSAGES
    for pieces in splits:
        async with serving(sends(*pieces, headers=kept, pause_s=0)) as (_, adapter):
            events = [event async for event in adapter.submit(task)]
        _check_recorded(name, events)
        server = name.split("/")[0]
        assert events[0].engine == ENGINES.get(server, server)


@pytest.mark.parametrize("name", RAW)
async def test_recorded_bytes_are_whole_however_they_are_split(serving: Serving, name: str) -> None:
    """The same with the very bytes of the connection: status line, headers, chunks and all."""
    data = (RECORDED / name).read_bytes()
    rng = random.Random(name)
    rest = [[data], *(_split(data, rng, n) for n in (2, 5, 30, 60))]

    async def script(request: Request, wire: Wire) -> None:
        for part in filter(None, rest.pop()):
            await wire.raw(part)
            await asyncio.sleep(0)

    async with serving(script) as (server, adapter):
        while rest:
            _check_recorded(name, [event async for event in adapter.submit(PROMPT)])
        assert len(server.connections) == 1  # each answer left it usable


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf", b": hello\n\n", b"\n\n"])
async def test_line_ends_and_beginnings(serving: Serving, ends: bytes, prefix: bytes) -> None:
    """LF, CRLF and CR, a byte order mark, a comment, blank lines: byte for byte."""
    body = (prefix + WHOLE).replace(b"\n", ends)
    pieces = [body[i : i + 1] for i in range(len(body))]
    async with serving(sends(*pieces)) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == OK


# Plain JSON


def _plain(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "text": "all at once", "finish_reason": "stop"}
    return {"id": "x", "choices": [choice], "usage": usage(1, 3)["usage"], **more}


async def test_a_plain_json_answer_is_one_token(serving: Serving) -> None:
    """From both endpoints, with the engine's usage."""
    message = {"role": "assistant", "content": "all at once"}
    chat = _plain(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    for task, payload in ((PROMPT, _plain()), (MESSAGES, chat)):
        async with serving(answers(payload)) as (_, adapter):
            events = [event async for event in adapter.submit(task)]
        assert [type(event) for event in events] == [Started, Token, End]
        assert events[1].text == "all at once"
        assert events[2].metrics.tokens_generated == 3


@pytest.mark.parametrize("blanks", [b" ", b"\n\n \t", b" " * MAX_BLANK_BYTES])
async def test_blanks_before_an_answer_are_nothing(serving: Serving, blanks: bytes) -> None:
    """Some servers keep the connection alive with them until the answer begins."""
    json_bytes = b'{"choices":[{"text":"x","finish_reason":"stop"}]}'
    for body, text in ((json_bytes, "x"), (b"\n" + WHOLE, OK)):
        async with serving(sends(*[blanks[i : i + 1] for i in range(9)], body)) as (_, adapter):
            assert await adapter.submit(PROMPT).text() == text
        async with serving(sends(blanks, body, pause_s=0.01)) as (_, adapter):
            assert await adapter.submit(PROMPT).text() == (text if body[:1] == b"{" else OK)


async def test_endless_blanks_are_not_an_answer(serving: Serving) -> None:
    """They take neither memory nor more time than the first token may."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        while not wire.gone:
            await wire.chunk(b" " * 4096)
            await asyncio.sleep(0.001)

    async with serving(script, first_token_timeout_s=0.2) as (server, adapter):
        assert (await _failure(adapter)).code in (
            ErrorCode.DECODE_TIMEOUT,
            ErrorCode.UPSTREAM_PROTOCOL,
        )
        assert await server.all_closed()


NO_ANSWERS: list[tuple[bytes, ErrorCode, str]] = [
    (b"", ErrorCode.STREAM_TRUNCATED, "no answer"),
    (b"  \n", ErrorCode.STREAM_TRUNCATED, "no answer"),
    (b"<html><title>Login</title>", ErrorCode.UPSTREAM_PROTOCOL, "Login"),
    (b" <!DOCTYPE html>" + b"x" * (2 * MAX_PAGE_BYTES), ErrorCode.UPSTREAM_PROTOCOL, "base_url"),
    (b'{"choices":[{"te', ErrorCode.STREAM_TRUNCATED, "cut off"),
    (b"{not json}", ErrorCode.UPSTREAM_PROTOCOL, "not JSON"),
    (b"{}", ErrorCode.STREAM_TRUNCATED, "no answer"),
    (b'{"error":{"message":"boom"}}', ErrorCode.WORKER_RESET, "boom"),
    (b'{"object":"error","message":"boom","code":400}', ErrorCode.INVALID_PARAMS, "boom"),
    (b'{"detail":"boom"}', ErrorCode.WORKER_RESET, "boom"),
    (b"Internal Server Error", ErrorCode.WORKER_RESET, "Internal Server Error"),
    (b"data: " + b"x" * (2 << 20), ErrorCode.UPSTREAM_PROTOCOL, "not a plain chunk"),
    (sse(piece("a")) + b'data: {"error": "boom"}\n\ndata: [DONE]\n\n', ErrorCode.WORKER_RESET,
     "boom"),
    (sse(piece("a")), ErrorCode.STREAM_TRUNCATED, "without a finish_reason"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "says"), NO_ANSWERS, ids=lambda v: str(v)[:40])
async def test_a_200_that_is_not_an_answer(
    serving: Serving, body: bytes, code: ErrorCode, says: str
) -> None:
    """HTML, nothing, text, cut JSON, errors in JSON: one error each, one request."""
    async with serving(sends(body)) as (server, adapter):
        error = await _failure(adapter)
        assert len(server.requests) == 1
    assert error.code is code
    assert says in error.message


async def test_a_json_answer_has_a_bound(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than any model's longest output is an error, and the connection is closed."""
    monkeypatch.setattr("adapters.openai_http.framing.MAX_JSON_BYTES", 1000)

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(b'{"choices":[{"text":"')
        while not wire.gone:
            await wire.chunk(b"x" * 500)
            await asyncio.sleep(0.001)

    async with serving(script) as (server, adapter):
        error = await _failure(adapter)
        assert await server.all_closed()
    assert (error.code, "longer than 1000" in error.message) == (ErrorCode.UPSTREAM_PROTOCOL, True)


@pytest.mark.parametrize("coding", ["none", "UTF-8", "identity", ""])
async def test_a_content_encoding_that_compresses_nothing_is_read(
    serving: Serving, coding: str
) -> None:
    """Web frameworks write it there to keep proxies from compressing a stream."""
    async with serving(sends(WHOLE, headers={"Content-Encoding": coding})) as (
        _,
        adapter,
    ):
        assert await adapter.submit(PROMPT).text() == OK


async def test_a_compressed_answer_is_refused(serving: Serving) -> None:
    """The request did not accept it, and it may be a bomb."""
    async with serving(sends(b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"})) as (
        _,
        adapter,
    ):
        error = await _failure(adapter)
    assert error.code is ErrorCode.UPSTREAM_PROTOCOL
    assert "compressed" in error.message
