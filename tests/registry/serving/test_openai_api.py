"""OpenAI's API as data: every body is read or refused, and what is written can be read back."""

import json
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from adapter_api import (
    Answer,
    End,
    Metrics,
    MetricsFrame,
    Reasoning,
    ScoredToken,
    TaskRequest,
    Token,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)
from adapters.openai_http.outcome import Wanted
from registry.serving.openai_api import requests
from registry.serving.openai_api.answers import Chunks, whole
from registry.serving.openai_api.errors import ApiError
from registry.serving.openai_api.requests import ApiRequest, Kind
from tests.adapters.openai_http.reading import EVERYTHING, pieces_of, read

# Requests

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        2**63,
        1.5,
        -1e308,
        "",
        " ",
        "x",
        "auto",
        "none",
        "required",
        "user",
        "assistant",
        "tool",
        "é",
        "\x00",
        "u" * 300,
        [],
        [1],
        ["a"],
        [[]],
        [None],
        [{}],
        {},
        {"a": 1},
        {"type": "x"},
        {"type": "json_object"},
        {"function": []},
        TOOL,
        [TOOL],
        CALL,
        [CALL],
        [{"type": "text", "text": "x"}],
        [{"type": "text", "text": 1}],
        {"include_usage": 1},
    ]
)
MESSAGE = st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls", "tool_call_id", "name", "refusal"]), VALUES
).map(lambda fields: {"role": "user", "content": "x", **fields})
NAMES = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "stream",
        "n",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "logprobs",
        "top_logprobs",
        "stop",
        "temperature",
        "top_p",
        "seed",
        "response_format",
        "reasoning_effort",
        "include_reasoning",
        "user",
        "job_id",
        "extra",
    ]
)
BODIES = st.builds(
    lambda messages, fields: {"messages": messages, "prompt": "x", **fields},
    st.lists(MESSAGE, min_size=1, max_size=3),
    st.dictionaries(NAMES, VALUES, max_size=3),
)
HEADERS = st.dictionaries(
    st.sampled_from(["x-session-id", "x-priority", "x-request-timeout"]),
    st.text(st.characters(max_codepoint=255), max_size=8)
    | st.sampled_from(["batch", "1", "nan", "inf", "-0", "1e400", "1e-400"]),
    max_size=2,
)


@given(kind=st.sampled_from(["chat", "completion"]), fields=BODIES, headers=HEADERS)
@example(kind="chat", fields={"messages": [{"role": "user", "content": "x"}]}, headers={})
def test_every_body_is_a_job_or_refused(
    kind: Kind, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    """A body of any shape becomes a TaskRequest or an ApiError of status 400."""
    try:
        requests.requested_model(fields)
        request = requests.read(kind, "m", fields, headers, model=None)
    except ApiError as error:
        assert error.status == 400
        assert len(error.body()) < 5000
    else:
        assert isinstance(request.task, TaskRequest)
        assert request.stream is (fields.get("stream") is True)


@given(st.binary(max_size=40) | BODIES.map(lambda fields: json.dumps(fields).encode()))
def test_every_text_is_an_object_or_refused(body: bytes) -> None:
    """Bytes of any kind are a JSON object or an ApiError of status 400."""
    try:
        assert isinstance(requests.decode(body), dict)
    except ApiError as error:
        assert (error.status, error.code) == (400, "invalid_json")


def test_a_null_means_that_a_field_is_absent() -> None:
    """Clients write all their options; best_of is 1 for one answer."""
    names = ("tools", "functions", "function_call", "logit_bias", "best_of", "n", "unheard_of")
    said = {"messages": [{"role": "user", "content": "x"}]}
    request = requests.read("chat", "m", {**said, **dict.fromkeys(names)}, {}, model=None)
    assert (request.task.tools, request.task.extra) == ((), {})
    best = requests.read("completion", "m", {"prompt": "x", "best_of": 1}, {}, model=None)
    assert best.task.extra == {}


# Answers

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
LOGPROB = st.floats(-100, 0)
SCORED = st.builds(
    lambda text, logprob, top: ScoredToken(
        text, 0, logprobs=(TokenLogprob(text, logprob, {text: logprob, **top}),)
    ),
    TEXT,
    LOGPROB,
    st.dictionaries(TEXT, LOGPROB, max_size=2),
)
ARGUMENTS = st.dictionaries(TEXT, st.integers() | TEXT, max_size=2).map(json.dumps)
COUNT = st.integers(1, 10_000)
CUSTOM = {"type": "custom", "custom": {"name": "tool_1"}}
SIGNATURE = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
SIGNED = st.sampled_from([{}, SIGNATURE])


def _details(reasoning: list[str]) -> dict[str, Any]:
    """Return opaque details as OpenRouter sends them, readable if there is reasoning."""
    kind = {"type": "reasoning.text", "text": "".join(reasoning), "signature": "c2ln"}
    detail = kind if reasoning else {"type": "reasoning.encrypted", "data": "c2ln"}
    return {"reasoning_details": [{**detail, "index": 0}]}


@st.composite
def answers(draw: st.DrawFn, kind: Kind, scored: bool) -> list[Any]:
    """Draw the events of a whole answer, without Started."""
    chat = kind == "chat" and not scored  # whose logprobs they are is open where all are mixed
    reasoning = draw(st.lists(TEXT, max_size=2)) if chat else []
    plain = TEXT.map(lambda text: Token(text, 0))
    texts = draw(st.lists(SCORED if scored else plain, min_size=1, max_size=4))
    made = draw(st.lists(st.tuples(TEXT, ARGUMENTS), max_size=2)) if chat else []
    calls = tuple(
        ToolCall(f"call_{number}", f"tool_{number}", text if number == 1 else arguments, extra)
        for number, (text, arguments) in enumerate(made)
        for extra in [draw(SIGNED) | ({"type": "custom"} if number == 1 else {})]
    )
    opaque = st.sampled_from([{}, SIGNATURE, _details(reasoning)])
    message_extra = draw(opaque) if chat else {}
    events: list[Any] = [Reasoning("", 0, reasoning=text) for text in reasoning]
    events += texts
    for number, call in enumerate(calls):
        half = len(call.arguments) // 2
        first, rest = call.arguments[:half], call.arguments[half:]
        events.append(
            ToolCallDelta("", 0, call=number, id=call.id, name=call.name, arguments=first)
        )
        events.append(ToolCallDelta("", 0, call=number, arguments=rest))
    events = [attrs.evolve(event, index=index) for index, event in enumerate(events)]
    reason = (
        "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "eos", "max_tokens"]))
    )
    metrics = Metrics(
        draw(COUNT),
        prompt_tokens=draw(COUNT),
        cached_tokens=draw(st.none() | st.integers(0, 100)),
        usage_source=draw(st.sampled_from(["engine", "counted"])),
    )
    end = End(metrics, reason, "finish_reason", tool_calls=calls, message_extra=message_extra)
    return [*events, end]


@st.composite
def cases(draw: st.DrawFn) -> tuple[ApiRequest, list[Any], bool]:
    """Draw a request with its answer, and whether that has log-probabilities."""
    kind: Kind = draw(st.sampled_from(["chat", "completion"]))
    scored = draw(st.booleans())
    question: Any = (
        {"prompt": "x"}
        if kind == "completion"
        else {"messages": [{"role": "user", "content": "x"}], "tools": [TOOL, CUSTOM]}
    )
    fields = {**question, "stream": True, "stream_options": {"include_usage": True}}
    request = requests.read(kind, "m", fields, {}, model=None)
    return request, draw(answers(kind, scored)), scored


def _check(body: bytes, size: int | None, events: list[Any], *, scored: bool) -> None:
    """Read a body with the adapter's own reader, and compare it with what it was made from."""
    wanted: Wanted = EVERYTHING._replace(logprobs=scored)
    found, expected = Answer.of(read(pieces_of(body, size), wanted)), Answer.of(events)
    assert found.text == expected.text
    assert found.reasoning == expected.reasoning
    assert found.tool_calls == expected.tool_calls
    for name in ("reasoning_details", "extra_content"):
        assert found.message_extra.get(name) == expected.message_extra.get(name)
    assert found.cut == expected.cut
    if expected.metrics.usage_source == "counted":
        assert found.metrics.usage_source == "counted"  # the mark arrives
    else:
        assert found.metrics == expected.metrics
    if scored:
        assert found.logprobs == expected.logprobs


@given(case=cases(), size=st.integers(1, 80) | st.none())
def test_a_stream_is_read_as_what_it_was_made_from(
    case: tuple[ApiRequest, list[Any], bool], size: int | None
) -> None:
    """The adapter's reader gets every part of an answer back from the gateway's events."""
    request, events, scored = case
    chunks = Chunks(request)
    *tokens, end = events
    first, *rest = tokens
    body = chunks.first(first) + chunks.tokens(rest) + chunks.end(end)
    _check(body, size, events, scored=scored)


@given(case=cases())
def test_a_whole_answer_is_read_as_what_it_was_made_from(
    case: tuple[ApiRequest, list[Any], bool],
) -> None:
    """The reader gets every part back from the one object of an answer without stream, too."""
    request, events, scored = case
    _check(whole(request, Answer.of(events)), None, events, scored=scored)


def test_a_refusal_in_plain_tokens_is_named_at_the_end() -> None:
    """Its words have come as content by then; the client hears what they were."""
    said = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    chunks = Chunks(requests.read("chat", "m", said, {}, model=None))
    chunks.first(Token("No.", 0))
    extra = {"refusal": "No."}
    end = chunks.end(End(Metrics(1), "stop", "done", refused=True, message_extra=extra))
    last = json.loads(end.split(b"\n\n")[0].removeprefix(b"data: "))
    assert last["choices"][0]["delta"] == {"refusal": "No."}


def test_the_engines_own_numbers_replace_no_field() -> None:
    """Whatever an adapter calls its numbers, the answer keeps its own fields."""
    said = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    request = requests.read("chat", "m", said, {}, model=None)
    end = End(Metrics(1), "stop", "done")
    numbers = {"id": 1, "choices": 2, "model": 3, "usage": 4, "cost": 5}
    answer = json.loads(whole(request, Answer.of([Token("a", 0), end]), numbers))
    chunks = Chunks(request)
    chunks.note(MetricsFrame(numbers))
    last = json.loads(chunks.end(end).split(b"\n\n")[0].removeprefix(b"data: "))
    for fields in (answer, last):
        assert fields["model"] == "m"
        assert fields["choices"][0]["index"] == 0
        assert fields["cost"] == 5
    assert answer["usage"]["completion_tokens"] == 1


def test_the_bytes_of_a_part_of_a_character_are_unknown() -> None:
    """The engine's text has a replacement character in their place, with other bytes."""
    scored = TokenLogprob("\ufffd", -1.0, {"\ufffd": -1.0, "é": -2.0})
    end = End(Metrics(1), "stop", "finish_reason")
    answer = Answer.of([ScoredToken("\ufffd", 0, logprobs=(scored,)), end])
    said = {"messages": [{"role": "user", "content": "x"}]}
    request = requests.read("chat", "m", said, {}, model=None)
    [found] = json.loads(whole(request, answer))["choices"][0]["logprobs"]["content"]
    assert found["bytes"] is None
    assert [one["bytes"] for one in found["top_logprobs"]] == [None, list("é".encode())]
