"""What is known of the server behind a base_url, and the requests that find out more.

Answers to jobs teach it for free. Only health, props and engine_version send requests of their own:
a submit never waits for one, and never fails because of one.
"""

import asyncio
import re
from collections.abc import Mapping
from time import monotonic
from typing import Any

import attrs
import httpx
import msgspec

from adapter_api import EngineProps, HealthState, HealthStatus, WorkerError
from adapters.http_util import (
    MAX_SEARCHED_CHARS,
    check_egress,
    error_from_exception,
    error_from_response,
    read_bounded,
    redact,
)
from adapters.openai_http.answer import MAX_NAME_CHARS, AnswerReader
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.dialects import (
    DIALECTS,
    UNKNOWN,
    Dialect,
    by_chunk,
    by_headers,
    by_host,
    by_owner,
)
from adapters.openai_http.endpoints import Endpoints

PROBE_TIMEOUT_S = 5.0
"""For all requests of one check together: a server that needs longer to say how it is, is not
well."""

MAX_PROBE_BYTES = 4 << 20
"""Model lists of large providers have some hundred kilobytes."""

# How much a source of the version is worth; a better one replaces a worse one, never the reverse.
_FROM_MODEL, _FROM_FINGERPRINT, _FROM_HEADER, _FROM_ENDPOINT = range(1, 5)

_LOADING = re.compile(r"\b(?:loading|not (?:yet )?loaded|starting|warming|initiali[sz]ing)\b", re.I)
_BUSY = re.compile(r"\b(?:overloaded|busy|no (?:free |available )?slots?)\b", re.I)


@attrs.frozen
class Reply:
    """An answer to a probe. `status` is 0 if there was none; `why` then says why. `text` is what a
    refusal says, its status included."""

    status: int = 0
    json: Any = None
    text: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    why: str = ""


class Server:
    """One server: its dialect, its version, its models, and the fields it refuses.

    Args:
        config: The adapter's options.
        endpoints: Where to ask.
        client: What to ask with.
        credentials: Whose key.
        probe_timeout_s: Seconds that health, props or engine_version may take.
    """

    def __init__(
        self,
        config: OpenAIHttpConfig,
        endpoints: Endpoints,
        client: httpx.AsyncClient,
        credentials: Credentials,
        *,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._client = client
        self._credentials = credentials
        self._probe_timeout_s = probe_timeout_s
        self._version: str | None = None
        self._version_worth = 0
        self._noted: tuple[str | None, ...] = ()  # of the answer that was looked at last
        self._refused: dict[str, frozenset[str]] = {}
        self._model_entries: tuple[dict[str, Any], ...] = ()
        self.dialect = (
            DIALECTS[config.dialect]
            if config.dialect != "auto"
            else by_host(endpoints.root.host) or UNKNOWN
        )

    # What answers teach

    @property
    def version(self) -> str | None:
        """The most exact version told so far."""
        return self._version

    def refused_fields(self, model: str | None) -> frozenset[str]:
        """Request fields to leave out for `model`."""
        return self._refused.get(model or "", frozenset())

    def note_refusal(self, model: str | None, fields: frozenset[str]) -> None:
        """The server refuses `fields` for `model`."""
        self._refused[model or ""] = self._refused.get(model or "", frozenset()) | fields

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of any answer."""
        if self.dialect is UNKNOWN:
            self._recognize(by_headers(headers))
        if self.dialect.version_header is not None:
            self._note_version(headers.get(self.dialect.version_header), _FROM_HEADER)

    def note_answer(self, answer: AnswerReader) -> None:
        """Learn from what a streamed answer said of its server so far."""
        identity = (answer.fingerprint, answer.completion_id, answer.model)
        if identity == self._noted:
            return
        self._noted = identity
        if self.dialect is UNKNOWN:
            self._recognize(by_chunk(*identity))
        self._note_version(answer.fingerprint, _FROM_FINGERPRINT)
        self._note_version(answer.model, _FROM_MODEL)

    def _recognize(self, dialect: Dialect | None) -> None:
        if dialect is not None and self.dialect is UNKNOWN:
            self.dialect = dialect

    def _note_version(self, version: object, worth: int) -> None:
        if isinstance(version, str) and version and worth >= self._version_worth:
            shown = redact(version[:MAX_SEARCHED_CHARS], self._credentials.secrets)
            self._version, self._version_worth = shown[:MAX_NAME_CHARS], worth

    # What probes find out

    async def health(self) -> HealthStatus:
        """How the server is. Costs no tokens and never raises WorkerError."""
        started = monotonic()
        until = started + self._probe_timeout_s
        reply, models = await self._ask_health(until)
        status = self._judge(reply)
        listed = None
        if status.live and status.ready:
            status, listed = await self._look_closer(status, models, until)
        return attrs.evolve(
            status,
            latency_ms=round((monotonic() - started) * 1000, 3),
            model_listed=listed,
        )

    async def _ask_health(self, until: float) -> tuple[Reply, Reply | None]:
        """What tells of the server's health; and the model list, if that was asked instead."""
        path = self.dialect.health_path
        if path is not None and self._endpoints.key_header == "Authorization":
            reply = await self._get(self._endpoints.at(path), until)
            if not _has_no_such_path(reply.status):
                return reply, None
        if self._endpoints.models is None:
            # A deployment of Azure has nothing to ask for free; any answer shows that it lives.
            reply = await self._get(self._endpoints.chat, until)
            alive = reply.status in (400, 404, 405, 415)
            return (attrs.evolve(reply, status=200) if alive else reply), None
        models = await self._get_models(until)
        return models, models

    def _judge(self, reply: Reply) -> HealthStatus:
        if reply.status == 0:
            return HealthStatus(HealthState.UNHEALTHY, reply.why, live=False, ready=False)
        if 200 <= reply.status < 300:
            return HealthStatus(HealthState.HEALTHY, "ready")
        if reply.status in (401, 403):
            return HealthStatus(
                HealthState.UNHEALTHY, "the server refuses the key", live=True, ready=False
            )
        said = reply.text[:200]
        if reply.status == 503 and _LOADING.search(said):
            return HealthStatus(HealthState.UNHEALTHY, "loading", live=True, ready=False)
        if reply.status == 429 or (reply.status == 503 and _BUSY.search(said)):
            return HealthStatus(HealthState.DEGRADED, "busy", live=True, ready=True)
        if reply.status == 404:
            return HealthStatus(
                HealthState.DEGRADED,
                "alive, but tells nothing of its health",
                live=True,
                ready=True,
            )
        return HealthStatus(HealthState.UNHEALTHY, said, live=True, ready=False)

    async def _look_closer(
        self, status: HealthStatus, models: Reply | None, until: float
    ) -> tuple[HealthStatus, bool | None]:
        """Whether the key is accepted, the model listed and a slot free."""
        if self._endpoints.models is None:
            return status, None
        reply = models or await self._get_models(until)
        if reply.status in (401, 403):
            return self._judge(reply), None
        doubt = _doubt(reply)
        if doubt:
            status = HealthStatus(HealthState.DEGRADED, f"ready, but {doubt}")
        listed = None
        names, model = self._model_names(), self._config.model
        if names and model is not None:
            listed = model in names or f"{model}:latest" in names  # as Ollama calls it
        if listed is False:
            status = HealthStatus(HealthState.DEGRADED, f"ready, but does not list model {model!r}")
        total, free = await self._slots(until)
        if total and free == 0:
            status = HealthStatus(HealthState.DEGRADED, f"busy: all {total} slots are in use")
        return status, listed

    async def engine_version(self) -> str:
        """The version, asked for unless the best source has told it already."""
        until = monotonic() + self._probe_timeout_s
        if self._version_worth < _FROM_HEADER:
            if self.dialect is UNKNOWN and self._endpoints.models is not None:
                await self._get_models(until)
            await self._ask_version(until)
        return self._version or "unknown"

    async def _ask_version(self, until: float) -> None:
        if self._version_worth >= _FROM_HEADER:
            return
        if self.dialect.version_path is not None:
            sources = [self.dialect.version_path]
        elif self.dialect is UNKNOWN:
            sources = [("/version", "version"), ("/api/version", "version")]
        else:
            return
        for path, key in sources:
            reply = await self._get(self._endpoints.at(path), until)
            if reply.status == 200 and isinstance(reply.json, dict):
                self._note_version(reply.json.get(key), _FROM_ENDPOINT)
            if self._version_worth == _FROM_ENDPOINT:
                return

    async def props(self) -> EngineProps:
        """Everything the server tells of itself."""
        until = monotonic() + self._probe_timeout_s
        if self._endpoints.models is not None:
            await self._get_models(until)
        await self._ask_version(until)
        total, free = await self._slots(until)
        return EngineProps(
            engine=self.dialect.engine,
            engine_version=self._version,
            models=self._model_names(),
            context_length=self._context_length(),
            slots_total=total,
            slots_free=free,
            model_digest=self._model_digest(),
            dropped_fields={
                model: tuple(sorted(fields)) for model, fields in self._refused.items()
            },
            features={"dialect": self.dialect.name, "base_url": str(self._endpoints.root)},
        )

    async def _slots(self, until: float) -> tuple[int | None, int | None]:
        if self.dialect.slots_path is None:
            return None, None
        slots = (await self._get(self._endpoints.at(self.dialect.slots_path), until)).json
        if not isinstance(slots, list):
            return None, None
        busy = sum(1 for slot in slots if isinstance(slot, dict) and slot.get("is_processing"))
        return len(slots), len(slots) - busy

    async def _get_models(self, until: float) -> Reply:
        assert self._endpoints.models is not None
        reply = await self._get(self._endpoints.models, until)
        data = reply.json.get("data") if isinstance(reply.json, dict) else None
        if reply.status == 200 and isinstance(data, list):
            self._model_entries = tuple(entry for entry in data if isinstance(entry, dict))
            if self._model_entries:
                owner = self._model_entries[0].get("owned_by")
                self._recognize(by_owner(owner if isinstance(owner, str) else None))
        return reply

    def _model_names(self) -> tuple[str, ...]:
        return tuple(e["id"] for e in self._model_entries if isinstance(e.get("id"), str))

    def _chosen_model(self) -> dict[str, Any]:
        for entry in self._model_entries:
            if entry.get("id") == self._config.model:
                return entry
        return self._model_entries[0] if len(self._model_entries) == 1 else {}

    def _context_length(self) -> int | None:
        entry = self._chosen_model()
        meta = entry.get("meta")
        if not isinstance(meta, dict):
            meta = {}
        for value in (
            entry.get("max_model_len"),
            meta.get("n_ctx"),
            meta.get("n_ctx_train"),
            entry.get("context_length"),
            entry.get("context_window"),
        ):
            if type(value) is int and value > 0:
                return value
        return None

    def _model_digest(self) -> str | None:
        digest = self._chosen_model().get("digest")
        return digest if isinstance(digest, str) and digest else None

    async def _get(self, url: httpx.URL, until: float) -> Reply:
        """GET `url`, answered before `until` (time.monotonic). What goes wrong is in the reply."""
        try:
            check_egress(url, self._config.egress_allow)
            async with asyncio.timeout(until - monotonic()):
                headers = {
                    "Accept-Encoding": "identity",
                    **self._config.headers,
                    **await self._credentials.headers(),
                }
                request = self._client.build_request(
                    "GET", url, headers=headers, timeout=self._config.timeouts()
                )
                # A redirect would take the key with it, to wherever it points.
                response = await self._client.send(request, stream=True, follow_redirects=False)
                try:
                    body = await read_bounded(response, MAX_PROBE_BYTES)
                finally:
                    await response.aclose()
        except TimeoutError:
            return Reply(why=f"no answer within {self._probe_timeout_s:g} s")
        except WorkerError as error:
            return Reply(why=error.message)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            why = error_from_exception(exc, secrets=self._credentials.secrets).message
            return Reply(why=why)
        self.note_headers(response.headers)
        return _reply(response, body, self._credentials.secrets)


def _has_no_such_path(status: int) -> bool:
    """Whether a GET was refused for itself, not for the state of the server."""
    return 300 <= status < 500 and status not in (408, 425, 429)


def _doubt(models: Reply) -> str:
    """What is odd about an answer to the request for the model list, "" if nothing."""
    if models.status == 200 and not isinstance(models.json, dict):
        return "its model list cannot be read; does base_url name the API?"
    if models.status == 0:
        return f"it does not list its models: {models.why}"
    if models.status == 400 or (models.status >= 500 and models.status != 501):
        return f"it does not list its models: {models.text[:200]}"
    return ""


def _reply(response: httpx.Response, body: bytes, secrets: tuple[str, ...]) -> Reply:
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        payload = None
    text = ""
    if response.status_code >= 300:
        text = error_from_response(
            response.status_code, response.headers, body, secrets=secrets
        ).message
    return Reply(response.status_code, payload, text, response.headers)
