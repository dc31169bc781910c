"""The toy engine: no model, it strings words together, always the same for one prompt and seed.

Without I/O: what an OpenAI-compatible server reads from a request, and the objects it answers with.
"""

import json
from collections.abc import Iterator
from itertools import count, islice
from random import Random
from typing import Any

import attrs

VERSION = "toy-1.0"
MODEL = "toy"
DEFAULT_MAX_TOKENS = 16  # as OpenAI's completions endpoint has it

_ARTICLES = ("the", "every", "one", "this", "no", "another")
_ADJECTIVES = ("quiet", "bright", "small", "old", "patient", "distant", "gentle", "hidden")
_NOUNS = ("river", "lantern", "engine", "token", "stream", "harbour", "orchard", "signal")
_VERBS = ("carries", "follows", "becomes", "answers", "remembers", "crosses", "keeps", "finds")
_SENTENCE = (_ARTICLES, _ADJECTIVES, _NOUNS, _VERBS, _ARTICLES, _NOUNS)


class Refusal(Exception):
    """A request that is answered with an OpenAI error object.

    Args:
        status: The HTTP status.
        message: What is wrong.
        kind: The error's `type`.
        param: The field that is wrong.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": None}}


@attrs.frozen
class Job:
    """A request for text, checked."""

    chat: bool
    prompt: str
    max_tokens: int
    seed: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool


def parse_job(chat: bool, body: bytes) -> Job:
    """Read a request's body. Fields the toy does not know are ignored, as most servers do.

    Raises:
        Refusal: With status 400, if it is not a request.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise Refusal(400, "the body must be a JSON object")
    stop = request.get("stop") or ()
    stream_options = request.get("stream_options")
    if stream_options is not None and not isinstance(stream_options, dict):
        raise _wrong("stream_options", "an object")
    return Job(
        chat=chat,
        prompt=_messages(request) if chat else _prompt(request),
        max_tokens=_max_tokens(request),
        seed=_integer(request, "seed"),
        stop=(stop,) if isinstance(stop, str) else _texts("stop", stop),
        stream=bool(request.get("stream")),
        include_usage=bool((stream_options or {}).get("include_usage")),
    )


def toy_words(prompt: str, seed: int | None) -> Iterator[str]:
    """The engine: words without end, each with the space before it."""
    random = Random(f"{seed}:{prompt}".encode(errors="replace"))  # JSON admits half surrogates
    for place in count():
        kind = place % len(_SENTENCE)
        word = random.choice(_SENTENCE[kind])
        if kind == 0:
            word = word.capitalize()
        if kind == len(_SENTENCE) - 1:
            word += "."
        yield f" {word}" if place else word


class Answer:
    """The objects of one answer, for the completions or the chat endpoint.

    Args:
        job: The request.
        max_words: How many words the engine has to say at most.
    """

    def __init__(self, job: Job, max_words: int) -> None:
        limit = min(job.max_tokens, max_words)
        words = list(islice(toy_words(job.prompt, job.seed), limit))
        self.words = list(_until(words, job.stop))
        # An answer that the limit alone has cut is as long as without a stop text.
        cut = limit == job.max_tokens and "".join(self.words) == "".join(words)
        self._finish_reason = "length" if cut else "stop"
        self._job = job
        kind, prefix = ("chat.completion", "chatcmpl") if job.chat else ("text_completion", "cmpl")
        self._kind = kind
        self._chunk_kind = f"{kind}.chunk" if job.chat else kind
        self._id = f"{prefix}-toy"

    def whole(self) -> dict[str, Any]:
        """The answer to a request without `stream`."""
        text = "".join(self.words)
        if self._job.chat:
            part: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
        else:
            part = {"text": text}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": self._finish_reason}
        return {**self._object(self._kind, [choice]), "usage": self._usage()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """The chunks that carry the text, one for each word."""
        for place, word in enumerate(self.words):
            role = {"role": "assistant"} if place == 0 else {}
            yield self._chunk({"delta": {**role, "content": word}}, {"text": word}, None)

    def last_chunks(self) -> Iterator[dict[str, Any]]:
        """The chunks after the text: the finish_reason, and the usage if it was asked for."""
        yield self._chunk({"delta": {}}, {"text": ""}, self._finish_reason)
        if self._job.include_usage:
            yield {**self._object(self._chunk_kind, []), "usage": self._usage()}

    def _chunk(
        self, chat: dict[str, Any], completion: dict[str, Any], finish_reason: str | None
    ) -> dict[str, Any]:
        part = chat if self._job.chat else completion
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._job.include_usage else {}
        return {**self._object(self._chunk_kind, [choice]), **usage}

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        # No clock and no random id: the same request has the same bytes as its answer.
        return {
            "id": self._id,
            "object": kind,
            "created": 0,
            "model": MODEL,
            "system_fingerprint": VERSION,
            "choices": choices,
        }

    def _usage(self) -> dict[str, int]:
        prompt_tokens = len(self._job.prompt.split())
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(self.words),
            "total_tokens": prompt_tokens + len(self.words),
        }


def _until(words: list[str], stop: tuple[str, ...]) -> Iterator[str]:
    """The words before the first stop text, the last one perhaps cut."""
    text = "".join(words)
    left = min((place for s in stop if (place := text.find(s)) >= 0), default=len(text))
    for word in words:
        if left <= 0:
            return
        yield word[:left]
        left -= len(word)


def _prompt(request: dict[str, Any]) -> str:
    prompt = request.get("prompt")
    if not isinstance(prompt, str):
        raise _wrong("prompt", "a string")
    return prompt


def _messages(request: dict[str, Any]) -> str:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a non-empty list")
    if not all(isinstance(message, dict) and "role" in message for message in messages):
        raise _wrong("messages", "a list of objects with role and content")
    return "\n".join(str(message.get("content") or "") for message in messages)


def _max_tokens(request: dict[str, Any]) -> int:
    for name in ("max_tokens", "max_completion_tokens"):
        value = _integer(request, name)
        if value is not None and value < 1:
            raise _wrong(name, "at least 1")
        if value is not None:
            return value
    return DEFAULT_MAX_TOKENS


def _integer(request: dict[str, Any], name: str) -> int | None:
    value = request.get(name)
    if value is not None and type(value) is not int:
        raise _wrong(name, "an integer")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(s, str) and s for s in value):
        raise _wrong(name, "a string or a list of non-empty strings")
    return tuple(value)


def _wrong(name: str, allowed: str) -> Refusal:
    return Refusal(400, f"{name} must be {allowed}", param=name)
