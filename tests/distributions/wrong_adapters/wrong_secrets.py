"""Adapters that show their key, each in another place."""

import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import attrs
from right_adapter import RightAdapter

from adapter_api import (
    End,
    EngineUnavailable,
    HealthState,
    HealthStatus,
    MetricsFrame,
    TaskRequest,
    TokenEvent,
    hookimpl,
)


@attrs.frozen
class NamedConfig:
    """An option that says with its name what it is."""

    privateKey: str = "none"


class Named(RightAdapter):
    """Does not declare its key, and shows it in its config's repr."""

    config: NamedConfig


def _has_its_form(_: object, __: object, value: str) -> None:
    if value != "none" and not value.startswith("acme:"):
        raise ValueError("api_key must begin with acme:")


@attrs.frozen
class CheckedConfig:
    """An option that takes no text but its own."""

    api_key: str = attrs.field(
        default="none", validator=_has_its_form, repr=False, metadata={"secret": True}
    )


class Checked(RightAdapter):
    """Takes no key that the kit knows, so that nothing is proved."""

    config: CheckedConfig


class Logged(RightAdapter):
    """Has a log of its own."""

    @hookimpl
    async def health(self) -> HealthStatus:
        log = logging.getLogger("wrong_secrets.private")
        log.propagate = False
        log.addHandler(logging.NullHandler())
        log.debug("asking with %s", self.config.api_key)
        return HealthStatus(HealthState.HEALTHY)


class Printed(RightAdapter):
    """Was debugged with print."""

    @hookimpl
    async def health(self) -> HealthStatus:
        print("asking with", self.config.api_key)
        return HealthStatus(HealthState.HEALTHY)


class Written(RightAdapter):
    """Was debugged in C."""

    @hookimpl
    async def health(self) -> HealthStatus:
        os.write(2, f"asking with {self.config.api_key}\n".encode())
        return HealthStatus(HealthState.HEALTHY)


class InEvent(RightAdapter):
    """Tells all it knows in its metrics."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        async for event in RightAdapter.submit(self, task):
            if isinstance(event, End):
                yield MetricsFrame({"options": {"api_key": self.config.api_key}})
            yield event


class InVersion(RightAdapter):
    """Takes its version from an address that has the key in it."""

    @hookimpl
    async def engine_version(self) -> str:
        return f"1.0 at http://right/?api_key={self.config.api_key}"


class InCause(RightAdapter):
    """Raises a clean error from one that is not."""

    @hookimpl
    async def submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        if task.model == "no-such-model":
            try:
                self.fail()
            except KeyError:
                raise EngineUnavailable("POOL_UNAVAILABLE", "there is no such model") from None
        async for event in RightAdapter.submit(self, task):
            yield event

    def fail(self) -> Any:
        raise KeyError({"authorization": self.config.api_key})


class InRefusal(RightAdapter):
    """Repeats the request, headers and all, where its engine refuses it."""

    async def words(self, task: TaskRequest) -> AsyncIterator[str]:
        if len(task.prompt or "") > 50_000:
            raise EngineUnavailable("POOL_UNAVAILABLE", f"refused: {self.config.api_key}")
        async for word in RightAdapter.words(self, task):
            yield word
