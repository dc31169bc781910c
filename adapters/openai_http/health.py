"""The meaning of answers to a health check. No I/O.

No status is sufficient alone. A 200 may carry an error (LM Studio's answer to every path), a 403
may concern only the model list, and a 503 may mean loading, busy or broken.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from adapter_api import ErrorCode, HealthState, HealthStatus
from adapters.http_util import ErrorBody, code_for, is_error
from adapters.openai_http.models import models_in

MAX_FIELDS = 64
"""Fields of a body that are read for its state."""

MAX_WORDS_CHARS = 1024
"""The maximum length of the words that are searched for a state."""

MAX_SAID_CHARS = 200
"""The maximum length of a server's message in a status."""

# Not compiled here: re does that once, at the first check.
_LOADING = r"(?i)\b(?:loading|not (?:yet )?loaded|starting|warming|initiali[sz]ing)\b"
_BUSY = r"(?i)\b(?:overloaded|busy|no (?:free |available )?slots?|queue (?:is )?full)\b"
_BAD = (
    r"(?i)\b(?:un(?:healthy|available|ready|reachable)|not (?:ready|healthy|available|alive|live|ok"
    r"|operational)|down|dead|fail(?:ed|ing|ure)?|(?<!no )errors?|offline|stopp(?:ed|ing)|critical"
    r"|terminat(?:ed|ing)|drain(?:ed|ing)|shutting|pending"
    r"|(?:no|0) (?:\w{1,12} )?(?:workers?|backends?|replicas?|engines?|instances?|nodes?))\b"
)
_TOLD = (
    *("error", "errors", "error_code", "error_message", "error_msg", "exception"),
    *("object", "ok", "success", "type"),
)
"""Names that report an error in the answer to a probe."""
_FLAGS = ("ready", "healthy", "ok", "alive", "available", "live", "operational")
_COUNTED = (
    r"(?:healthy|ready|available|live|active)_(?:workers|backends|replicas|engines|instances|nodes)"
)
_SCOPE = (
    r"(?i)\b(?:insufficient|missing)[ _](?:\w{1,12}[ _])?(?:permissions?|scopes?)\b"
    r"|\bnot (?:permitted|allowed|authorized) to\b|\blimited to\b|\brestricted\b"
    r"|\bdoes ?n[o'\u2019]t have (?:\w{1,12} )?(?:access|permission)"
)
"""Words of a refusal that concerns the key's permissions, not the key."""

_KEY = r"(?i)\b(?:api[ _-]?keys?|tokens?|credentials?|unauthori[sz]ed|authenticat\w*)\b"


class Reply(NamedTuple):
    """An answer to a probe.

    Args:
        status: The HTTP status; 0 if there was no answer.
        json: The decoded body; None if it is not JSON.
        error: The content of the body if it is an error, whatever the status.
        text: The text of a refusal, including its status.
        why: The reason why there was no answer.
        headers: The answer's headers.
    """

    status: int = 0
    json: Any = None
    error: ErrorBody | None = None
    text: str = ""
    why: str = ""
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def code(self) -> ErrorCode | None:
        """The failure; None if there was none."""
        if self.status == 0:
            return ErrorCode.POOL_UNAVAILABLE
        if self.error is None:
            return None
        if self.status < 300:
            return code_for(self.error.status, self.error)
        return code_for(self.status, self.error)

    @property
    def is_good(self) -> bool:
        """True for a success without an error inside."""
        return self.code is None and not self.says_bad

    @property
    def says_bad(self) -> bool:
        """True if the body of a success contradicts it, as in `{"status": "unhealthy"}`."""
        return any(re.search(words, self.words) for words in (_BAD, _LOADING, _BUSY))

    @property
    def words(self) -> str:
        """The state that a JSON body names, as words."""
        if not isinstance(self.json, Mapping):
            return ""
        found = [str(self.json.get(name, "")) for name in ("status", "state", "health")]
        for name, value in [*self.json.items()][:MAX_FIELDS]:
            flag = name.lower().removeprefix("is").removeprefix("_")
            if flag in _FLAGS and (value is False or value == "false"):
                found.append(f"not {flag}")
            if value == 0 and type(value) is int and re.fullmatch(_COUNTED, name):
                found.append(f"0 {name}")
        return " ".join(found).replace("_", " ")[:MAX_WORDS_CHARS]

    @property
    def has_no_such_path(self) -> bool:
        """True if the path is refused, which does not show the server's state."""
        if self.status < 300:
            return self.code is ErrorCode.UPSTREAM_NOT_FOUND
        return (self.status < 500 and self.status not in (408, 425, 429)) or self.status == 501

    @property
    def said(self) -> str:
        """The server's words, cut to fit into a status."""
        return (self.text or (self.error.message if self.error else ""))[:MAX_SAID_CHARS]


def reports_error(payload: Any) -> bool:
    """Return whether the JSON of a success is an error object, or a list of them.

    A report of a server's state may hold counts of failures, the last error, and positive messages.
    So fewer names count than in the events of an answer.
    """
    if isinstance(payload, list):
        objects = [item for item in payload if isinstance(item, dict)]
        return bool(objects) and all(map(reports_error, objects))
    if not isinstance(payload, dict) or "data" in payload:
        return False
    told = {name: payload[name] for name in _TOLD if name in payload}
    return is_error(payload if set(payload) == {"detail"} else told)


def of_endpoint(reply: Reply) -> HealthStatus:
    """Return the state that a health or readiness endpoint, or any other probe, reports."""
    if reply.status == 0:
        return HealthStatus(HealthState.UNHEALTHY, reply.why, live=False, ready=False)
    if reply.is_good:
        return HealthStatus(HealthState.HEALTHY, "ready")
    said = f"{reply.words} {reply.said}"
    if reply.code is ErrorCode.UPSTREAM_AUTH and refuses_key(reply):
        return _not_ready("the server refuses the key")
    if reply.status in (200, 503) and re.search(_LOADING, said):
        return _not_ready("loading")
    busy = reply.status in (200, 503) and re.search(_BUSY, said)
    if busy or reply.code is ErrorCode.ADMISSION_REJECT:
        return HealthStatus(HealthState.DEGRADED, "busy", live=True, ready=True)
    if reply.has_no_such_path and not 300 <= reply.status < 400:
        return HealthStatus(
            HealthState.DEGRADED, "alive, but does not report its health", live=True, ready=True
        )
    return _not_ready(reply.said or f"the server reports {reply.words.strip()!r}")


def of_models(reply: Reply, *, vouched: bool) -> HealthStatus:
    """Return the state that follows from the answer to a request for the model list.

    Args:
        reply: The answer.
        vouched: Whether a health endpoint has reported that the server is ready.
    """
    if reply.is_good and models_in(reply.json) is None:
        return _doubt("its model list cannot be read; does base_url name the API?")
    if reply.is_good:
        return HealthStatus(HealthState.HEALTHY, "ready")
    if reply.status and reply.code is ErrorCode.UPSTREAM_AUTH:
        if refuses_key(reply):
            return _not_ready("the server refuses the key")
        return _doubt("the key may not list its models")
    if vouched and reply.has_no_such_path and reply.status != 400:
        return HealthStatus(HealthState.HEALTHY, "ready")
    # A failing list does not mean that jobs fail; an unreachable upstream does.
    if reply.status in (400, 500) or (vouched and (reply.status == 0 or reply.status >= 500)):
        return _doubt(f"it does not list its models: {reply.why or reply.said}")
    return of_endpoint(reply)


def refuses_key(reply: Reply) -> bool:
    """Return whether the key itself is refused. A 403 may concern the requested resource, and some
    servers answer 401 if a key lacks a permission."""
    if reply.error is None:
        return reply.status != 403
    if re.search(_SCOPE, " ".join((reply.error.message, *reply.error.codes))):
        return False
    return reply.status != 403 or re.search(_KEY, reply.error.message) is not None


def _doubt(why: str) -> HealthStatus:
    return HealthStatus(HealthState.DEGRADED, f"ready, but {why}", live=True, ready=True)


def _not_ready(why: str) -> HealthStatus:
    return HealthStatus(HealthState.UNHEALTHY, why, live=True, ready=False)
