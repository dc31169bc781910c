"""An HTTP adapter under examination, which can be sent to any server of the lab."""

from functools import partial
from typing import Any, Self

import attrs

from adapter_api.conformance.lab.server import Lab
from adapter_api.conformance.subject import Adapter, MakeAdapter, Subject
from adapter_api.faults import LIMIT_S
from adapter_api.task import TaskRequest

_LIMITS = ("first_token_timeout_s", "stall_timeout_s")

_REFUSALS = ("status-401", "status-429", "status-500", "body-400-text", "error-string")
"""Scenarios in which the server repeats the key, in answers of different kinds."""

_TROUBLED_S = 2.0
"""The deadline of jobs that only show how they fail."""


@attrs.define(eq=False)
class HttpSubject(Subject):
    """An adapter that takes a `base_url`, and the lab beside it.

    Args:
        lab: The running fault server.
        make_at: Makes the adapter; takes `base_url` among its options. `make` may do the same for
            an engine of its own.
    """

    lab: Lab = attrs.field(kw_only=True)
    make_at: MakeAdapter = attrs.field(kw_only=True)

    @classmethod
    def in_lab(cls, lab: Lab, make_at: MakeAdapter, **more: Any) -> Self:
        """An adapter whose engine is the lab's own."""

        def make(**options: Any) -> Adapter:
            return make_at(**{"base_url": lab.engine_url, **options})

        return cls(make, **more, steady=True, lab=lab, make_at=make_at)

    @property
    def maker(self) -> MakeAdapter:
        """The function that the adapter's author wrote."""
        return self.make_at

    @property
    def has_dialects(self) -> bool:
        """Whether the adapter can be told the kind of server."""
        return hasattr(self.make_at(base_url=self.lab.engine_url).config, "dialect")

    def at(self, url: str, server: str | None = None, limit_s: float | None = LIMIT_S) -> Subject:
        """The adapter at another address.

        Args:
            url: The base URL.
            server: The kind of server, for an adapter that has a `dialect`.
            limit_s: The limits on waiting, as far as the adapter's config has them; None for its
                own.
        """
        config = self.make_at(base_url=url).config
        limits = _LIMITS if limit_s is not None else ()
        options: dict[str, Any] = {name: limit_s for name in limits if hasattr(config, name)}
        if server is not None:
            options["dialect"] = server
        return Subject(partial(self.make_at, base_url=url, **options))

    def troubled(self) -> list[tuple[Subject, TaskRequest]]:
        """Jobs that fail: those of every adapter, and those of servers that refuse or are down."""
        urls = [trouble.url for trouble in self.lab.troubles() if trouble.down and trouble.quick]
        urls += [self.lab.server.url(name) for name in _REFUSALS]
        jobs = [(self.at(url), self.job(deadline_s=_TROUBLED_S)) for url in urls]
        return [*Subject.troubled(self), *jobs]
