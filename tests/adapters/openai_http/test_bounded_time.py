"""No input within its bounds holds the event loop for long: by growth, and against a reference.

Figures are printed (`pytest -s`); docs/explanation/promises.md repeats them.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from time import thread_time
from typing import Any

import httpx
import pytest

from adapter_api import TaskRequest, WorkerError
from adapters.http_util import error_from_response, read_error_body, safe_text
from adapters.http_util.delays import delay_in_words_ms, retry_after_ms
from adapters.http_util.meaning import code_for
from adapters.http_util.secrets import MAX_SEARCHED_CHARS
from adapters.openai_http import OpenAIHttpAdapter
from adapters.openai_http.answer import AnswerReader
from adapters.openai_http.attempt import MAX_ERROR_BYTES
from adapters.openai_http.body import MAX_PIECE_BYTES
from adapters.openai_http.credentials import MAX_REMEMBERED
from adapters.openai_http.endings import classify
from adapters.openai_http.facts import MAX_NAME_CHARS
from adapters.openai_http.framing import MAX_JSON_BYTES
from adapters.openai_http.models import MAX_MODELS_CHARS
from adapters.openai_http.outcome import Wanted
from adapters.openai_http.payload import MAX_UNTYPED_VALUES
from adapters.openai_http.refusals import refused_fields
from tests.timing import assert_linear, least_cost_s

pytestmark = pytest.mark.timing

REFERENCE_STEPS = 1_000_000
"""Steps of an empty loop that take 10 ms on the machine where the bounds were chosen."""

SECRETS = tuple(f"sk-{n:02d}abcdefghijklmnopqrstuvwxyz0123456789AB" for n in range(MAX_REMEMBERED))
"""As many as an adapter remembers."""

EVERYTHING = Wanted(reasoning=True, history=True, logprobs=True)


def _reference_s() -> float:
    """Return what counts as 50 ms on this machine, now."""

    def steps() -> None:
        for _ in range(REFERENCE_STEPS):
            pass

    return 5 * least_cost_s(steps)


def _events(payload: str) -> bytes:
    return f"data: {payload}\n\n".encode()


FIRST = _events('{"id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}')
CALL = _events(
    '{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":'
    '{"name":"f","arguments":"["}}]}}]}'
)

LINES: dict[str, bytes] = {
    "empty objects": b"{}\n",
    "choices without content": _events('{"choices":[{}]}'),
    "halves of characters": _events('{"choices":[{"delta":{"content":"\\ud83d"}}]}'),
    "unknown lines": b"x:y\n",
    "chunks as lines": b'{"choices":[{"delta":{"content":"a"}}]}\n',
    "names": _events('{"id":"a","choices":[{}]}') + _events('{"id":"b","choices":[{}]}'),
    "reasoning": _events('{"choices":[{"delta":{"reasoning":"a"}}]}'),
    "details": _events('{"choices":[{"delta":{"reasoning_details":[{"text":"a"}]}}]}'),
    "pings": b"event: ping\ndata: {}\n\n",
    "calls without index": _events(
        '{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"1"}}]}}]}'
    ),
    "scores": _events(
        '{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-1}]}}]}'
    ),
    "finish reasons": _events('{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}'),
    "usage": _events('{"usage":{"completion_tokens":1},"choices":[{}]}'),
    "text": _events('{"choices":[{"index":0,"delta":{"content":"a"}}]}'),
    "text with CRLF": b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\r\n\r\n',
    "joined events": b'data: {"choices":[{"delta":{"content":"a"}}]}\n',
    "comments": b":\n",
    "blank lines": b"\n",
    "carriage returns": b"\r",
    "data lines": b"data\n",
    "events without data": b"event: e\n\n",
}

COSTLY = ("empty objects", "choices without content", "halves of characters", "unknown lines")
"""Those that took longest."""


def _sampled(names: Any, kept: Any) -> list[Any]:
    """Mark all but `kept` exhaustive."""
    return [n if n in kept else pytest.param(n, marks=pytest.mark.exhaustive) for n in names]


def _reading(kind: str) -> Callable[[int], object]:
    line = LINES[kind]

    def read(size: int) -> None:
        reader = AnswerReader(EVERYTHING, secrets=SECRETS)
        if not line.startswith(b"{"):
            reader.feed(FIRST + (CALL if "call" in kind else b""))
        reader.feed(line * (size // len(line)))

    return read


@pytest.mark.parametrize("kind", _sampled(LINES, COSTLY[:2]))
def test_reading_grows_linearly(kind: str) -> None:
    """Sixteen times the bytes of one read."""
    assert_linear(_reading(kind), MAX_PIECE_BYTES // 16)


PIECES = ["\\", "%41", "\n", "&amp;", "api_key=\\", "sk-00ab", "(b'", "://", "bearer ", "token=1a",
          "context ", "model ", "exceed ", "token ", "1 ", " ", "x", "try again in 1", "{", "[{",
          '{"a":', '"', "Error: 4", "err_", "aA", "&#x41;", "\\u0041", "password=a1",
          "\u4e0a\u4e0b\u6587", "status code 4", "<script", "<", "wait 1 d ",
          "=41", "\\101", "41,0x"]  # fmt: skip

HOSTILE = ("\\", "sk-00ab", "{", "<script")


def _wordings(piece: str) -> dict[str, Callable[[int], object]]:
    """Return what reads a server's words, as functions of their length."""

    def text(size: int) -> str:
        return piece * (size // len(piece))

    return {
        "safe_text": lambda n: safe_text(text(n), SECRETS),
        "a body": lambda n: read_error_body(text(n).encode(), SECRETS),
        "an error": lambda n: error_from_response(
            400, {}, json.dumps({"error": {"message": text(n), "code": text(n)}}).encode()
        ),
        "a delay": lambda n: delay_in_words_ms(text(n)),
        "headers": lambda n: retry_after_ms(
            {"retry-after": text(n), "x-ratelimit-reset": text(n), "ratelimit": text(n)}
        ),
        "a finish_reason": lambda n: classify(text(n)),
        "a refusal": lambda n: refused_fields(
            400, read_error_body(text(n).encode()), {"seed", "max_tokens"}, chat=True
        ),
        "a meaning": lambda n: code_for(None, read_error_body(text(n).encode())),
    }


@pytest.mark.parametrize("piece", _sampled(PIECES, HOSTILE[:2]))
def test_reading_words_grows_linearly(piece: str) -> None:
    """The patterns are linear where a server decides the length."""
    found = _wordings(piece)
    for name in ("safe_text", "a body", "a delay"):
        assert_linear(found[name], MAX_SEARCHED_CHARS // 16)


DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "a long text": lambda: _document('{"content":"%s"}' % ("a" * (MAX_JSON_BYTES - 100))),
    "lists": lambda: _document('{"content":"a"}', "[]," * ((MAX_JSON_BYTES - 100) // 3) + "[]"),
    "values": lambda: _document('{"content":"a"}', "1," * (MAX_UNTYPED_VALUES - 100) + "1"),
    "objects": lambda: _document('{"content":"a"}', '{"a":1},' * (MAX_UNTYPED_VALUES // 2) + "1"),
    "words": lambda: _document('{"content":"a"}', '"aaaaaaaaaaaaaaaaaaa",' * 40_000 + "1"),
    "an error": lambda: b'{"error":{"message":"%s"}}' % (b"x" * (MAX_JSON_BYTES - 100)),
    "nested": lambda: b"[" * (MAX_JSON_BYTES // 2) + b"]" * (MAX_JSON_BYTES // 2),
    "arguments": lambda: _document(
        json.dumps(
            {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[" * 7_000_000}}]}
        )
    ),
    "reasoning": lambda: _document('{"content":"a","reasoning":"%s"}' % ("a" * 8_000_000)),
}


def _document(message: str, more: str = "") -> bytes:
    return (f'{{"choices":[{{"message":{message},"finish_reason":"stop"}}],"x":[{more}]}}').encode()


def _ending(body: bytes) -> None:
    """Read a whole document; all of the work is done at its end."""
    reader = AnswerReader(EVERYTHING, secrets=SECRETS)
    reader.feed(body)
    reader.end()
    with suppress(WorkerError):
        reader.finish()


def _work(every: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each call, at the bound of its input."""
    for kind in LINES if every else COSTLY[:2]:
        yield f"reading {kind}", partial(_reading(kind), MAX_PIECE_BYTES)
    for piece in PIECES if every else HOSTILE[:2]:
        for name, work in _wordings(piece).items():
            yield f"{name} of {piece!r}", partial(work, MAX_ERROR_BYTES)
    for piece in ("x", "%41") if every else ("%41",):
        yield f"names of models of {piece!r}", partial(_naming, piece)
    for name in DOCUMENTS if every else ("lists",):
        yield f"a document of {name}", partial(_ending, DOCUMENTS[name]())


@pytest.mark.parametrize("which", _sampled(["worst", "all"], ["worst"]))
def test_no_call_takes_as_long_as_50_ms(which: str) -> None:
    """One read, one error, one document at its bound, in processor time of this run."""
    costs = {name: least_cost_s(work, 2) for name, work in _work(which == "all")}
    reference = _reference_s()
    worst = sorted(costs.items(), key=lambda item: -item[1])
    for name, cost_s in worst[:6]:
        print(f"{name}: {cost_s / reference * 50:.1f} ms where the reference takes 50 ms")
    assert worst[0][1] < reference, worst[:6]


def _naming(piece: str) -> None:
    """Read a list with as many and as long names as are kept."""
    for number in range(MAX_MODELS_CHARS // 64):
        safe_text(f"{number:04d}{piece * 64}"[:64], SECRETS, MAX_NAME_CHARS)


JOBS = {
    "a document": lambda: DOCUMENTS["lists"](),
    "reads of everything at once": lambda: FIRST + LINES["choices without content"] * 40_000,
    "joined events": lambda: FIRST + LINES["joined events"] * 4_000 + b"\n",
    "lines": lambda: LINES["chunks as lines"] * 50_000,
}


@pytest.mark.parametrize("kind", _sampled(JOBS, ["reads of everything at once"]))
async def test_a_job_leaves_the_loop_to_others_within_100_ms(kind: str) -> None:
    """A transport that gives the whole body at once is read piece by piece, with turns between."""
    body = JOBS[kind]()
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    turns: list[float] = []
    done = False

    async def others() -> None:
        while not done:
            turns.append(thread_time())
            await asyncio.sleep(0)

    task = TaskRequest(messages=[{"role": "user", "content": "hi"}], max_attempts=1)
    async with OpenAIHttpAdapter("http://engine", transport=transport) as adapter:
        watch = asyncio.create_task(others())
        with suppress(WorkerError):
            async for _ in adapter.submit(task):
                pass
        done = True
        await watch
    turns.append(thread_time())
    longest = max(after - before for before, after in pairwise(turns))
    reference = _reference_s()
    print(f"{kind}: {longest / reference * 50:.1f} ms where the reference takes 50 ms")
    assert longest < 2 * reference
