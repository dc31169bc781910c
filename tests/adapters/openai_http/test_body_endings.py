"""The body of an answer: what comes after the finish, and anything at all."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import (
    End,
    Error,
    ErrorCode,
    StreamClock,
    TaskRequest,
    Token,
    WorkerError,
)
from adapter_api.faults import Request, Wire
from adapters.openai_http import OpenAIHttpAdapter, RetryPolicy
from adapters.openai_http.body import LINGER_S, MAX_PIECE_BYTES, Body
from adapters.openai_http.outcome import Phase
from tests.adapters.openai_http.conftest import Serving
from tests.fake_openai import FakeOpenAI, Handler, answers, completion, sends, sse, streams
from tests.openai_chunks import delta, piece, usage
from tests.strategies import json_values
from tests.virtual_time import now_s

PROMPT = TaskRequest(prompt="hi")
MESSAGES = TaskRequest(messages=[{"role": "user", "content": "hi"}])
WHOLE = sse(*completion())
OK = "Hello world"


# After the finish


@pytest.mark.parametrize("after", ["nothing", "pings", "usage then pings", "reset"])
@pytest.mark.parametrize("deadline_s", [None, 0.5])
async def test_after_the_finish_nothing_is_waited_for_long(
    serving: Serving, after: str, deadline_s: float | None
) -> None:
    """The answer is whole at its finish_reason: whatever the server does then costs a second at
    most, and neither stall limit, deadline nor broken connection makes an error of it."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.event(piece("a"))
        await wire.event(piece("", "stop"))
        if "usage" in after:
            await wire.event(usage(2, 8))
        if after == "reset":
            await wire.reset()
        while "pings" in after and not wire.gone:
            await wire.chunk(b": ping\n\n" + sse({"choices": []}))
            await asyncio.sleep(0.02)
        await wire.until_closed()

    async with serving(script, stall_timeout_s=0.2) as (_, adapter):
        began = now_s()
        task = TaskRequest(prompt="x", deadline_s=deadline_s)
        events = [event async for event in adapter.submit(task)]
        assert now_s() - began < 3
    assert isinstance(events[-1], End)
    assert events[-1].metrics.usage_source == ("engine" if "usage" in after else "counted")


async def test_text_after_a_finish_reason_is_not_lost(serving: Serving) -> None:
    """A server that sends a finish_reason with every piece is read to its end, however slow."""
    handler = streams(*[piece(text, "stop") for text in "abcd"], "[DONE]", pause_s=0.4)
    async with serving(handler) as (_, adapter):
        assert await adapter.submit(PROMPT).text() == "abcd"


async def test_a_finish_reason_with_every_piece_proves_nothing(serving: Serving) -> None:
    """Where text follows a finish_reason, the deadline cuts the answer like any other."""
    handler = streams(*[piece("a", "stop")] * 50, "[DONE]", pause_s=0.1)
    async with serving(handler) as (_, adapter):
        task = TaskRequest(prompt="x", deadline_s=0.5)
        events = [event async for event in adapter.submit(task).frames()]
    assert events[-1]["code"] == "DEADLINE_UNMET"


@pytest.mark.parametrize("dripping", [False, True])
async def test_after_done_only_the_end_of_the_body_is_awaited(
    serving: Serving, dripping: bool
) -> None:
    """It keeps the connection usable where it comes, and costs little where it does not."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(WHOLE)
        while dripping and not wire.gone:
            await wire.chunk(b": ping\n\n")
            await asyncio.sleep(0.005)
        await wire.until_closed()

    async with serving(script) as (server, adapter):
        began = now_s()
        assert await adapter.submit(PROMPT).text() == OK
        assert now_s() - began < LINGER_S * 0.9
        assert await server.all_closed()


async def test_a_connection_that_breaks_after_done_does_no_harm(serving: Serving) -> None:
    """The answer is whole; the next job gets a new connection."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(WHOLE)
        await wire.reset()

    async with serving(script) as (server, adapter):
        for _ in range(2):
            assert await adapter.submit(PROMPT).text() == OK
        assert len(server.connections) == 2


# Anything at all


async def _run(handler: Handler, task: TaskRequest) -> list[Any]:
    """The events of a job, a failure before Started as an Error. Asserts what must always hold."""
    began = now_s()
    async with (
        FakeOpenAI({"*": handler}) as server,
        OpenAIHttpAdapter(
            server.base_url,
            first_token_timeout_s=1,
            stall_timeout_s=1,
            retry=RetryPolicy(attempts=1),
        ) as adapter,
    ):
        events: list[Any] = []
        try:
            async for event in adapter.submit(task):
                events.append(event)
                if isinstance(event, Error):
                    break
        except WorkerError as error:
            assert events == []
            events.append(Error(error))
        assert server.failures == []
    assert now_s() - began < 5
    last = events[-1]
    assert isinstance(last, End | Error)
    if isinstance(last, Error):
        assert last.error.code is not ErrorCode.INTERNAL
        assert len(last.error.message) < 2000
    tokens = [event for event in events if isinstance(event, Token)]
    assert [token.index for token in tokens] == list(range(len(tokens)))
    for token in tokens:
        assert token.text
        token.text.encode()
    return events


def _pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for i, j in pairwise(at):
        yield data[i:j]


_cuts = st.lists(st.integers(0, 5000), max_size=4)


_scraps = st.sampled_from(
    [b"data: ", b"data:", b"\n", b"\r", b"\n\n", b"event: error\n", b"event: ping\n", b"[DONE]",
     b"{", b"}", b'{"choices":[{"text":"x","index":0}]}', b'{"choices":[{"finish_reason":"stop"}]}',
     b'{"error":"e"}', b"\xff", b"\xef\xbb\xbf", b"null", b": ", b"id: 1\n", b"<", b"\0", b" "]
)  # fmt: skip


_garbage = st.binary(max_size=60) | st.lists(_scraps, max_size=12).map(b"".join)


@settings(max_examples=80)
@given(_garbage, _cuts, st.booleans())
def test_any_bytes_end_in_an_answer_or_an_error(
    data: bytes, cuts: list[int], after_token: bool
) -> None:
    """Whatever a server sends, before a token or after: End or one WorkerError, in bounded time."""
    start = [sse(piece("a"))] if after_token else []
    asyncio.run(_run(sends(*start, *_pieces(data, cuts)), PROMPT))


_choice = st.fixed_dictionaries(
    {},
    optional={
        "index": json_values | st.just(0),
        "text": json_values | st.text(max_size=5),
        "delta": json_values | st.fixed_dictionaries({}, optional={"content": json_values}),
        "message": json_values,
        "finish_reason": json_values | st.sampled_from(["stop", "abort", "content_filter", ""]),
        "logprobs": json_values
        | st.fixed_dictionaries(
            {}, optional={"token_logprobs": json_values, "content": json_values}
        ),
    },
)


_chunk = st.fixed_dictionaries(
    {},
    optional={
        "id": json_values,
        "model": json_values,
        "system_fingerprint": json_values,
        "choices": json_values | st.lists(_choice, max_size=2),
        "usage": json_values
        | st.fixed_dictionaries(
            {}, optional={"prompt_tokens": json_values, "completion_tokens": json_values}
        ),
        "error": json_values,
        "detail": json_values,
        "object": json_values | st.just("error"),
    },
)


@settings(max_examples=80)
@given(st.lists(_chunk | json_values, max_size=5), st.sampled_from(["plain", "piece", "delta"]))
def test_any_json_ends_in_an_answer_or_an_error(chunks: list[Any], first: str) -> None:
    """Wrong types in every field of every chunk, and of a plain JSON answer, the same."""
    if first == "plain":
        asyncio.run(_run(answers(chunks[0] if chunks else {}), PROMPT))
        return
    start = piece("a") if first == "piece" else delta({"content": "a"})
    asyncio.run(_run(streams(start, *chunks, "[DONE]"), PROMPT if first == "piece" else MESSAGES))


class _Given:
    """An answer with these pieces."""

    status = 200
    headers = MappingProxyType[str, str]({})
    resent = False

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def read(self) -> bytes:
        return self._pieces.pop(0)

    def ended(self) -> bool:
        return False

    async def aclose(self) -> None:
        pass


async def test_a_large_piece_is_read_in_turns_with_others() -> None:
    """Whatever a transport gives at once is decoded in bounded pieces, and nothing is lost."""
    pieces = [b"x" * (3 * MAX_PIECE_BYTES + 5), b"y", b""]
    body = Body(_Given(pieces), StreamClock(None))
    turns, sizes = 0, []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    watch = asyncio.create_task(others())
    await asyncio.sleep(0)
    seen = []
    while piece := body.cut(await body.read(Phase.OPEN)):
        sizes.append(len(piece))
        seen.append(turns)
    watch.cancel()
    assert sizes == [MAX_PIECE_BYTES] * 3 + [5, 1]
    assert seen[:4] == [*range(seen[0], seen[0] + 4)]
