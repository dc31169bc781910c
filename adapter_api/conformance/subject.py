"""The adapter under examination: a way to create it, and the jobs to run on it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property, partial
from time import monotonic
from types import MappingProxyType
from typing import Any

import attrs

from adapter_api.conformance.fair_timeout import FairTimeout
from adapter_api.conformance.jobs import ANSWER_LIMIT_S, Adapter, in_time
from adapter_api.conformance.lab import Lab
from adapter_api.conformance.verdict import CAPABILITIES, Absent, Misuse, NotExamined
from adapter_api.errors import WorkerError
from adapter_api.events import Token, TokenEvent
from adapter_api.faults import LIMIT_S
from adapter_api.task import TaskRequest

MAX_EVENTS = 100_000
"""The kit stops reading a job of a few tokens here, because its adapter does not end it."""

_LIMITS = ("first_token_timeout_s", "stall_timeout_s")
"""The options that openai-http has for limits on waiting; other adapters' names have "timeout"."""

LONG_PROMPT = "x" * 60_000
"""Longer than small contexts. Not longer than that: some tokenizers need quadratic time."""

_MAY_FAIL_S = 2.0
"""The deadline of jobs that may fail; only their error matters."""

_REFUSALS = ("status-401", "status-429", "status-500", "body-400-text", "error-string")
"""Scenarios in which the server repeats the key, in answers of different kinds."""

_WRITE = "`return lambda **options: registry.get('your-adapter', options)`"
_NAMES = ("name", "distribution", "version", "adapter", "config")
_CALLS = ("submit", "cancel", "health", "props", "engine_version", "start", "aclose")

MakeAdapter = Callable[..., Adapter]


@attrs.frozen
class Trace:
    """One job's events, read from the submit hook itself.

    Args:
        task: The job.
        events: Its events, in order.
        error: The exception of its iterator, None if it ended by itself.
        ended: Whether it ended at all, by itself or with an error.
        took_s: From submit to the end.
    """

    task: TaskRequest
    events: tuple[TokenEvent, ...]
    error: BaseException | None
    ended: bool
    took_s: float = 0.0

    @property
    def tokens(self) -> list[Token]:
        """Return its Tokens."""
        return [event for event in self.events if isinstance(event, Token)]


@attrs.frozen
class Network:
    """The servers against which an HTTP adapter can be tested.

    Args:
        lab: The running lab.
        make: Makes the adapter; takes `base_url` among its options.
        engine_url: The base URL of an engine that works: the author's, or the lab's.
        own: Whether that engine is the author's.
        requests_seen: The methods and paths of the adapter's requests to the lab's engine.
    """

    lab: Lab
    make: MakeAdapter
    engine_url: str
    own: bool = False
    requests_seen: tuple[str, ...] = ()

    @property
    def completions(self) -> bool:
        """Return whether the adapter speaks the protocol of the lab's engine."""
        return not self.requests_seen or any(
            request.endswith("/completions") for request in self.requests_seen
        )

    @cached_property
    def has_dialects(self) -> bool:
        """Return whether an option names the kind of server."""
        return hasattr(self.make(base_url=self.engine_url).config, "dialect")

    def at(self, url: str, server: str | None = None, limit_s: float | None = LIMIT_S) -> "Subject":
        """Return the adapter at another address.

        Args:
            url: The base URL.
            server: The kind of server, for an adapter that has a `dialect`.
            limit_s: The value of the config's timeouts; None for the adapter's own.
        """
        options: dict[str, Any] = {}
        if limit_s is not None:
            options |= dict.fromkeys(self._timeouts, limit_s)
        if server is not None:
            options["dialect"] = server
        return Subject(partial(self.make, base_url=url, **options))

    @cached_property
    def _timeouts(self) -> tuple[str, ...]:
        """Return the names of the config's timeouts, as far as they take a number of seconds."""
        config = self.make(base_url=self.engine_url).config
        names = [field.name for field in getattr(type(config), "__attrs_attrs__", ())]
        names = [name for name in names if name in _LIMITS] or [n for n in names if "timeout" in n]
        return tuple(filter(self._takes_seconds, names))

    def _takes_seconds(self, name: str) -> bool:
        try:
            self.make(base_url=self.engine_url, **{name: LIMIT_S})
        except Exception:
            return False
        return True


@attrs.define(eq=False)
class Subject:
    """The adapter under examination.

    Args:
        make: Makes a new adapter that is not started yet; takes options of the adapter's config.
        task: Fields of TaskRequest for every job, such as the model.
        failing: A job that must fail, None if none is known.
        absent: Capabilities that are absent, with the reason, besides those that the adapter's
            own `ABSENT` declares.
        steady: Whether the engine is known to answer the same prompt with the same text, with or
            without a seed.
        network: Where an adapter that takes a `base_url` can be sent; None for any other.
    """

    make: MakeAdapter
    task: Mapping[str, Any] = attrs.field(default=MappingProxyType({}))
    failing: TaskRequest | None = None
    absent: Mapping[str, str] = attrs.field(default=MappingProxyType({}))
    steady: bool = attrs.field(default=False, kw_only=True)
    network: Network | None = attrs.field(default=None, kw_only=True)

    @classmethod
    def at_engine(cls, network: Network, **more: Any) -> "Subject":
        """Return an HTTP adapter at the network's engine. `more` as for Subject."""

        def make(**options: Any) -> Adapter:
            return network.make(**{"base_url": network.engine_url, **options})

        return cls(make, steady=not network.own, network=network, **more)

    def about(self) -> tuple[str, str]:
        """Return the adapter's name, and its distribution with the version.

        Raises:
            Misuse: If this subject cannot be examined.
        """
        check_capabilities(self.absent, "absent")
        check_maker(self.make)
        adapter = self.make()
        check_made(adapter)
        try:
            self.job()
        except (TypeError, WorkerError) as exc:
            raise Misuse(f"`task` has a field that TaskRequest does not have: {exc}") from exc
        return adapter.name, f"{adapter.distribution} {adapter.version}"

    def lacks(self, capability: str, adapter: Adapter) -> bool:
        """Return whether a capability is declared absent, here or by the adapter."""
        return capability in {*self.absent, *getattr(adapter.adapter, "ABSENT", ())}

    @property
    def net(self) -> Network:
        """Return the network.

        Raises:
            Absent: If the adapter has no engine at an address.
            NotExamined: If it has one, and no `base_url`.
        """
        if self.network is not None:
            return self.network
        address = _address_in(self.make().config)
        if address is not None:
            raise NotExamined(
                f"its option {address} seems to be an engine's address: rename it to base_url, so "
                "that the kit can replace the engine; if it is not an address, write "
                "attrs.field(metadata={'address': False})"
            )
        raise Absent("it is not an HTTP adapter: its config has no base_url")

    def require_engine(self) -> None:
        """Raise if the lab's engine does not speak the adapter's protocol.

        Raises:
            NotExamined: If it has no engine of its own.
        """
        if self.network is not None and not self.network.own and not self.network.completions:
            raise NotExamined(
                f"it requests {self.network.requests_seen[0]}, which the kit's engine does not "
                "serve: name an engine of its protocol (--base-url; in pytest the fixture "
                "engine_url)"
            )

    def jobs_that_may_fail(self) -> "list[tuple[Subject, TaskRequest]]":
        """Return jobs that fail, or may fail, each with where to send it."""
        tasks = [self.job(model="no-such-model"), self.job(LONG_PROMPT)]
        jobs: list[tuple[Subject, TaskRequest]] = [
            (self, task) for task in (*tasks, *([self.failing] if self.failing else []))
        ]
        if self.network is None:
            return jobs
        lab = self.network.lab
        urls = [engine.url for engine in lab.broken_engines() if engine.down and engine.quick]
        urls += [lab.server.url(name) for name in _REFUSALS]
        more = [(self.network.at(url), self.job(deadline_s=_MAY_FAIL_S)) for url in urls]
        return [*jobs, *more]

    def job(self, prompt: str = "Count from one to nine.", **fields: Any) -> TaskRequest:
        """Return a small repeatable job."""
        common = {"max_tokens": 16, "seed": 7, "temperature": 0.0, **self.task, **fields}
        if "messages" not in common:
            common.setdefault("prompt", prompt)
        return TaskRequest(**common)

    @asynccontextmanager
    async def adapter(self, **options: Any) -> AsyncIterator[Adapter]:
        """Yield a new adapter, and close it afterwards."""
        adapter = self.make(**options)
        try:
            yield adapter
        finally:
            await in_time(adapter.aclose(), "aclose()")

    async def trace(
        self, adapter: Adapter, task: TaskRequest, limit_s: float | None = None
    ) -> Trace:
        """Run a job through the bare submit hook, and read on past its end.

        Reading stops after `limit_s` seconds, by default ANSWER_LIMIT_S.
        """
        await in_time(adapter.start(), "start()", ANSWER_LIMIT_S)
        events: list[TokenEvent] = []
        error: BaseException | None = None
        ended = False
        began_at = monotonic()
        stream = adapter.adapter.submit(task=task)
        try:
            async with FairTimeout(ANSWER_LIMIT_S if limit_s is None else limit_s):
                async for event in stream:
                    events.append(event)
                    if len(events) == MAX_EVENTS:
                        break
                else:
                    ended = True
        except TimeoutError:
            pass
        except Exception as exc:
            error, ended = exc, True
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await in_time(close(), "closing the submit hook's events")
        return Trace(task, tuple(events), error, ended, monotonic() - began_at)


_ADDRESS_WORDS = {"address", "addr", "endpoint", "host", "hostname", "port", "server", "socket",
                  "uri", "url"}  # fmt: skip


def _address_in(config: Any) -> str | None:
    """Return an option that seems to be the address of an engine; None if there is none."""
    for field in getattr(type(config), "__attrs_attrs__", ()):
        words = set(field.name.lower().split("_"))
        if field.init and field.metadata.get("address", not words.isdisjoint(_ADDRESS_WORDS)):
            return str(field.name)
    return None


# The kit checks its arguments before it examines anything, so that one message names the fix.


def check_capabilities(names: Iterable[str], where: str) -> None:
    """Refuse names of capabilities that the kit does not know.

    Raises:
        Misuse: At the first of them.
    """
    for name in names:
        if name not in CAPABILITIES:
            raise Misuse(f"{where} has {name!r}: the names are {', '.join(CAPABILITIES)}")


def check_maker(make: Any) -> None:
    """Refuse a value that cannot make adapters.

    Raises:
        Misuse: If it is not a function, or takes no options.
    """
    if not callable(make):
        raise Misuse(
            f"make_adapter returned a {type(make).__name__}, not a function that makes a new "
            f"adapter each time: write {_WRITE}"
        )
    try:
        parameters = inspect.signature(make).parameters
    except ValueError:  # a builtin without a signature
        return
    if not parameters:
        raise Misuse(
            "the function that make_adapter returned takes no options of the config: write "
            f"{_WRITE}"
        )


def check_made(adapter: Any) -> None:
    """Refuse an object that is not a BoundAdapter.

    Raises:
        Misuse: If it lacks attributes that the kit uses.
    """
    missing = [name for name in (*_NAMES, *_CALLS) if not hasattr(adapter, name)]
    if not missing:
        return
    if asyncio.iscoroutine(adapter):
        adapter.close()  # nothing will await it
    raise Misuse(
        f"the function that make_adapter returned made a {type(adapter).__name__}, which has no "
        f"{' and no '.join(missing[:3])}: write {_WRITE}, or put your object into a "
        "`registry.BoundAdapter(your_object, name='your-adapter', config=your_config)`"
    )
