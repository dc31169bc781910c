"""The options of one OpenAI-compatible endpoint."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs
import httpx

from adapter_api.validators import (
    boolean,
    integer,
    one_of,
    seconds,
    seconds_or_none,
    text,
    text_or_none,
)
from adapters.http_util import (
    MAX_EVENT_BYTES,
    MAX_LINE_BYTES,
    ClientOptions,
    RetryPolicy,
    make_transport,
    redact_headers,
)
from adapters.http_util.transport.client import POOL_TIMEOUT_S
from adapters.openai_http import validators as valid
from adapters.openai_http.dialects import DIALECTS
from adapters.openai_http.endpoints import Endpoints, resolve, show_url
from adapters.openai_http.validators import KeySource

Api = Literal["auto", "completions", "chat"]


MIN_BOUND_BYTES = 1024
"""The smallest bound on a line or an event that every ordinary chunk fits."""


def _show_url(base_url: str) -> str:
    return repr(show_url(base_url))


def _show_headers(headers: Mapping[str, str]) -> str:
    return repr(redact_headers(headers))


_CONNECTING = ("transport", "http2", "proxy", "ca_file", "client_cert")


def _option(help_text: str, **metadata: Any) -> dict[str, Any]:
    return {"help": help_text, **metadata}


@attrs.frozen
class OpenAIHttpConfig:
    """The options of the openai-http adapter. Only base_url is required.

    Durations are in seconds; None means no limit. See docs/reference/openai-http.md.
    """

    base_url: str = attrs.field(
        repr=_show_url,
        validator=text,
        metadata=_option(
            "The server's address, with a path prefix if it has one; or an endpoint's whole URL",
            env="ORCHD_OPENAI_URL",
        ),
    )
    api_key: str | KeySource | None = attrs.field(
        default=None,
        repr=False,
        validator=valid.key,
        metadata=_option(
            "The key, or a function (sync or async) that returns one",
            env="ORCHD_OPENAI_API_KEY",
            env_scope="base_url",
            secret=True,
        ),
    )
    basic_auth: str | None = attrs.field(
        default=None,
        repr=False,
        validator=valid.basic_auth,
        metadata=_option(
            '"user:password" for HTTP Basic authentication, also possible in base_url', secret=True
        ),
    )
    model: str | None = attrs.field(
        default=None,
        validator=text_or_none,
        metadata=_option("The model of tasks without one"),
    )
    api: Api = attrs.field(
        default="auto",
        validator=one_of("auto", "completions", "chat"),
        metadata=_option("The endpoint: auto (by the task), completions or chat"),
    )
    api_path: str | None = attrs.field(
        default=None,
        validator=valid.api_path,
        metadata=_option("Path of the API below base_url, such as /inference; None: /v1"),
    )
    dialect: str = attrs.field(
        default="auto",
        validator=one_of("auto", *sorted(DIALECTS)),
        metadata=_option("The kind of server, or auto to detect it from its answers"),
    )
    connect_timeout_s: float = attrs.field(
        default=5.0, validator=seconds, metadata=_option("Limit for connecting")
    )
    first_token_timeout_s: float | None = attrs.field(
        default=30.0,
        validator=seconds_or_none,
        metadata=_option("Limit for the first token, from each request on"),
    )
    stall_timeout_s: float | None = attrs.field(
        default=30.0,
        validator=seconds_or_none,
        metadata=_option("Limit between two tokens; pings do not count"),
    )
    retry: RetryPolicy = attrs.field(
        factory=RetryPolicy,
        validator=valid.retry_policy,
        converter=valid.to_policy,
        metadata=_option("How often to retry, and with which delays"),
    )
    headers: Mapping[str, str] = attrs.field(
        factory=dict,
        repr=_show_headers,
        validator=valid.headers,
        metadata=_option("More headers for every request"),
    )
    accept: str = attrs.field(
        default="text/event-stream, application/json",
        validator=valid.header_value,
        metadata=_option("The Accept header of jobs"),
    )
    max_line_bytes: int = attrs.field(
        default=MAX_LINE_BYTES,
        validator=integer(MIN_BOUND_BYTES),
        metadata=_option("The longest line of a stream; a longer one is an error"),
    )
    max_event_bytes: int = attrs.field(
        default=MAX_EVENT_BYTES,
        validator=integer(MIN_BOUND_BYTES),
        metadata=_option("The largest event of a stream; a larger one is an error"),
    )
    strict: bool = attrs.field(
        default=False,
        validator=boolean,
        metadata=_option("Fail when the server refuses a field, instead of retrying without it"),
    )
    reasoning_tags: tuple[str, str] | None = attrs.field(
        default=None,
        validator=valid.tags,
        converter=valid.to_tags,
        metadata=_option(
            "Tags, such as <think> and </think>, around reasoning at the beginning of the text"
        ),
    )
    azure_deployment: str | None = attrs.field(
        default=None,
        validator=text_or_none,
        metadata=_option("Azure OpenAI: the deployment's name"),
    )
    api_version: str | None = attrs.field(
        default=None,
        validator=text_or_none,
        metadata=_option("Azure OpenAI: the api-version"),
    )
    azure_token_provider: KeySource | None = attrs.field(
        default=None,
        repr=False,
        validator=valid.token_provider,
        metadata=_option("Azure OpenAI: a function that returns an Entra token", secret=True),
    )
    http2: bool = attrs.field(
        default=False,
        validator=boolean,
        metadata=_option("Offer HTTP/2 (extra [http2]), by httpx's own transport"),
    )
    proxy: str | None = attrs.field(
        default=None,
        repr=False,
        validator=valid.proxy,
        metadata=_option("URL of an HTTP proxy", secret=True),
    )
    ca_file: str | None = attrs.field(
        default=None,
        validator=text_or_none,
        metadata=_option("PEM file of the certificate authorities to trust"),
    )
    client_cert: str | tuple[str, str] | None = attrs.field(
        default=None,
        validator=valid.file_names,
        converter=valid.to_files,
        metadata=_option("PEM file with certificate and key, or a pair of files"),
    )
    egress_allow: tuple[str, ...] | None = attrs.field(
        default=None,
        validator=valid.host_patterns,
        converter=valid.to_patterns,
        metadata=_option("Host patterns that may be called; None: all"),
    )
    max_connections: int = attrs.field(
        default=ClientOptions().max_connections,
        validator=integer(1),
        metadata=_option("Maximum number of open connections for jobs"),
    )
    pool_id: str = attrs.field(
        default="default",
        validator=text,
        metadata=_option("The pool's name", env="ORCHD_OPENAI_POOL"),
    )
    replica_id: str = attrs.field(
        default="r0",
        validator=text,
        metadata=_option("The replica's name", env="ORCHD_OPENAI_REPLICA"),
    )
    client: httpx.AsyncClient | None = attrs.field(
        default=None,
        repr=False,
        validator=valid.instance_or_none(httpx.AsyncClient),
        metadata=_option("An httpx.AsyncClient to use; it stays open"),
    )
    transport: httpx.AsyncBaseTransport | None = attrs.field(
        default=None,
        repr=False,
        validator=valid.instance_or_none(httpx.AsyncBaseTransport),
        metadata=_option("An httpx transport to use"),
    )
    record: str | None = attrs.field(
        default=None,
        validator=text_or_none,
        metadata=_option("A new file to write every exchange to, chunk by chunk, without keys"),
    )

    def __attrs_post_init__(self) -> None:
        endpoints = self.endpoints()  # fail early on an invalid base_url
        if self.basic_auth is not None and endpoints.userinfo is not None:
            raise ValueError("base_url and basic_auth both hold a user: leave one of them out")
        basic = self.basic_auth is not None or endpoints.userinfo is not None
        if basic and endpoints.key_header == "Authorization" and self.api_key:
            raise ValueError(
                "api_key and HTTP Basic (basic_auth, or a user in base_url) need the same header, "
                "Authorization: leave one of them out"
            )
        if self.client is not None and self.record is not None:
            raise ValueError("record cannot be used together with client: give a transport")
        # A given client or transport has its own; ignoring a ca_file silently would be worse.
        given = "client" if self.client is not None else "transport"
        if self.client is not None or self.transport is not None:
            idle = [name for name in _CONNECTING if getattr(self, name) and name != given]
            if idle:
                raise ValueError(f"{', '.join(idle)} cannot be used together with {given}")

    def endpoints(self) -> Endpoints:
        """Return the server's URLs."""
        return resolve(
            self.base_url,
            azure=self.dialect == "azure",
            azure_deployment=self.azure_deployment,
            api_version=self.api_version,
            api_path=self.api_path,
        )

    def timeouts(self) -> httpx.Timeout:
        """Return the limits of each request, also with a caller's client. The job's clock limits
        how long an answer may take."""
        return httpx.Timeout(None, connect=self.connect_timeout_s, pool=POOL_TIMEOUT_S)

    def used_transport(self, secrets: Iterable[str] = ()) -> httpx.AsyncBaseTransport | None:
        """Return the transport that was given, or one that records; None for the usual one.

        Args:
            secrets: Credentials to keep out of a recording, other than those in headers.

        Raises:
            OSError: If the recording cannot be created; FileExistsError if it exists already.
        """
        if self.record is None:
            return self.transport
        inner = make_transport(self.client_options()) if self.transport is None else self.transport
        from adapters.http_util import RecordingTransport  # rarely used, and slow to import

        return RecordingTransport(inner, self.record, secrets)

    def client_options(self) -> ClientOptions:
        """Return the options that concern the connection."""
        return ClientOptions(
            connect_timeout_s=self.connect_timeout_s,
            max_connections=self.max_connections,
            http2=self.http2,
            proxy=self.proxy,
            ca_file=self.ca_file,
            client_cert=self.client_cert,
        )
