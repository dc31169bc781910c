"""The credentials of requests: a key, a function that returns one, an Entra token provider, or HTTP
Basic."""

import asyncio
import inspect
import os
import traceback
from base64 import b64encode
from collections import deque
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from adapter_api import AuthenticationFailed, ErrorCode
from adapters.http_util import (
    REDACTED,
    DaemonThreads,
    check_credential,
    redact_headers,
    with_bearer,
)
from adapters.openai_http.config import OpenAIHttpConfig
from adapters.openai_http.endpoints import hidden_in
from adapters.openai_http.validators import KeySource

TOKEN_LIFETIME_S = 300.0
"""How long a provided token is used before the provider is called again. Providers refresh theirs
at least five minutes before it ends. Source: azure.identity.get_bearer_token_provider."""

MAX_REMEMBERED = 32
"""How many replaced tokens are still kept out of texts: an answer to an earlier request may still
come."""


MAX_KEY_THREADS = 4
"""The maximum number of concurrent calls of a function for the key. They do not use asyncio's own
threads, so that hung ones block nothing else."""

KEY_VARIABLE, URL_VARIABLE = "ORCHD_OPENAI_API_KEY", "ORCHD_OPENAI_URL"
"""The variables from which the registry takes api_key and base_url; read here only to explain a
refusal."""


def _hidden_in_proxy(proxy: str | None) -> tuple[str, ...]:
    try:
        return () if proxy is None else hidden_in(httpx.URL(proxy))
    except httpx.InvalidURL:  # no connection is made with it
        return ()


def _encode(user_and_password: str) -> str:
    """Return the credentials of HTTP Basic. Source: RFC 7617, section 2."""
    return b64encode(user_and_password.encode()).decode("ascii")


def _place_of(exc: BaseException) -> str:
    """Return the file and the line that raised `exc`, to be shown."""
    frames = traceback.extract_tb(exc.__traceback__)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


async def _ask(source: KeySource, what: str, threads: DaemonThreads) -> str:
    failure = ""
    value: Any = None
    try:
        if inspect.iscoroutinefunction(source):
            value = await source()
        else:
            value = await threads.call(source)  # it may go to the network, and hang
            if inspect.isawaitable(value):
                value = await value
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        failure = type(exc).__name__  # the function's own: nothing here was cancelled
    except Exception as exc:
        failure = f"{type(exc).__name__}{_place_of(exc)}"
    if failure:  # without a cause: the text of the function's exception may contain a key
        raise AuthenticationFailed(
            ErrorCode.UPSTREAM_AUTH, f"{what} failed with {failure}"
        ) from None
    if not isinstance(value, str):
        raise AuthenticationFailed(
            ErrorCode.UPSTREAM_AUTH, f"{what} returned a {type(value).__name__}, not a string"
        )
    return check_credential(value, f"what {what} gave")


class Credentials:
    """The headers that authenticate a request, and the texts that must never be shown.

    Args:
        config: The options with the credentials. A token provider takes precedence over api_key.
    """

    def __init__(self, config: OpenAIHttpConfig) -> None:
        endpoints = config.endpoints()
        self._key = config.api_key
        self._provider = config.azure_token_provider
        self._key_header = endpoints.key_header
        basic = endpoints.userinfo if config.basic_auth is None else config.basic_auth
        self._basic = None if basic is None else _encode(basic)
        shown = redact_headers(config.headers)
        hidden = [value for name, value in config.headers.items() if shown[name] == REDACTED]
        self.secrets: tuple[str, ...] = (
            *hidden,
            *endpoints.hidden,
            *_hidden_in_proxy(config.proxy),
            *([self._key] if isinstance(self._key, str) else []),
            *(() if basic is None else (basic, basic.partition(":")[2], _encode(basic))),
        )
        """The credentials in use; no text may show them."""
        self._configured = self.secrets
        self._given: deque[str] = deque(maxlen=MAX_REMEMBERED)
        self.fixed: dict[str, str] | None = None
        """The headers, once they are known and if they never change."""
        self._token: str | None = None
        self._token_until = 0.0
        self._refreshing = asyncio.Lock()
        self._threads = DaemonThreads(MAX_KEY_THREADS, "worker-adapters-key")

    @property
    def advice(self) -> str:
        """Advice for a refusal of the credentials."""
        if self._basic is not None and not self._key:
            return "Set basic_auth (or the user in base_url) to what this server accepts"
        given = self._key is not None or self._provider is not None
        if given or not os.environ.get(KEY_VARIABLE):
            return f"Set api_key (or {KEY_VARIABLE}) to a key this server accepts"
        if os.environ.get(URL_VARIABLE):
            why = f"it belongs to the server that {URL_VARIABLE} names, and base_url was given"
        else:
            why = "an adapter that is made without the registry reads no environment"
        return f"No key was sent. {KEY_VARIABLE} was not used: {why}. Set api_key for this server"

    def renew(self, refused: str | None) -> bool:
        """Return whether there may be another token after this Authorization header was refused."""
        if self._provider is None:
            return False
        if refused == f"Bearer {self._token}":  # otherwise another job has renewed it
            self._token_until = 0.0
        return True

    async def headers(self) -> dict[str, str]:
        """Return the headers for a request.

        Raises:
            AuthenticationFailed: If the function for the key fails.
            InvalidRequest: If the key is not valid in a header.
        """
        if self._provider is not None:
            return {"Authorization": f"Bearer {await self._provided(self._provider)}"}
        basic = {} if self._basic is None else {"Authorization": f"Basic {self._basic}"}
        if self._key is None or self._key == "":
            self.fixed = basic
            return basic
        if isinstance(self._key, str):
            self.fixed = {**basic, **self._with_key(check_credential(self._key, "api_key"))}
            return self.fixed
        key = self._remember(await _ask(self._key, "the api_key function", self._threads))
        return {**basic, **self._with_key(key)}

    def _with_key(self, key: str) -> dict[str, str]:
        if self._key_header == "Authorization":
            return with_bearer({}, key)
        return {self._key_header: key}

    async def _provided(self, provider: KeySource) -> str:
        if self._token is None or monotonic() >= self._token_until:
            async with self._refreshing:  # many callers, one refresh
                if self._token is None or monotonic() >= self._token_until:
                    token = await _ask(provider, "azure_token_provider", self._threads)
                    self._token = self._remember(token)
                    self._token_until = monotonic() + TOKEN_LIFETIME_S
        return self._token

    def _remember(self, secret: str) -> str:
        if secret in self._given:
            self._given.remove(secret)
        self._given.append(secret)
        self.secrets = (*self._given, *self._configured)
        return secret
