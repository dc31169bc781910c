"""Calls, assembled from every form in which servers stream them (docs/reference/servers.md)."""

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import Answer, ErrorCode, StreamingError, ToolCallDelta, WorkerError
from adapters.openai_http import calls as calls_module
from adapters.openai_http.calls import MAX_CALLS, MAX_NAME_CHARS
from tests.adapters.openai_http.reading import EVERYTHING, body_of, pieces_of, read, whole
from tests.openai_chunks import delta, usage
from tests.strategies import json_values

DONE = "[DONE]"
OSLO = '{"city": "Oslo"}'
PARIS = '{"city": "Paris"}'


def entry(arguments: Any = None, name: Any = None, **more: Any) -> dict[str, Any]:
    """Return an entry of tool_calls; what is None is left out."""
    function = {key: v for key, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {"function": function, **more}


def _answer(*deltas: Any, finish: str = "tool_calls", **options: Any) -> Answer:
    """Return the answer with these entries, or lists of them, each in a chunk of its own."""
    chunks = [
        d if "choices" in d else delta({"tool_calls": d if isinstance(d, list) else [d]})
        for d in deltas
    ]
    return whole([*chunks, delta({}, finish), DONE], **options)


def _calls(answer: Answer) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in answer.tool_calls]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        pytest.param(
            [entry(OSLO, "f", id="a"), entry(PARIS, "f", id="b")],
            [("f", OSLO), ("f", PARIS)],
            id="no index, ids",
        ),
        pytest.param(
            [entry(OSLO, "f", id=""), entry(PARIS, "f", id="")],
            [("f", OSLO), ("f", PARIS)],
            id="no index, no ids, whole calls",
        ),
        pytest.param(
            [entry('{"ci', "f", id="a"), entry('ty": ', id="", type=""), entry('"Oslo"}', id="")],
            [("f", OSLO)],
            id="no index, pieces (Gemini through gateways)",
        ),
        pytest.param(
            [entry(OSLO, "f", index=0, id="a"), entry(PARIS, "f", index=0, id="b")],
            [("f", OSLO), ("f", PARIS)],
            id="index 0 for all (Ollama)",
        ),
        pytest.param(
            [
                entry('{"city"', "f", index=0, id="a"),
                entry(': "Oslo"}', index=0),
                entry('{"city"', "g", index=0, id="b"),
                entry(': "Paris"}', index=0),
            ],
            [("f", OSLO), ("g", PARIS)],
            id="index 0 for all, in pieces (Dynamo)",
        ),
        pytest.param(
            [entry(OSLO, "f", index=1, id="a"), entry(PARIS, "g", index=2, id="b")],
            [("f", OSLO), ("g", PARIS)],
            id="indexes from 1 (Bedrock)",
        ),
        pytest.param(
            [entry('{"city"', "f", index=0, id="a"), entry(': "Oslo"}', "f", index=0, id="a")],
            [("f", OSLO)],
            id="id and name with every piece",
        ),
        pytest.param(
            [entry('{"city"', "f", id="a"), entry(': "Oslo"}', "f", id="a")],
            [("f", OSLO)],
            id="id and name with every piece, no index",
        ),
        pytest.param(
            [
                entry("", "get_", index=0, id="a"),
                entry("", "weather", index=0),
                entry("{}", index=0),
            ],
            [("get_weather", "{}")],
            id="name in pieces",
        ),
        pytest.param(
            [entry("{", "f", index=0), entry("}", index=0, id="late")], [("f", "{}")], id="id later"
        ),
        pytest.param(
            [entry("{", index=0, id="a"), entry("}", "f", index=0)], [("f", "{}")], id="name later"
        ),
        pytest.param(
            [entry("{", "null", index=0, id=""), entry("}", "f", index=0)],
            [("f", "{}")],
            id="name null as text",
        ),
        pytest.param(
            [entry({"city": "Oslo"}, "f", index=0, id="a")], [("f", OSLO)], id="arguments an object"
        ),
        pytest.param([entry("", "f", index=0, id="a")], [("f", "{}")], id="no arguments"),
        pytest.param([entry(None, "f", index=0, id="a")], [("f", "{}")], id="arguments absent"),
        pytest.param(
            [
                entry("{}", "f", index=0, id="a"),
                entry('{"city": "Os', index=0),
                entry('lo"}', index=0),
            ],
            [("f", OSLO)],
            id="a placeholder, then the arguments",
        ),
        pytest.param(
            [entry("{}", "f", index=0, id="a")], [("f", "{}")], id="whole empty arguments"
        ),
        pytest.param(
            [{"index": 0, "function": {"id": "a", "name": "f", "arguments": OSLO}}],
            [("f", OSLO)],
            id="id inside function",
        ),
        pytest.param(
            [[entry('{"city"', "f", index=0, id="a"), entry(': "Oslo"}', index=0)]],
            [("f", OSLO)],
            id="two pieces of one call in one chunk",
        ),
        pytest.param(
            [entry(OSLO, "f", index="0", id="a"), entry(PARIS, "g", index="1", id="b")],
            [("f", OSLO), ("g", PARIS)],
            id="index as text",
        ),
        pytest.param(
            [delta({"tool_calls": entry(OSLO, "f", index=0, id=0)})], [("f", OSLO)], id="an object"
        ),
        pytest.param(
            [entry(OSLO, "f", index=0, id="a"), {"index": 0, "function": None}, {"index": 1}],
            [("f", OSLO)],
            id="function null",
        ),
        pytest.param(
            [
                delta({"function_call": {"name": "f", "arguments": '{"city"'}}),
                delta({"function_call": {"arguments": ': "Oslo"}'}}),
            ],
            [("f", OSLO)],
            id="function_call",
        ),
        pytest.param(
            [
                delta(
                    {
                        "tool_calls": [entry(OSLO, "f", index=0, id="a")],
                        "function_call": {"name": "f", "arguments": OSLO},
                    }
                )
            ],
            [("f", OSLO)],
            id="function_call beside tool_calls (llama-cpp-python)",
        ),
        pytest.param(
            [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls -l"}}],
            [("sh", "ls -l")],
            id="custom tool",
        ),
        pytest.param(
            [entry(OSLO, "f", index=0, id=""), entry(PARIS, "g", index=0, id="")],
            [("f", OSLO), ("g", PARIS)],
            id="index 0 for all, no ids",
        ),
        pytest.param(
            [entry('{"a": "\ud83d', "f", index=0, id="a"), entry('\ude00"}', index=0)],
            [("f", '{"a": "\U0001f600"}')],
            id="a character cut in two",
        ),
    ],
)
def test_each_form_is_the_calls_that_were_meant(deltas: Any, expected: Any) -> None:
    """However the body is split, with ids that are all different."""
    for size in (None, 1, 11):
        answer = _answer(*deltas, size=size)
        assert _calls(answer) == expected
        assert answer.invalid_tool_calls == ()
        assert len({call.id for call in answer.tool_calls}) == len(expected)


def test_a_call_is_reported_once_with_id_and_whole_name() -> None:
    """The first delta has both, later ones neither, and their arguments are the whole."""
    chunks = [
        delta({"tool_calls": [entry("", "get_", index=0, id="a")]}),
        delta({"tool_calls": [entry("", "weather", index=0)]}),
        delta({"tool_calls": [entry('{"city"', index=0)]}),
        delta({"tool_calls": [entry(': "Oslo"}', index=0)]}),
    ]
    *tokens, end = read([body_of([*chunks, delta({}, "tool_calls"), DONE])])
    assert tokens == [
        ToolCallDelta("", 0, call=0, id="a", name="get_weather", arguments='{"city"'),
        ToolCallDelta("", 1, call=0, arguments=': "Oslo"}'),
    ]
    assert end.tool_calls[0].arguments == "".join(token.arguments for token in tokens)


@pytest.mark.parametrize(
    ("arguments", "finish", "tokens", "reason"),
    [
        ('{"city": "Os', "length", 5, "cut"),
        (OSLO, "length", 5, "cut"),
        ('{"city": "Os', "tool_calls", 16, "cut"),  # vLLM <= 0.27 (vllm#53269)
        ('{"city": "Os', "tool_calls", 5, "not_json"),
        ('{"city": Oslo}', "stop", 5, "not_json"),
        ('{"a": NaN}', "stop", 5, "not_json"),
    ],
)
def test_a_call_that_must_not_run_is_not_among_the_calls(
    arguments: str, finish: str, tokens: int, reason: str
) -> None:
    """It is listed apart, as it came, with the reason."""
    chunk = delta({"tool_calls": [entry(arguments, "f", index=0, id="a")]})
    wanted = type(EVERYTHING)(max_tokens=16)
    answer = whole([chunk, delta({}, finish), usage(9, tokens), DONE], wanted)
    assert answer.tool_calls == ()
    (call,) = answer.invalid_tool_calls
    assert (call.arguments, call.reason) == (arguments, reason)


def test_only_the_last_call_is_cut() -> None:
    """Those before it are whole."""
    answer = _answer(
        entry(OSLO, "f", index=0, id="a"), entry('{"ci', "g", index=1, id="b"), finish="length"
    )
    assert _calls(answer) == [("f", OSLO)]
    assert [call.name for call in answer.invalid_tool_calls] == ["g"]


def test_done_alone_never_proves_a_call_that_is_not_json() -> None:
    """The stream was cut in the middle of the arguments."""
    good, bad = (
        delta({"tool_calls": [entry(arguments, "f", index=0, id="a")]})
        for arguments in (OSLO, '{"city": "Os')
    )
    assert _calls(whole([good, DONE])) == [("f", OSLO)]
    with pytest.raises(StreamingError, match="in a call") as caught:
        whole([bad, DONE])
    assert caught.value.code is ErrorCode.STREAM_TRUNCATED


def test_signatures_stay_with_their_call() -> None:
    """Gemini wants each back on the call it came with (OpenMAIC#1556)."""
    signature = {"extra_content": {"google": {"thought_signature": "s"}}}
    answer = _answer(
        entry(OSLO, "f", id="a", **signature), entry(PARIS, "f", id="b"), {"id": "b", **signature}
    )
    assert [dict(call.extra) for call in answer.tool_calls] == [signature, signature]
    sent = answer.message().to_wire()["tool_calls"]
    assert sent[0]["extra_content"] == signature["extra_content"]


BAD: list[Any] = [
    "x",
    5,
    [5],
    [{"index": 1.5, "function": {"name": "f"}}],
    [{"index": "x", "function": {"name": "f"}}],
    [{"index": 0, "function": "f"}],
    [{"index": 0, "id": ["a"], "function": {"name": "f"}}],
    [{"index": 0, "function": {"name": 5}}],
    [{"index": 0, "function": {"name": "f", "arguments": 5}}],
    [{"index": 0, "function": {"name": "f", "arguments": ["x"]}}],
    [entry("x", "n" * (MAX_NAME_CHARS + 1), index=0)],
    [entry("{}", "f", index=n) for n in range(MAX_CALLS + 1)],
    [entry("{}", index=0, id="a")],
]


@pytest.mark.parametrize("entries", BAD, ids=lambda v: str(v)[:60])
def test_what_no_server_may_send_is_a_protocol_error(entries: Any) -> None:
    """Wrong types, passed bounds, and a call that never gets a name."""
    with pytest.raises(StreamingError) as caught:
        whole([delta({"tool_calls": entries}), delta({}, "tool_calls"), DONE])
    assert caught.value.code is ErrorCode.UPSTREAM_PROTOCOL


def test_a_call_is_not_run_twice() -> None:
    """tool_calls after a function_call may repeat it."""
    chunks = [
        delta({"function_call": {"name": "f", "arguments": OSLO}}),
        delta({"tool_calls": [entry(OSLO, "f", index=0, id="a")]}),
    ]
    with pytest.raises(StreamingError, match="after a function_call"):
        whole([*chunks, delta({}, "stop"), DONE])


@pytest.mark.parametrize("bound", ["MAX_ARGUMENT_CHARS", "MAX_OPAQUE_BYTES", "MAX_ID_CHARS"])
def test_what_is_kept_has_a_bound(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, on both lanes; ids and opaque keys."""
    monkeypatch.setattr(calls_module, bound, 40)
    long = entry("{", "f", index=0, id="a", **({"extra_content": "x" * 50}))
    if bound == "MAX_ID_CHARS":
        long = entry("{", "f", index=0, id="a" * 50)
    more = [delta({"tool_calls": [entry("x" * 9, index=0)]})] * 9
    with pytest.raises(StreamingError, match="more than 40|longer than 40"):
        whole([delta({"tool_calls": [long]}), *more, delta({}, "tool_calls"), DONE])


# Properties


@st.composite
def _streams(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Draw calls in pieces, interleaved, in one of the ways that distinguish them."""
    arguments = draw(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=8), max_size=2),
                              min_size=1, max_size=3))  # fmt: skip
    texts = [json.dumps(value, ensure_ascii=draw(st.booleans())) for value in arguments]
    style = draw(st.sampled_from(["index", "index and id", "id", "one index"]))
    parts = []
    for number, text in enumerate(texts):
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        spans = zip([0, *cuts], [*cuts, len(text)], strict=True)
        pieces = [text[i:j] for i, j in spans]
        keys: dict[str, Any] = {"index": number} if "index" in style else {}
        if style == "one index":
            keys = {"index": 0}
        always = {"id": f"c{number}"} if style in ("id", "index and id") else {}
        first = entry(pieces[0], f"f{number}", id=f"c{number}", **keys)
        parts.append([first, *(entry(piece, **keys, **always) for piece in pieces[1:])])
    order = [number for number, pieces in enumerate(parts) for _ in pieces]
    if style != "one index":
        order = draw(st.permutations(order))
    rest = [list(pieces) for pieces in parts]
    stream = [rest[number].pop(0) for number in order]
    opened = list(dict.fromkeys(order))
    return stream, [(f"f{number}", texts[number]) for number in opened]


@settings(max_examples=60)
@given(_streams(), st.integers(1, 50), st.booleans())
def test_calls_in_any_pieces_and_any_order_are_whole(
    drawn: tuple[list[dict[str, Any]], list[tuple[str, str]]], size: int, together: bool
) -> None:
    """Interleaving, cuts in the arguments and in the bytes change nothing."""
    stream, expected = drawn
    answer = _answer(*([stream] if together else stream), size=size)
    assert _calls(answer) == expected


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_calls_keep_the_order_in_which_they_were_opened(order: tuple[int, ...]) -> None:
    """Whichever is reported first."""
    opens = [entry("", f"f{n}", index=n, id=f"c{n}") for n in range(3)]
    answer = _answer(*opens, *(entry(OSLO, index=n) for n in order))
    assert [call.name for call in answer.tool_calls] == ["f0", "f1", "f2"]


_entries = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | json_values,
        "id": st.sampled_from(["", "a", "b", None]) | json_values,
        "type": json_values,
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["", "f", "g", "null"]) | json_values,
                "arguments": st.sampled_from(["{}", "{", '"a"', "}", "", ":1"]) | json_values,
            },
        ),
        "extra_content": json_values,
    },
)


@settings(max_examples=100)
@given(st.lists(st.lists(_entries, max_size=2), max_size=5), st.integers(1, 60))
def test_any_entries_are_whole_calls_or_an_error(chunks: list[list[Any]], size: int) -> None:
    """Every call that may run is JSON with an id of its own; no split changes the outcome."""

    def outcome(size: int | None) -> Any:
        events = [*(delta({"tool_calls": calls}) for calls in chunks), delta({}, "stop"), DONE]
        try:
            return read(pieces_of(body_of(events), size), EVERYTHING)
        except WorkerError as error:
            return error.code, error.message

    found = outcome(None)
    assert outcome(size) == found
    if isinstance(found, list):
        calls = [*found[-1].tool_calls, *found[-1].invalid_tool_calls]
        assert len({call.id for call in calls}) == len(calls)
        for call in found[-1].tool_calls:
            call.json()
