"""Registry: adapters by name."""

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from adapter_api.errors import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    ConfigError,
    ContractError,
)
from registry.near import nearest
from registry.plugins import discovery
from registry.plugins.discovery import AdapterRecord, Catalogue, normalized
from registry.plugins.guard import attempt, guarded

if TYPE_CHECKING:
    import asyncio

    from adapter_api.stream import TokenStream
    from adapter_api.task import TaskRequest
    from registry.adapter import BoundAdapter
    from registry.config.fields import ConfigField
    from registry.info import AdapterInfo, Status
    from registry.observers import Observers
    from registry.plugins.loading import LoadedAdapter

# Loading, configuring, describing and binding are imported by the methods that do so: with them
# come asyncio, attrs and cattrs, and a program that lists names needs none of these.

BLOCKED_VARIABLE = "WORKER_ADAPTERS_BLOCKED"
"""Holds the names that no registry may use, with commas between them."""


class Registry:
    """Finds, loads, configures and binds adapters by name (ORCH-3054).

    Registries share nothing but the imported modules.

    Args:
        middleware: Objects whose `@hookimpl(wrapper=True)` methods go around the hooks of every
            adapter; the first is the outermost.
        observers: Objects with `@hookimpl` methods of ObserverHooks; they are told what happens to
            every adapter and its jobs.
        blocked: Names not to be used, as a list or with commas between them. None reads the
            environment variable WORKER_ADAPTERS_BLOCKED, now and at each `refresh`.

    Raises:
        ContractError: If a middleware object or an observer is not one.
    """

    def __init__(
        self,
        *,
        middleware: Iterable[object] = (),
        observers: Iterable[object] = (),
        blocked: Iterable[str] | str | None = None,
    ) -> None:
        self._middleware = tuple(middleware)
        self._reads_environment = blocked is None
        self._blocked = _blocked_names(blocked)
        self._found: Catalogue | None = None
        self._loaded: dict[AdapterRecord, LoadedAdapter] = {}
        self._dispatching: WeakKeyDictionary[
            asyncio.AbstractEventLoop, list[tuple[AdapterRecord, BoundAdapter]]
        ] = WeakKeyDictionary()
        if self._middleware:
            from registry.plugins.extensions import middleware_problems

            for place, plugin in enumerate(self._middleware):
                problems = middleware_problems(plugin, self._middleware[:place])
                if problems:
                    target = type(plugin).__qualname__
                    raise ContractError("middleware", target, problems, kind="middleware")
        self._observers: Observers | None = None
        self._observing = tuple(observers)
        if self._observing:
            _ = self.observers  # to check them

    @property
    def observers(self) -> "Observers":
        """What notifies the registry's observers."""
        if self._observers is None:
            from registry.observers.notify import Observers

            self._observers = Observers(self._observing)
        return self._observers

    def names(self) -> list[str]:
        """The names of the installed adapters, sorted, without blocked ones. Imports no plugin."""
        return [name for name in self._catalogue().names() if not self._all_blocked(name)]

    def get(self, name: str, config: object = None, /, **options: Any) -> "BoundAdapter":
        """Build an adapter. It connects when it is first used.

        Args:
            name: The adapter's name, or "distribution:name".
            config: Its config: an object of the adapter's config class, or a mapping.
            options: Its config's fields, instead of `config`. With neither, the config comes
                from the environment variables that `describe` names.

        Returns:
            A new BoundAdapter at each call; the caller closes it.

        Raises:
            AdapterNotFound: If none of that name is installed, or it is blocked.
            TypeError: If the name is not a string.
            AmbiguousAdapter: If several distributions offer it.
            AdapterLoadError: If its code fails at import or construction.
            ContractError: If it does not fulfil the contract.
            ConfigError: If its options are wrong.
        """
        loaded = self._load(self._record(name))
        return self._bind(loaded, _configured(loaded, config, options))

    def configure(self, name: str, config: object = None, /, **options: Any) -> Any:
        """The config that `get` would build an adapter from; `get` takes it in their place.

        Args and raises as for `get`.
        """
        return _configured(self._load(self._record(name)), config, options)

    def describe(self, name: str, *, load: bool = True) -> "AdapterInfo":
        """Tell about an adapter; what is wrong with it is its status and reason.

        Args:
            name: The adapter's name, or "distribution:name".
            load: Whether to load it. If not, nothing is imported, and the status of one that may
                well be broken is "installed".

        Raises:
            AdapterNotFound: If none of that name is installed.
        """
        from registry.info import AdapterInfo

        records = self._usable(name) or self._records(name)

        def info(
            status: "Status", reason: object = "", fields: "tuple[ConfigField, ...]" = ()
        ) -> "AdapterInfo":
            return AdapterInfo(
                name=name,
                distribution=", ".join(record.distribution for record in records),
                version=", ".join(record.version for record in records),
                target=", ".join(record.target for record in records),
                status=status,
                reason=str(reason),
                config_fields=fields,
            )

        try:
            record = self._record(name)
            if not load:
                return info("broken" if record.problem else "installed", record.problem or "")
            return info("ok", fields=self._fields(record))
        except AdapterNotFound as error:
            return info("blocked", error)
        except AmbiguousAdapter as error:
            return info("ambiguous", error)
        except (AdapterLoadError, ContractError) as error:
            return info("broken", error)

    def dispatch(
        self,
        name: str,
        task: "TaskRequest",
        config: object = None,
        /,
        **options: Any,
    ) -> "TokenStream":
        """Run a task on the adapter of that name (ORCH-3055); `await` the result to open it.

        The adapter is built once for each event loop, name and (equal) config and kept until
        `aclose`. A program with many configs should `get` and close its adapters itself.

        Args:
            name: The adapter's name, or "distribution:name".
            task: The job.
            config: As for `get`.
            options: As for `get`.

        Returns:
            The job's stream.

        Raises:
            RegistryError: As `get` does.
            RuntimeError: Outside of an event loop.
        """
        import asyncio

        adapters = self._dispatching.setdefault(asyncio.get_running_loop(), [])
        record = self._record(name)
        loaded = self._load(record)
        settings = _configured(loaded, config, options)
        for known, adapter in adapters:
            if known == record and _equal(adapter.config, settings):
                return adapter.submit(task)
        adapter = self._bind(loaded, settings)
        adapters.append((record, adapter))
        return adapter.submit(task)

    def refresh(self) -> None:
        """Look again at what is installed, for plugins that came while the process runs, and at
        WORKER_ADAPTERS_BLOCKED, unless `blocked` was given.

        Adapters already built, and modules already imported, stay as they are. The folders of
        distributions with adapters that were installed in place come to the end of sys.path.
        """
        import importlib

        from registry.plugins.inplace import follow

        importlib.invalidate_caches()
        self._found = discovery.scan()
        self._loaded.clear()
        if self._reads_environment:
            self._blocked = _blocked_names(None)
        follow(self._found.distributions())

    async def aclose(self) -> None:
        """Close the adapters that `dispatch` built in this event loop. Idempotent.

        Raises:
            ExceptionGroup: What their closing raised, after all were asked to close.
        """
        import asyncio

        errors = []
        for _, adapter in self._dispatching.pop(asyncio.get_running_loop(), []):
            try:
                await adapter.aclose()
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("adapters could not be closed", errors)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _catalogue(self) -> Catalogue:
        if self._found is None:
            self._found = discovery.scan()
        return self._found

    def _records(self, name: str) -> tuple[AdapterRecord, ...]:
        if not isinstance(name, str):
            raise TypeError(f"the name of an adapter is a string, got {type(name).__name__}")
        records = self._catalogue().find(name)
        if not records:
            names = self.names()
            full = [f"{r.distribution}:{n}" for n in names for r in self._catalogue().find(n)]
            raise AdapterNotFound(name, names, nearest(name, full if ":" in name else names))
        return records

    def _record(self, name: str) -> AdapterRecord:
        """The one record that may be used by `name`."""
        records = self._usable(name)
        if not records:
            raise AdapterNotFound(name, self.names(), None, blocked=True)
        if len(records) > 1:
            raise AmbiguousAdapter(name, [record.distribution for record in records])
        return records[0]

    def _usable(self, name: str) -> tuple[AdapterRecord, ...]:
        """The records of `name` that are not blocked."""
        return tuple(record for record in self._records(name) if not self._is_blocked(record))

    def _is_blocked(self, record: AdapterRecord) -> bool:
        full = f"{normalized(record.distribution)}:{record.name}"
        return record.name in self._blocked or full in self._blocked

    def _all_blocked(self, name: str) -> bool:
        """Whether no distribution's adapter of this name may be used."""
        if name in self._blocked:
            return True
        # Who offers it is read from metadata: only where a name is blocked for one distribution.
        if not any(entry.endswith(f":{name}") for entry in self._blocked):
            return False
        return all(self._is_blocked(record) for record in self._catalogue().find(name))

    def _load(self, record: AdapterRecord) -> "LoadedAdapter":
        from registry.plugins.loading import load

        if record not in self._loaded:
            self._loaded[record] = load(record, rivals=self._catalogue().has_rivals(record))
        return self._loaded[record]

    def _fields(self, record: AdapterRecord) -> "tuple[ConfigField, ...]":
        from registry.config.fields import describe_fields

        cls = self._load(record).config_class
        return guarded(record, "describing its options", lambda: describe_fields(cls))

    def _bind(self, loaded: "LoadedAdapter", config: object) -> "BoundAdapter":
        from registry.adapter import BoundAdapter
        from registry.plugins.loading import build, hiding

        record, adapter = loaded.record, build(loaded, config)
        return guarded(
            record,
            "binding it",
            lambda: BoundAdapter(
                adapter,
                name=record.name,
                distribution=record.distribution,
                version=record.version,
                config=config,
                middleware=self._middleware,
                observers=self.observers,
            ),
            passing=(ContractError,),
            show=hiding(config),
        )


def _blocked_names(blocked: Iterable[str] | str | None) -> frozenset[str]:
    if blocked is None:
        blocked = os.environ.get(BLOCKED_VARIABLE, "")
    if isinstance(blocked, str):
        blocked = blocked.split(",")
    names = {name.strip() for name in blocked} - {""}
    return frozenset(names | {_qualified(name) for name in names if ":" in name})


def _qualified(name: str) -> str:
    """A "distribution:name" with the distribution as it is compared."""
    distribution, _, plain = name.partition(":")
    return f"{normalized(distribution)}:{plain}"


def _configured(loaded: "LoadedAdapter", config: object, options: Mapping[str, Any]) -> object:
    # What was given may hold a secret at any depth, and code that raises what is no Exception may
    # say it. Problems with values are ConfigErrors, which show none.
    nothing_given = type(config) is dict and not config and not options
    return guarded(
        loaded.record,
        "making its config",
        lambda: _config_of(loaded, config, options),
        passing=(ConfigError,),
        show=str if nothing_given else lambda reason: reason.partition(": ")[0],
    )


def _config_of(loaded: "LoadedAdapter", config: object, options: Mapping[str, Any]) -> object:
    from registry.config.fields import config_from_environment, structure_config

    name, cls = loaded.record.name, loaded.config_class
    if config is None:
        if options:
            return structure_config(name, cls, options)
        return config_from_environment(name, cls)
    if options:
        raise ConfigError.single(name, "give either a config or options, not both")
    if isinstance(config, cls):
        return config
    if isinstance(config, Mapping):
        return structure_config(name, cls, config)
    raise ConfigError.single(
        name, f"expected {cls.__name__} or a mapping, got {type(config).__name__}", "$"
    )


def _equal(one: object, other: object) -> bool:
    """Whether two configs are equal; field by field where their class compares identities."""
    if type(one) is not type(other):
        return False
    # Values of foreign types may refuse to be compared.
    return attempt(lambda: _alike(one, other), one is other)


def _alike(one: object, other: object) -> bool:
    if type(one).__eq__ is not object.__eq__:
        return bool(one == other)
    import attrs

    fields: tuple[Any, ...] = attrs.fields(type(one))  # type: ignore[arg-type]
    return all(getattr(one, f.name) == getattr(other, f.name) for f in fields)
