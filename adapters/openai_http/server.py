"""The server behind a base_url: the facts learnt from its answers, and the probes for more.

Answers to jobs cost nothing extra. Only health, props and engine_version send requests of their
own: a submit never waits for one, and never fails because of one. health.py judges the answers.
"""

import asyncio
from collections.abc import Mapping

import attrs
import httpx
import msgspec

from adapter_api import EngineProps, HealthState, HealthStatus, WorkerError
from adapters.http_util import (
    check_egress,
    error_from_exception,
    error_from_response,
    read_bounded,
    read_error_body,
    read_error_payload,
    safe_text,
)
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.credentials import Credentials
from adapters.openai_http.dialects import (
    DIALECTS,
    READINESS_PATHS,
    UNKNOWN,
    Dialect,
    by_chunk,
    by_headers,
    by_host,
    by_owner,
    version_in,
)
from adapters.openai_http.endpoints import Endpoints
from adapters.openai_http.facts import MAX_NAME_CHARS, Facts
from adapters.openai_http.health import Reply, of_endpoint, of_models, reports_error
from adapters.openai_http.models import ModelList, models_in

PROBE_TIMEOUT_S = 5.0
"""For all requests of one check together: a server that takes longer to report its health is not
healthy."""

STOP_TIMEOUT_S = 2.0
"""How long the request that stops an abandoned generation may take. No job waits for its answer."""

MAX_PROBE_BYTES = 4 << 20
"""Model lists of large providers have some hundred kilobytes."""

# The quality of each source of the version; a better one replaces a worse one, never the reverse.
_FROM_MODEL, _FROM_FINGERPRINT, _FROM_HEADER, _FROM_ENDPOINT = range(1, 5)


class Server:
    """One server: its dialect, its version, its models, and the fields it refuses.

    Args:
        config: The adapter's options.
        endpoints: The server's URLs.
        client: Sends the probes.
        credentials: The key, and the secrets to remove from texts.
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
        self._noted: tuple[str | None, ...] = ()  # of the latest answer that was examined
        self._refused: dict[str, frozenset[str]] = {}
        self._refused_with_tools: dict[str, frozenset[str]] = {}
        self._models = ModelList(config.model, credentials)
        self._server_header: str | None = None
        known = DIALECTS.get(config.dialect) or by_host(endpoints.root.host)
        self.dialect = known or UNKNOWN
        # Endpoints that may exist; once one is found, only that one is queried.
        self._readiness: tuple[str, ...] = READINESS_PATHS if known is None else ()

    # Learning from answers

    @property
    def version(self) -> str | None:
        """The most exact version that the server has reported."""
        if self._version_worth == _FROM_MODEL and not self.dialect.model_is_version:
            return None
        return self._version

    def refused_fields(self, model: str | None, *, tools: bool) -> frozenset[str]:
        """Return the request fields to leave out for `model`, in a job with or without tools."""
        refused = self._refused.get(model or "", frozenset())
        return (
            refused | self._refused_with_tools.get(model or "", frozenset()) if tools else refused
        )

    def note_refusal(self, model: str | None, fields: frozenset[str], *, tools: bool) -> None:
        """Note that the server refuses `fields` for `model`.

        With tools it may refuse what it takes without them: llama.cpp does so for logprobs.
        """
        known = self._refused_with_tools if tools else self._refused
        known[model or ""] = known.get(model or "", frozenset()) | fields

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of any answer."""
        self._server_header = headers.get("server")
        if self._is_unknown:
            self._recognize(by_headers(headers))
        if self.dialect.version_header is not None:
            self._note_version(headers.get(self.dialect.version_header), _FROM_HEADER)

    def note_answer(self, answer: Facts) -> None:
        """Learn from the part of a streamed answer that has arrived."""
        unknown = self._is_unknown
        identity = answer.fingerprint, answer.completion_id if unknown else "", answer.model
        if identity == self._noted:
            return
        self._noted = identity
        if unknown:
            self._recognize(by_chunk(*identity, self._server_header))
        self._note_version(version_in(self.dialect, answer.fingerprint), _FROM_FINGERPRINT)
        self._note_version(answer.model, _FROM_MODEL)

    @property
    def _is_unknown(self) -> bool:
        return self.dialect.name == UNKNOWN.name

    def _recognize(self, dialect: Dialect | None) -> None:
        if dialect is not None and self._is_unknown:
            self.dialect = dialect

    def _note_version(self, version: object, worth: int) -> None:
        if isinstance(version, str) and version and worth >= self._version_worth:
            secrets = self._credentials.secrets
            self._version = safe_text(version, secrets, max_chars=MAX_NAME_CHARS)
            self._version_worth = worth

    # Probing

    async def health(self) -> HealthStatus:
        """Check the server. Costs no tokens, bills nothing, and never raises WorkerError."""
        started = _now()
        until = started + self._probe_timeout_s
        status, listed = await self._check(until)
        return attrs.evolve(
            status,
            latency_ms=round((_now() - started) * 1000, 3),
            model_listed=listed,
        )

    async def _check(self, until: float) -> tuple[HealthStatus, bool | None]:
        models = None
        if self._is_unknown and self._endpoints.models is not None:
            models = await self._get_models(until)  # free everywhere, and may identify the server
            if models.status == 0:
                return of_endpoint(models), None
        vouched = await self._ask_endpoints(until)
        if vouched is not None and not vouched.ready:
            return vouched, None
        if self._endpoints.models is None:
            return vouched or await self._check_deployment(until), None
        if models is None:
            models = await self._get_models(until)
        if models.status == 500 and vouched is None and await self._fails_elsewhere(until):
            return of_endpoint(models), None
        status = of_models(models, vouched=vouched is not None)
        if not status.ready:
            return status, None
        if vouched is not None and status.state is HealthState.HEALTHY:
            status = vouched
        return await self._look_closer(status, until)

    async def _ask_endpoints(self, until: float) -> HealthStatus | None:
        """Return what the health and readiness endpoints report; None if there are none."""
        if self._endpoints.key_header != "Authorization":  # Azure has neither
            return None
        found = None
        if self.dialect.health_path is not None:
            reply = await self._get(self._endpoints.at(self.dialect.health_path), until)
            if not reply.has_no_such_path:
                found = of_endpoint(reply)
            if found is not None and not found.ready:
                return found
        # A router passes on the model list of what is behind it, so that a known server may have
        # a router in front whose readiness says more.
        for path in self._readiness:
            reply = await self._get(self._endpoints.at(path), until)
            if reply.status == 0:
                return found
            if not (200 <= reply.status < 300 or reply.status == 503) or reply.has_no_such_path:
                continue
            self._readiness = (path,)
            status = of_endpoint(reply)
            return found if found is not None and status.state is HealthState.HEALTHY else status
        self._readiness = ()
        return found

    async def _fails_elsewhere(self, until: float) -> bool:
        """Return whether a path that has nothing to do with models is answered with 500, too."""
        return (await self._get(self._endpoints.at(READINESS_PATHS[0]), until)).status == 500

    async def _check_deployment(self, until: float) -> HealthStatus:
        """Check a deployment of Azure.

        It has no endpoint that is free of cost, but any answer to a GET shows that it is alive.
        """
        reply = await self._get(self._endpoints.chat, until)
        alive = reply.status in (400, 404, 405, 415)
        return of_endpoint(Reply(200) if alive else reply)

    async def _look_closer(
        self, status: HealthStatus, until: float
    ) -> tuple[HealthStatus, bool | None]:
        """Return the state after a look at the listed models and the slots."""
        listed = None
        names, model = self._models.names(), self._config.model
        if names and model is not None:
            listed = model in names or f"{model}:latest" in names  # as Ollama calls it
        if listed is False:
            status = HealthStatus(HealthState.DEGRADED, f"ready, but does not list model {model!r}")
        total, free = await self._slots(until)
        if total and free == 0:
            status = HealthStatus(HealthState.DEGRADED, f"busy: all {total} slots are in use")
        return status, listed

    async def engine_version(self) -> str:
        """Return the version; query it unless the best source has reported it already."""
        until = _now() + self._probe_timeout_s
        if self._version_worth < _FROM_HEADER:
            if self._is_unknown and self._endpoints.models is not None:
                await self._get_models(until)
            await self._ask_version(until)
        return self.version or "unknown"

    async def _ask_version(self, until: float) -> None:
        if self._version_worth >= _FROM_HEADER:
            return
        if self.dialect.version_path is not None:
            sources = [self.dialect.version_path]
        elif self._is_unknown:
            sources = [("/version", "version"), ("/api/version", "version")]
        else:
            return
        for path, key in sources:
            reply = await self._get(self._endpoints.at(path), until)
            if reply.is_good and isinstance(reply.json, dict):
                self._note_version(reply.json.get(key), _FROM_ENDPOINT)
            if self._version_worth == _FROM_ENDPOINT:
                return

    async def props(self) -> EngineProps:
        """Return everything that the server reports about itself."""
        until = _now() + self._probe_timeout_s
        if self._endpoints.models is not None:
            await self._get_models(until)
        await self._ask_version(until)
        total, free = await self._slots(until)
        return EngineProps(
            engine=self.dialect.engine,
            engine_version=self.version,
            models=self._models.names(),
            context_length=self._models.context_length(),
            slots_total=total,
            slots_free=free,
            model_digest=self._models.digest(),
            dropped_fields={
                model: tuple(sorted(self.refused_fields(model, tools=True)))
                for model in self._refused | self._refused_with_tools
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
        entries = models_in(reply.json)
        if reply.is_good and entries is not None:
            self._models.entries = entries
            self._recognize(by_owner(self._models.owner()))
        return reply

    async def stop_generation(self) -> None:
        """Ask the server to stop generating, where it has an endpoint for that.

        Never raises WorkerError: the job has ended already.
        """
        if self.dialect.stop_path is not None:
            url = self._endpoints.at(self.dialect.stop_path)
            await self._request("POST", url, _now() + STOP_TIMEOUT_S)

    async def _get(self, url: httpx.URL, until: float) -> Reply:
        return await self._request("GET", url, until)

    async def _request(self, method: str, url: httpx.URL, until: float) -> Reply:
        """Send a request and read its answer before `until` (loop time).

        Failures are part of the reply.
        """
        try:
            check_egress(url, self._config.egress_allow, self._config.proxy)
            async with asyncio.timeout(until - _now()):
                headers = {
                    "Accept-Encoding": "identity",
                    **self._config.headers,
                    **await self._credentials.headers(),
                }
                request = self._client.build_request(
                    method, url, headers=headers, timeout=self._config.timeouts()
                )
                # A redirect would take the key to another server.
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


def _reply(response: httpx.Response, body: bytes, secrets: tuple[str, ...]) -> Reply:
    status, headers = response.status_code, response.headers
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        payload = None
    if status >= 300:
        read = read_error_body(body, secrets)
        text = error_from_response(status, headers, read, secrets=secrets).message
        return Reply(status, payload, read, text, headers=headers)
    error = read_error_payload(payload, secrets) if reports_error(payload) else None
    return Reply(status, payload, error, headers=headers)


def _now() -> float:
    return asyncio.get_running_loop().time()
