"""Registry: adapters by name."""

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

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
from registry.plugins.guard import guarded

if TYPE_CHECKING:
    from adapter_api.stream import TokenStream
    from adapter_api.task import TaskRequest
    from registry.adapter import BoundAdapter
    from registry.config.fields import ConfigField
    from registry.kept import KeptAdapters
    from registry.observers.notify import Observers
    from registry.plugins.loading import AdapterInfo, LoadedAdapter, Status

# Loading, configuring, describing and binding are imported by the methods that do so: with them
# come asyncio, attrs and cattrs, and a program that lists names needs none of these.

_C = TypeVar("_C")

BLOCKED_VARIABLE = "WORKER_ADAPTERS_BLOCKED"
"""Holds the names that no registry may use, separated by commas."""


class _Installed:
    """The installed and blocked adapters at one moment, and those already loaded.

    A refresh replaces the whole object, so a thread never sees half of one.
    """

    def __init__(self, blocked: frozenset[str]) -> None:
        self.catalogue: Catalogue = discovery.scan()
        self.blocked = blocked
        self._loaded: dict[AdapterRecord, LoadedAdapter] = {}

    def names(self) -> list[str]:
        """Return the names of which at least one record may be used, sorted."""
        return [name for name in self.catalogue.names() if not self._all_blocked(name)]

    def records(self, name: str) -> tuple[AdapterRecord, ...]:
        """Return the records of `name`, blocked ones among them.

        Raises:
            AdapterNotFound: If there are none.
            TypeError: If `name` is not a string.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of an adapter is a string, got {type(name).__name__}")
        records = self.catalogue.find(name)
        if not records:
            raise self._not_found(name)
        return records

    def usable(self, name: str) -> tuple[AdapterRecord, ...]:
        """Return the records of `name` that are not blocked."""
        return tuple(record for record in self.records(name) if not self._is_blocked(record))

    def record(self, name: str) -> AdapterRecord:
        """Return the one record that may be used by `name`.

        Raises:
            AdapterNotFound: If there is none, or all are blocked.
            AmbiguousAdapter: If there are several.
        """
        records = self.usable(name)
        if not records:
            raise AdapterNotFound(name, self.names(), None, blocked=True)
        first, *others = records
        if others:
            raise AmbiguousAdapter(name, [record.distribution for record in records])
        return first

    def load(self, record: AdapterRecord) -> "LoadedAdapter":
        """Return the checked class of a record."""
        from registry.plugins.loading import load

        if record not in self._loaded:
            self._loaded[record] = load(record, rivals=self.catalogue.has_rivals(record))
        return self._loaded[record]

    def _not_found(self, name: str) -> AdapterNotFound:
        from registry.plugins.absence import why_absent

        names = self.names()
        full = [f"{r.distribution}:{n}" for n in names for r in self.catalogue.find(n)]
        near = nearest(name, full if ":" in name else names)
        return AdapterNotFound(name, names, near, cause=why_absent(name.rpartition(":")[2]))

    def _is_blocked(self, record: AdapterRecord) -> bool:
        full = f"{normalized(record.distribution)}:{record.name}"
        return record.name in self.blocked or full in self.blocked

    def _all_blocked(self, name: str) -> bool:
        if name in self.blocked:
            return True
        # The distribution is read from metadata: only if a name is blocked for one distribution.
        if not any(entry.endswith(f":{name}") for entry in self.blocked):
            return False
        return all(self._is_blocked(record) for record in self.catalogue.find(name))


class Registry:
    """Finds, loads, configures and binds adapters by name (ORCH-3054). Thread-safe.

    Registries share nothing but the imported modules.

    Args:
        middleware: Objects whose `@hookimpl(wrapper=True)` methods go around the hooks of every
            adapter; the first is the outermost.
        observers: Objects with `@hookimpl` methods of ObserverHooks; they are notified of every
            adapter and its jobs. Without a LoggingObserver among them one is added.
        blocked: Names not to be used, as a list or separated by commas. None reads the environment
            variable WORKER_ADAPTERS_BLOCKED, now and at each `refresh`.

    Raises:
        ContractError: If an object is not middleware or not an observer.
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
        self._state: _Installed | None = None
        self._kept: KeptAdapters | None = None
        self._observers: Observers | None = None
        self._observing = tuple(observers)
        if self._middleware:
            from registry.plugins.extensions import middleware_problems

            for place, plugin in enumerate(self._middleware):
                problems = middleware_problems(plugin, self._middleware[:place])
                if problems:
                    target = type(plugin).__qualname__
                    raise ContractError("middleware", target, problems, kind="middleware")
        if self._observing:
            _ = self.observers  # to check them

    @property
    def observers(self) -> "Observers":
        """The reporter to the registry's observers."""
        if self._observers is None:
            from registry.observers.notify import Observers

            self._observers = Observers(self._observing)
        return self._observers

    def names(self) -> list[str]:
        """Return the names of the installed adapters that are not blocked, sorted.

        Imports no plugin.
        """
        return self._installed().names()

    @overload
    def get(
        self, name: str, config: Mapping[str, Any] | None = None, /, **options: Any
    ) -> "BoundAdapter[Any]": ...
    @overload
    def get(self, name: str, config: _C, /) -> "BoundAdapter[_C]": ...
    def get(self, name: str, config: Any = None, /, **options: Any) -> "BoundAdapter[Any]":
        """Build an adapter. It connects when it is first used.

        Args:
            name: The adapter's name, or "distribution:name".
            config: Its whole config: an object of the adapter's config class, or a mapping.
            options: Fields of its config, instead of `config`. Those that are not given come from
                the environment variables that `describe` names, else from their defaults.

        Returns:
            A new BoundAdapter at each call; the caller closes it.

        Raises:
            AdapterNotFound: If no adapter has that name, or it is blocked.
            TypeError: If the name is not a string.
            AmbiguousAdapter: If several distributions offer it.
            AdapterLoadError: If its code fails at import or construction.
            ContractError: If it does not fulfil the contract.
            ConfigError: If its options are wrong.
        """
        installed = self._installed()
        loaded = installed.load(installed.record(name))
        return self._bind(loaded, _configured(loaded, config, options))

    def configure(self, name: str, config: object = None, /, **options: Any) -> Any:
        """Return the config that `get` would build an adapter from; `get` accepts it.

        Args and raises as for `get`.
        """
        installed = self._installed()
        return _configured(installed.load(installed.record(name)), config, options)

    def describe(self, name: str, *, load: bool = True) -> "AdapterInfo":
        """Return what is known of an adapter; a problem is its status and reason.

        Args:
            name: The adapter's name, or "distribution:name".
            load: Whether to load it. If not, nothing is imported, and the status of one that may
                be broken is "installed".

        Raises:
            AdapterNotFound: If no installed adapter has that name.
        """
        from registry.plugins.loading import AdapterInfo

        installed = self._installed()
        records = installed.usable(name) or installed.records(name)

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
                notes=tuple(note for each in records for note in installed.catalogue.notes(each)),
            )

        try:
            record = installed.record(name)
            if not load:
                return info("broken" if record.problem else "installed", record.problem or "")
            return info("ok", fields=_fields(installed.load(record)))
        except AdapterNotFound as error:
            return info("blocked", error)
        except AmbiguousAdapter as error:
            return info("ambiguous", error)
        except (AdapterLoadError, ContractError) as error:
            return info("broken", error)

    def dispatch(
        self, name: str, task: "TaskRequest", config: object = None, /, **options: Any
    ) -> "TokenStream":
        """Run a task on the adapter of that name (ORCH-3055); `await` the result to open it.

        The adapter is built once for each event loop, name and (equal) config, and kept until
        `aclose`. The longest unused ones are closed when many different ones are kept.

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
        from registry.kept import KeptAdapters

        if self._kept is None:
            self._kept = KeptAdapters()
        installed = self._installed()
        record = installed.record(name)
        loaded = installed.load(record)
        settings = _configured(loaded, config, options)
        kept = self._kept.find(record, settings)
        if kept is None:
            kept = self._kept.add(record, self._bind(loaded, settings))
        return kept.submit(task)

    def refresh(self) -> None:
        """Look again at what is installed, for plugins installed while the process runs, and at
        WORKER_ADAPTERS_BLOCKED, unless `blocked` was given.

        Adapters already built, and modules already imported, do not change. The folders of editable
        installs with adapters are appended to sys.path.
        """
        import importlib

        from registry.plugins.origin import follow

        importlib.invalidate_caches()
        if self._reads_environment:
            self._blocked = _blocked_names(None)
        state = _Installed(self._blocked)
        follow(state.catalogue.distributions())
        self._state = state

    async def aclose(self) -> None:
        """Close the adapters that `dispatch` built in this event loop. Idempotent.

        Raises:
            ExceptionGroup: What closing them raised, after all were asked to close.
        """
        if self._kept is not None:
            await self._kept.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _installed(self) -> _Installed:
        state = self._state
        if state is None:
            state = self._state = _Installed(self._blocked)
        return state

    def _bind(self, loaded: "LoadedAdapter", config: object) -> "BoundAdapter[Any]":
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


def _fields(loaded: "LoadedAdapter") -> "tuple[ConfigField, ...]":
    from registry.config.fields import describe_fields

    cls = loaded.config_class
    return guarded(loaded.record, "describing its options", lambda: describe_fields(cls))


def _blocked_names(blocked: Iterable[str] | str | None) -> frozenset[str]:
    if blocked is None:
        blocked = os.environ.get(BLOCKED_VARIABLE, "")
    if isinstance(blocked, str):
        blocked = blocked.split(",")
    names = {name.strip() for name in blocked} - {""}
    return frozenset(names | {_qualified(name) for name in names if ":" in name})


def _qualified(name: str) -> str:
    """Return a "distribution:name" with the distribution normalized."""
    distribution, _, plain = name.partition(":")
    return f"{normalized(distribution)}:{plain}"


def _configured(loaded: "LoadedAdapter", config: object, options: Mapping[str, Any]) -> object:
    # The given values may hold a secret at any depth, and an exception of foreign code may quote
    # it. Problems with values are ConfigErrors, which quote none.
    nothing_given = type(config) is dict and not config and not options
    return guarded(
        loaded.record,
        "making its config",
        lambda: _config_of(loaded, config, options),
        passing=(ConfigError,),
        show=str if nothing_given else lambda reason: reason.partition(": ")[0],
    )


def _config_of(loaded: "LoadedAdapter", config: object, options: Mapping[str, Any]) -> object:
    from registry.config.fields import config_from_options, structure_config

    name, cls = loaded.record.name, loaded.config_class
    if config is None:
        return config_from_options(name, cls, options)
    if options:
        raise ConfigError.single(name, "give either a config or options, not both")
    if isinstance(config, cls):
        return config
    if isinstance(config, Mapping):
        return structure_config(name, cls, config)
    raise ConfigError.single(
        name, f"expected {cls.__name__} or a mapping, got {type(config).__name__}", "$"
    )
