"""The wire format, without I/O: a task becomes a request body, chunks become events."""

import json
import math
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from adapter_api import (
    ContentFiltered,
    ErrorCode,
    InvalidRequest,
    StreamingError,
    TaskRequest,
    Token,
    WorkerReset,
)
from adapter_api.events import Proof, tokens_of
from adapters.http_util import (
    MAX_SEARCHED_CHARS,
    ServerSentEvent,
    error_from_payload,
    redact,
)
from adapters.openai_http.plain import chat_texts, completion_texts

DONE = b"[DONE]"

OWNED_FIELDS = {
    "model": "TaskRequest.model",
    "prompt": "TaskRequest.prompt",
    "messages": "TaskRequest.messages",
    "max_tokens": "TaskRequest.max_tokens",
    "max_completion_tokens": "TaskRequest.max_tokens",
    "temperature": "TaskRequest.temperature",
    "top_p": "TaskRequest.top_p",
    "seed": "TaskRequest.seed",
    "stop": "TaskRequest.stop",
    "stream": "",
    "stream_options": "",
    "n": "",
    "best_of": "",
    "tools": "",
    "tool_choice": "",
    "functions": "",
    "function_call": "",
}
"""Request fields that are the adapter's; `extra` must not have them. With the place to set each, or
"" where the contract has no room for it (one text answer for one job)."""

REQUIRED_FIELDS = frozenset({"model", "prompt", "messages", "stream", "max_completion_tokens"})
"""Fields without which the request would be another one: never left out, whatever a server says.
max_completion_tokens is sent where max_tokens is refused, and some limit there must be."""

MAX_NAME_CHARS = 256
"""Of a model, a fingerprint, an id: names go into logs."""

_NOT_STRICT = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What is no JSON to the letter of RFC 8259 may still be told by a real server: NaN, half a pair of
surrogates, bytes that are no UTF-8."""

_FAILED = frozenset({"abort", "error"})
_GOOD_CODES = (None, "", 0, "0", 200, "200")  # what gateways put beside `"message": "success"`
_MAX_LOGPROB = 1e300  # JSON has integers that no float holds
_PROGRESS_FIELDS = ("reasoning_content", "reasoning", "thinking", "tool_calls")


def request_fields(
    task: TaskRequest, *, chat: bool, model: str | None, without: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The fields of a request's JSON body.

    Args:
        task: The job.
        chat: For the chat endpoint (a prompt becomes one user message).
        model: The model's name; None leaves the field out.
        without: Fields the server refuses. For a chat, max_tokens is then sent as
            max_completion_tokens, as OpenAI's newer models demand.

    Raises:
        InvalidRequest: If `extra` has a field the adapter owns.
    """
    for key in task.extra:
        if key in OWNED_FIELDS:
            place = OWNED_FIELDS[key]
            hint = f"use {place} instead" if place else "the adapter has no room for it"
            raise InvalidRequest(
                ErrorCode.INVALID_PARAMS, f"extra must not have {key!r}: {hint}", job_id=task.job_id
            )
    body: dict[str, Any] = {"model": model} if model is not None else {}
    if chat:
        body["messages"] = _messages(task)
    else:
        body["prompt"] = task.prompt
    if task.max_tokens is not None:
        body["max_tokens"] = task.max_tokens
    for name in ("temperature", "top_p", "seed"):
        value = getattr(task, name)
        if value is not None:
            body[name] = value
    if task.stop:
        body["stop"] = list(task.stop)
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    body |= task.extra
    for name in without:
        body.pop(name, None)
    refused = "max_tokens" in without and "max_completion_tokens" not in without
    if chat and refused and task.max_tokens is not None:
        body["max_completion_tokens"] = task.max_tokens
    return body


def encode(fields: dict[str, Any]) -> bytes:
    """The fields as JSON.

    Raises:
        InvalidRequest: If something in them (usually of `extra`) is not JSON.
    """
    try:
        content = msgspec.json.encode(fields)
        # msgspec makes null of a number that JSON lacks.
        lost = [] if b"null" not in content else [n for n, v in fields.items() if not _finite(v)]
        if lost:
            raise ValueError(f"{lost[0]!r} holds NaN or infinity, which JSON does not have")
        return content
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise InvalidRequest(
            ErrorCode.INVALID_PARAMS, f"the task cannot be sent as JSON: {exc}"
        ) from exc


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return not isinstance(value, list | tuple | set | frozenset) or all(map(_finite, value))


def _messages(task: TaskRequest) -> list[dict[str, Any]]:
    if task.messages is None:
        return [{"role": "user", "content": task.prompt}]
    return [message.to_wire() for message in task.messages]


@attrs.define
class Usage:
    """The engine's own count."""

    prompt_tokens: int | None
    completion_tokens: int


class Answer:
    """Reads the events of one answer and knows whether it is whole.

    Args:
        error_text: Text that begins like this is a failure (a dialect's trait).
        secrets: Credentials to keep out of error messages.
    """

    __slots__ = (
        "_error_text",
        "_finished_at",
        "_said",
        "_secrets",
        "_texts",
        "completion_id",
        "done",
        "fingerprint",
        "finish_reason",
        "index",
        "model",
        "moved",
        "seen",
        "usage",
    )

    def __init__(
        self,
        *,
        error_text: str | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self._error_text = error_text
        self._secrets = secrets
        self._texts = completion_texts
        self._said: tuple[str, ...] = ()  # the names as they were noted last
        self.index = 0
        """How many tokens were read."""
        self.seen = False
        """Whether a choice came."""
        self.done = False
        """Whether `[DONE]` came."""
        self.moved = False
        """Whether the engine produced something that is not text (reasoning, a tool call)."""
        self.finish_reason: str | None = None
        self._finished_at: int | None = None  # the index at the first finish_reason
        self.usage: Usage | None = None
        self.model: str | None = None
        self.fingerprint: str | None = None
        self.completion_id: str | None = None

    def read_plain(self, lines: bytes) -> list[Token] | None:
        """The tokens of events that each bring one and nothing else, as nearly all do.

        Args:
            lines: The data of the events, with a line feed between them.

        Returns:
            None if anything in them is unusual: `read` understands them, one by one.
        """
        if not self.seen or self._error_text is not None:  # the first one tells who answers
            return None
        texts = self._texts(lines)
        if texts is None:
            return None
        index = self.index
        self.index = index + len(texts)
        return tokens_of(texts, index)

    def read(self, event: ServerSentEvent) -> Token | None:
        """The token an event brings, if it brings one: forgiving where nothing is lost by it.

        Raises:
            WorkerError: The event is an error, or not what a server may send here.
        """
        data = event.data.strip()
        if data == DONE:
            self.done = True
            return None
        if event.event == "message" and b"\n" not in data:
            tokens = self.read_plain(data)
            if tokens:
                return tokens[0]
        if event.event == "ping" or (not data and event.event != "error"):
            return None
        payload = self._parse(data, event.event)
        if event.event == "error":
            raise error_from_payload(payload or "", secrets=self._secrets)
        if payload is None:
            return None
        if not isinstance(payload, dict) or _is_error(payload):
            raise error_from_payload(payload, secrets=self._secrets)
        self._note_identity(payload)
        self._note_usage(payload.get("usage"))
        choices = payload.get("choices")
        if choices is None:
            return None
        if not isinstance(choices, list):
            raise self._protocol_error("choices is not a list")
        token = None
        for choice in choices:
            token = self._read_choice(choice, token)
        return token

    def _parse(self, data: bytes, event: str) -> Any:
        try:
            return msgspec.json.decode(data)
        except _NOT_STRICT:
            text = data.decode("utf-8", "replace")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            if event == "error":
                return text
            # Cut after redacting: half a key would not be recognized.
            shown = redact(text[:MAX_SEARCHED_CHARS], self._secrets)[:120]
            raise self._protocol_error(f"an event is not JSON: {shown!r}") from None

    def _read_choice(self, choice: Any, token: Token | None) -> Token | None:
        if not isinstance(choice, dict):
            raise self._protocol_error("a choice is not an object")
        self._refuse_error(choice)
        index = choice.get("index") or 0
        if type(index) is not int or index != 0:
            raise self._protocol_error("a choice came whose index is not 0, the only one asked for")
        self.seen = True
        if "delta" in choice:
            self._texts = chat_texts
        text = self._text(choice)
        finish_reason = choice.get("finish_reason")
        if finish_reason is not None and not isinstance(finish_reason, str):
            raise self._protocol_error("finish_reason is not a string")
        if finish_reason:
            self.finish_reason = finish_reason
            if self._finished_at is None:
                self._finished_at = self.index + bool(text)
        if not text:
            return token
        if self._error_text is not None and text.startswith(self._error_text):
            raise error_from_payload(text, secrets=self._secrets)
        if token is not None:
            raise self._protocol_error("a chunk has two choices where one was asked for")
        token = Token(text, self.index, _logprob(choice.get("logprobs")))
        self.index += 1
        return token

    def _text(self, choice: dict[str, Any]) -> str:
        found = choice.get("text")
        for key in ("delta", "message"):
            part = choice.get(key)
            if part is None:
                continue
            if not isinstance(part, dict):
                raise self._protocol_error(f"{key} is not an object")
            self._refuse_error(part)
            found = found or part.get("content") or part.get("refusal")
            self.moved = self.moved or any(part.get(name) for name in _PROGRESS_FIELDS)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise self._protocol_error("the text of a choice is not a string")
        if _has_surrogate(found):  # JSON may hold half of a pair, which no encoder takes
            return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return found

    def _refuse_error(self, part: dict[str, Any]) -> None:
        if part.get("error"):
            raise error_from_payload(part, secrets=self._secrets)

    def _note_identity(self, payload: dict[str, Any]) -> None:
        said = _text(payload, "id"), _text(payload, "model"), _text(payload, "system_fingerprint")
        if said == self._said:
            return
        self._said = said
        completion_id, model, fingerprint = said
        self.completion_id = completion_id[:MAX_NAME_CHARS] or self.completion_id or ""
        self.model = self._name(model) or self.model
        self.fingerprint = self._name(fingerprint) or self.fingerprint

    def _name(self, value: str) -> str:
        """A name the server gave, as it may be logged."""
        return value and redact(value[:MAX_SEARCHED_CHARS], self._secrets)[:MAX_NAME_CHARS]

    def _note_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        prompt, completion = (
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
        )
        if completion is not None and (completion or prompt):  # all zero says nothing
            self.usage = Usage(prompt, completion)

    @property
    def resumed(self) -> bool:
        """Whether text came after a finish_reason: some servers send one with each piece."""
        return self._finished_at is not None and self.index > self._finished_at

    def proof(self, *, always_finishes: bool = False) -> Proof:
        """What proves that the answer is whole, asked when its body has ended.

        Args:
            always_finishes: `[DONE]` without a finish_reason proves nothing (a dialect's trait).

        Raises:
            WorkerError: STREAM_TRUNCATED if nothing does; the failure, if it ended as one.
        """
        if self.finish_reason in _FAILED:
            raise WorkerReset(
                ErrorCode.WORKER_RESET, f"the engine ended the answer with {self.finish_reason!r}"
            )
        if self.finish_reason == "content_filter":
            raise ContentFiltered(
                ErrorCode.CONTENT_FILTER, "a content filter withheld the rest of the answer"
            )
        if self.finish_reason is not None:
            return "finish_reason"
        if self.done and self.seen and not always_finishes:
            return "done"
        raise StreamingError(ErrorCode.STREAM_TRUNCATED, self._what_is_missing())

    def _what_is_missing(self) -> str:
        if not self.seen:
            return "the server answered 200 and sent no answer"
        if self.done:
            return (
                "the answer ended with [DONE] but without a finish_reason, which means it was cut"
            )
        return "the answer ended without a finish_reason and without [DONE]"

    def _protocol_error(self, what: str) -> StreamingError:
        return StreamingError(ErrorCode.UPSTREAM_PROTOCOL, f"not an OpenAI stream: {what}")


def _text(payload: dict[str, Any], key: str) -> str:
    value = payload.get(key)
    return value if isinstance(value, str) else ""


def _is_error(payload: dict[str, Any]) -> bool:
    if payload.get("error") or payload.get("object") == "error":
        return True
    if payload.get("choices"):
        return False
    bare = "choices" not in payload
    empty = bare and ("detail" in payload or payload.get("error") not in (None, False))
    failed = "error" in (payload.get("type"), payload.get("status"))
    told = payload.get("message") and payload.get("code") not in _GOOD_CODES
    return bool(empty or failed or told or payload.get("errors") or payload.get("detail"))


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _logprob(logprobs: Any) -> float | None:
    """The log probability of a piece that is one token; None for several, or for nonsense."""
    if not isinstance(logprobs, dict):
        return None
    values = logprobs.get("token_logprobs")
    if values is None and isinstance(logprobs.get("content"), list):
        values = [item.get("logprob") for item in logprobs["content"] if isinstance(item, dict)]
    if isinstance(values, list) and len(values) == 1 and isinstance(values[0], int | float):
        value = values[0]
        return float(value) if -_MAX_LOGPROB <= value <= 0 else None
    return None
