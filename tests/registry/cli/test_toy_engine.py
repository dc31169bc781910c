"""The toy engine: deterministic words, and the objects of the protocol."""

import json
from itertools import islice
from typing import Any

import pytest

from tests.toy.engine import Answer, Job, Refusal, parse_job, toy_words


def _job(chat: bool = False, **fields: Any) -> Job:
    prompt = {"messages": [{"role": "user", "content": "hi"}]} if chat else {"prompt": "hi"}
    return parse_job(chat, json.dumps({**prompt, **fields}).encode())


def _text(**fields: Any) -> tuple[str, str]:
    choice = Answer(_job(**fields), 400).whole()["choices"][0]
    return choice["text"], choice["finish_reason"]


def test_words_depend_on_prompt_and_seed_only() -> None:
    """The same prompt and seed give the same words, another of either gives others (ORCH-3045)."""

    def words(prompt: str, seed: int | None) -> list[str]:
        return list(islice(toy_words(prompt, seed), 20))

    assert words("a", 1) == words("a", 1)
    assert len({tuple(words(*key)) for key in [("a", 1), ("a", 2), ("b", 1), ("a", None)]}) == 4


def test_half_surrogates_are_words_too() -> None:
    """A prompt that JSON admits and UTF-8 does not is answered like any other."""
    assert next(toy_words("\ud800", None)).strip()


def test_max_tokens_cuts_the_answer() -> None:
    """An answer has max_tokens words and says that the length ended it."""
    text, why = _text(max_tokens=7)
    assert (len(text.split()), why) == (7, "length")


def test_the_default_length_is_openais() -> None:
    """Without max_tokens a completion has 16 words."""
    assert len(_text()[0].split()) == 16


def test_max_completion_tokens_is_understood() -> None:
    """The newer name of max_tokens works too."""
    assert len(_text(max_completion_tokens=3)[0].split()) == 3


def test_the_engine_ends_by_itself() -> None:
    """The engine stops when it has said all it has to say."""
    whole = Answer(_job(max_tokens=50), max_words=10).whole()
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == 10


@pytest.mark.parametrize("several", [True, False])
def test_stop_ends_before_the_stop_text(several: bool) -> None:
    """What comes before the first stop text is the answer, in the middle of a word too."""
    full, _ = _text(max_tokens=20)
    middle = full[30:33]
    stop = ["never said", middle] if several else middle
    assert _text(max_tokens=20, stop=stop) == (full[: full.index(middle)], "stop")


def test_a_stop_text_that_never_comes_changes_nothing() -> None:
    """With such a stop text the length is what ends the answer."""
    assert _text(max_tokens=5, stop="\n") == _text(max_tokens=5)


@pytest.mark.parametrize("chat", [True, False])
def test_chunks_together_are_the_whole(chat: bool) -> None:
    """The pieces of a stream make up the text of the answer at once, with the same usage."""
    answer = Answer(_job(chat, max_tokens=9, stream_options={"include_usage": True}), 400)
    whole = answer.whole()
    *last, usage = answer.last_chunks()
    choices = [chunk["choices"][0] for chunk in [*answer.chunks(), *last]]
    pieces = [c["delta"].get("content", "") if chat else c["text"] for c in choices]
    choice = whole["choices"][0]
    assert "".join(pieces) == (choice["message"]["content"] if chat else choice["text"])
    assert [c["finish_reason"] for c in choices] == [None] * 9 + ["length"]
    assert usage["usage"] == whole["usage"]
    assert usage["choices"] == []


def test_usage_comes_only_when_asked_for() -> None:
    """Without include_usage no chunk has a usage."""
    answer = Answer(_job(stream=True), 400)
    assert not any("usage" in chunk for chunk in [*answer.chunks(), *answer.last_chunks()])


@pytest.mark.parametrize(
    ("chat", "body", "said"),
    [
        (False, b"{", "not JSON"),
        (False, b"[" * 100_000, "not JSON"),
        (False, b"[]", "JSON object"),
        (False, b"{}", "prompt must be a string"),
        (False, b'{"prompt": ["a"]}', "prompt must be a string"),
        (True, b"{}", "messages must be a non-empty list"),
        (True, b'{"messages": ["a"]}', "objects with role and content"),
        (False, b'{"prompt": "a", "max_tokens": 0}', "max_tokens must be at least 1"),
        (False, b'{"prompt": "a", "max_tokens": true}', "max_tokens must be an integer"),
        (False, b'{"prompt": "a", "seed": "1"}', "seed must be an integer"),
        (False, b'{"prompt": "a", "stop": [""]}', "stop must be"),
        (False, b'{"prompt": "a", "stream_options": 1}', "stream_options must be an object"),
    ],
)
def test_wrong_requests_are_refused(chat: bool, body: bytes, said: str) -> None:
    """A request that cannot be served gives an OpenAI error object with status 400."""
    with pytest.raises(Refusal) as caught:
        parse_job(chat, body)
    assert caught.value.status == 400
    assert said in caught.value.body["error"]["message"]
    assert caught.value.body["error"]["type"] == "invalid_request_error"
