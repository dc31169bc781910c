"""Error bodies of any shape, read into one type.

Servers send error objects, strings, lists, FastAPI's details, Google's details, JSON inside the
text of a message, plain text, or a page of HTML. One reader turns them all into an ErrorBody: a
message for people, and structured facts from which meaning.py derives the code.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import attrs
import msgspec

from adapters.http_util.delays import delay_in_words_ms, field_ms, is_delay, retry_after_ms
from adapters.http_util.secrets import MAX_SEARCHED_CHARS, MAX_SHOWN_CHARS, redact, safe_text

MAX_DEPTH = 12
"""Levels of nesting that are read. Each gateway in a chain adds one."""

MAX_HEADERS = 64
"""Headers of another server that a body repeats: a usual answer has fewer."""

MAX_CODE_CHARS = 64
"""The longest text that may be a code."""

MAX_CODES = 16
"""Codes kept of one body: an error has a few, a list of hundreds is an attack."""

_MESSAGES = (
    *("message", "msg", "error_description", "error_message", "error_msg", "errorMessage"),
    *("Message", "detail", "details", "status_msg", "faultstring", "description", "title", "text"),
    *("reason", "error", "errors"),
)
"""Keys under which an object holds its message, the most specific first."""

_CODES = (
    *("code", "type", "error_type", "errorType", "error_code", "errorCode", "status", "reason"),
    *("__type", "kind", "subtype", "Code"),
)
_STATUSES = (
    *("code", "status", "status_code", "statusCode", "http_status", "http_code", "httpStatus"),
    *("error_code", "errorCode"),
)
_INSIDE = ("error", "errors", "detail", "details", "innererror", "inner_error", "metadata",
           "base_resp", "fault", "raw", "body", "response", "cause", "violations",
           "promptFeedback", "parameters", "data", "rate_limit", "retry_info", "Error", "Response",
           "header", "x_groq")  # fmt: skip
"""Keys under which objects hold more facts, or texts that are JSON."""

_WRAPPERS = ("base_resp", "fault", "Error", "Response", "header", "x_groq")
"""Objects around a whole error."""

_EMPTY_TEXTS = frozenset({"error", "none", "null", "true", "false", "unknown", "about_blank"})

# Facts inside a text: a status at its start or after a word for it, an exception's class, and
# the fields of a JSON object or a Python dict. Compiled when the first error comes.
_LEADING_STATUS = r"\W{0,3}([45]\d\d)(?:\s{0,3}[:\-\u2013\u2014|]|\W{0,3}$|\s(?=\w))"
_NAMED_STATUS = (
    r"(?i)\b(?:error[ _]code|status(?:[ _]code)?|http(?:/\d(?:\.\d)?)?(?: error| status)?)"
    r"[\"']?\s{0,3}[:=]?\s{0,3}\(?([45]\d\d)\b"
)
_EXCEPTION = r"\b([A-Z][A-Za-z]{2,60}(?:Error|Exception))\b"
_FIELD = (
    r"""["'](?:code|type|error_type|status|reason)["']\s{0,3}[:=]\s{0,3}"""
    r"""["']([A-Za-z][\w.-]{2,63})["']"""
)
_CODE_ALONE = r"[a-z]{2,30}(?:_[a-z]{2,30}){1,6}|[A-Z]{2,30}(?:_[A-Z]{2,30}){1,6}"
"""A text that is a code: "prompt_too_long"."""
_CODE_LIKE = r"[A-Za-z][\w.-]{0,63}(?: [\w.-]{1,20}){0,2}"


class ErrorBody(NamedTuple):
    """The content of an error body. The message is one line, bounded, without credentials.

    Args:
        message: The server's words.
        codes: Its codes and types in snake case: "context_length_exceeded", "rate_limit_error".
        param: The request field that it refuses.
        status: The HTTP status that it names, if it names one.
        retry_after_ms: The delay that it requests.
    """

    message: str
    codes: frozenset[str] = frozenset()
    param: str | None = None
    status: int | None = None
    retry_after_ms: int | None = None


def read_error_body(body: bytes, secrets: Iterable[str] = ()) -> ErrorBody:
    """Read an error body of any shape. Never raises.

    Args:
        body: The received bytes.
        secrets: Credentials to keep out of the message.
    """
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        payload = body.decode("utf-8", "replace")
    return read_error_payload(payload, secrets)


def read_error_payload(payload: Any, secrets: Iterable[str] = ()) -> ErrorBody:
    """Read an error that is decoded JSON; otherwise like read_error_body."""
    found = _Found()
    try:
        found.read(payload)
        message = found.message or _as_json(payload)
    except RecursionError:
        message = "an error that is nested too deeply to be read"
    delay_ms = found.retry_after_ms
    return ErrorBody(
        tidy(message, secrets),
        frozenset(found.codes),
        found.param,
        found.stated_status(),
        delay_in_words_ms(message[:MAX_SEARCHED_CHARS]) if delay_ms is None else delay_ms,
    )


def _as_json(payload: Any) -> str:
    """Show a body without words as compact JSON."""
    if not payload or (isinstance(payload, Mapping) and not any(payload.values())):
        return ""
    try:
        return msgspec.json.encode(payload).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return "an error that is nested too deeply to be read"


def tidy(text: str, secrets: Iterable[str]) -> str:
    """Return `text` as one printable line of bounded length, without credentials and markup.

    A credential that is cut in half is removed, too.
    """
    text = redact(text[:MAX_SEARCHED_CHARS], secrets)[: 8 * MAX_SHOWN_CHARS]
    if text.lstrip().startswith("<"):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    return safe_text(text)


def snake(code: str) -> str:
    """Return a code in snake case: "RateLimitError" and "rate-limit.error" are the same."""
    code = code.rpartition("#")[2]  # AWS puts a namespace before it
    code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", code)
    return re.sub(r"[^a-z0-9]+", "_", code.lower()).strip("_")


@attrs.define
class _Found:
    """The facts of a body, collected level by level; inner levels take precedence."""

    message: str = ""
    codes: set[str] = attrs.field(factory=set)
    param: str | None = None
    status: int | None = None
    status_in_text: int | None = None
    retry_after_ms: int | None = None

    def stated_status(self) -> int | None:
        """Return the status. A gateway that wraps a refusal sends 500 itself, and 400 in its
        text."""
        vague = self.status in (None, 500)
        return self.status_in_text if vague and self.status_in_text else self.status

    def read(self, payload: Any, depth: int = 0) -> None:
        """Collect the facts of `payload`.

        Raises:
            RecursionError: If it is nested too deeply.
        """
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(payload, str):
            self.message = self._read_text(payload, depth)
        elif isinstance(payload, Mapping):
            self._read_object(payload, depth)
        elif isinstance(payload, list | tuple):
            self._read_list(payload, depth)
        elif payload is not None:
            self.message = str(payload)

    def _read_inner(self, payload: Any, depth: int) -> str:
        """Collect the facts of something inside; return its message."""
        outer, self.message = self.message, ""
        self.read(payload, depth + 1)
        inner, self.message = self.message, outer
        return inner

    def _read_object(self, payload: Mapping[str, Any], depth: int) -> None:
        texts = {
            key: self._read_inner(payload[key], depth)
            for key in _INSIDE
            if isinstance(payload.get(key), Mapping | list | str)
        }
        if not texts.get("errors") and isinstance(payload.get("errors"), Mapping):
            texts["errors"] = self._read_fields(payload["errors"], depth)
        self._note_facts(payload)
        for key in _MESSAGES:
            value = payload.get(key)
            if key in ("error", "detail", "errors", "details") and texts.get(key):
                words = texts[key]
            elif isinstance(value, str) and value.strip():
                words = self._read_text(value, depth)
            elif isinstance(value, list) and key not in _INSIDE:
                words = self._read_inner(value, depth)
            else:
                continue
            if key == "error" and isinstance(value, str) and self.message:
                self._note_code(value)
            elif not self.message:
                self.message = words
        nested = texts.get("error") if isinstance(payload.get("error"), Mapping | list) else ""
        last = next(filter(None, map(texts.get, _WRAPPERS)), "")
        self.message = nested or self.message or last
        wrapped = texts.get("metadata") or texts.get("raw")
        if wrapped and wrapped not in self.message:
            self.message = f"{self.message}: {wrapped}" if self.message else wrapped

    def _read_fields(self, fields: Mapping[str, Any], depth: int) -> str:
        """Return the text of a mapping from fields to their problems."""
        parts = [(name, self._read_inner(value, depth)) for name, value in [*fields.items()][:9]]
        return "; ".join(f"{name}: {said}" for name, said in parts if said)

    def _note_facts(self, payload: Mapping[str, Any]) -> None:
        for key in _CODES:
            self._note_code(payload.get(key))
        for key in _STATUSES:
            self.status = self.status or _status(payload.get(key))
        for key, value in payload.items():
            if self.retry_after_ms is None and isinstance(key, str) and is_delay(key):
                self.retry_after_ms = field_ms(key, value)
        headers = payload.get("headers")
        if self.retry_after_ms is None and isinstance(headers, Mapping):  # OpenRouter's metadata
            texts = [*headers.items()][:MAX_HEADERS]
            self.retry_after_ms = retry_after_ms({str(k).lower(): str(v) for k, v in texts})
        if payload.get("blockReason"):  # Google's promptFeedback
            self._note_code("prompt_blocked")
        if isinstance(payload.get("quotaId"), str):  # Google's QuotaFailure
            self._note_code(payload["quotaId"])
        param = payload.get("param")
        if self.param is None and isinstance(param, str) and param:
            self.param = param
        if payload.get("flagged_input"):  # OpenRouter's sign of moderation
            self._note_code("flagged_input")

    def _note_code(self, value: Any) -> None:
        if not isinstance(value, str) or len(self.codes) >= MAX_CODES or "/" in value:
            return
        if re.fullmatch(_CODE_LIKE, value.rpartition("#")[2]):
            code = snake(value)
            if code and code not in _EMPTY_TEXTS:
                self.codes.add(code)

    def _read_list(self, items: "list[Any] | tuple[Any, ...]", depth: int) -> None:
        """Read FastAPI's details, a list of errors, or Google's list of typed details."""
        words, fields = [], []
        for item in items[:MAX_CODES]:
            if isinstance(item, Mapping) and "loc" in item:
                steps = item["loc"] if isinstance(item["loc"], list) else []
                place = [str(step) for step in steps if step != "body"]
                fields += place[:1]
                # The type of a validation error concerns only this field.
                said = str(item.get("msg") or item.get("type") or "")
                said = f"{'.'.join(place)}: {said}" if place else said
            else:
                said = self._read_inner(item, depth)
            if said:
                words.append(said)
        if len(fields) == 1 and self.param is None:
            self.param = fields[0]
        self.message = "; ".join(words)

    def _read_text(self, text: str, depth: int) -> str:
        """Return the words of a text, in which JSON and status may be hidden."""
        part = text[:MAX_SEARCHED_CHARS]
        self._scan(part)
        start, end = _json_place(part)
        if start is None:
            return text
        try:
            payload = msgspec.json.decode(part[start:end])
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return text
        if not isinstance(payload, Mapping | list):
            return text
        inner = self._read_inner(payload, depth)
        return f"{part[:start]}{inner}{part[end:]}".strip() if inner else text

    def _scan(self, text: str) -> None:
        head = text[: 8 * MAX_SHOWN_CHARS]
        if len(head) <= MAX_CODE_CHARS and re.fullmatch(_CODE_ALONE, head):
            self._note_code(head)
        for code in (*re.findall(_FIELD, head), *re.findall(_EXCEPTION, head)):
            self._note_code(code)
        leading = re.match(_LEADING_STATUS, head)
        if leading and self.status_in_text is None and _is_status_line(head, leading):
            self.status_in_text = int(leading[1])
        named = re.search(_NAMED_STATUS, head)
        if named and self.status_in_text is None:
            self.status_in_text = int(named[1])


def _is_status_line(text: str, match: "re.Match[str]") -> bool:
    """Return whether a number at the start is a status: punctuation or its phrase follows."""
    if not text[match.end(1) : match.end()].isspace():
        return True
    try:
        phrase = HTTPStatus(int(match[1])).phrase
    except ValueError:
        return False
    return text[match.end() :].lower().startswith(phrase.lower())


def _json_place(text: str) -> tuple[int | None, int]:
    """Return where JSON may stand in a text: from its first brace or bracket to its last."""
    starts = [at for at in (text.find("{"), text.find("[{")) if at >= 0]
    end = max(text.rfind("}"), text.rfind("]")) + 1
    return (min(starts), end) if starts and end else (None, 0)


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None
