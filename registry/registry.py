"""Registry: adapters by name."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from adapter_api.errors import (
    AdapterLoadError,
    AdapterNotFound,
    AmbiguousAdapter,
    ConfigError,
    ContractError,
)
from registry.installed import Installed, blocked_names
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


class Registry:
    """Finds, loads, configures and binds adapters by name (ORCH-3054). Thread-safe.

    Registries share nothing but the imported modules.

    Args:
        middleware: Objects whose `@hookimpl(wrapper=True)` methods wrap the hooks of every adapter;
            the first is the outermost.
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
        self._blocked = blocked_names(blocked)
        self._state: Installed | None = None
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
        """Return a description of an adapter; a problem appears as its status and reason.

        Args:
            name: The adapter's name, or "distribution:name".
            load: Whether to load it. If not, nothing is imported, and the status is "installed"
                even if the adapter may be broken.

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
        `aclose`. Beyond a maximum number of kept adapters, the least recently used ones are closed.

        Args:
            name: The adapter's name, or "distribution:name".
            task: The job.
            config: As for `get`.
            options: As for `get`.

        Returns:
            The job's stream.

        Raises:
            RegistryError: As `get` does.
            RuntimeError: Outside an event loop.
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
        """Read the installed adapters again, for plugins installed while the process runs, and
        WORKER_ADAPTERS_BLOCKED, unless `blocked` was given.

        Adapters already built, and modules already imported, do not change. The folders of editable
        installs with adapters are appended to sys.path.
        """
        import importlib

        from registry.plugins.origin import follow

        importlib.invalidate_caches()
        if self._reads_environment:
            self._blocked = blocked_names(None)
        state = Installed(self._blocked)
        follow(state.catalogue.distributions())
        self._state = state

    async def aclose(self) -> None:
        """Close the adapters that `dispatch` built in this event loop. Idempotent.

        Raises:
            ExceptionGroup: The exceptions raised by closing them, after closing all was tried.
        """
        if self._kept is not None:
            await self._kept.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _installed(self) -> Installed:
        state = self._state
        if state is None:
            state = self._state = Installed(self._blocked)
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
        raise ConfigError.single(name, "pass either a config or options, not both")
    if isinstance(config, cls):
        return config
    if isinstance(config, Mapping):
        return structure_config(name, cls, config)
    raise ConfigError.single(
        name,
        f"expected {cls.__name__} or a mapping, got {type(config).__name__}; pass options by "
        "their names",
        "$",
    )
