"""Observers: calls the hooks of observers, and contains their exceptions."""

import logging
from collections.abc import Callable, Iterable
from functools import partial

import attrs

from adapter_api.errors import ContractError
from registry.observers.logging import LoggingObserver
from registry.plugins.extensions import NOTICES, observer_problems, observing_methods

logger = logging.getLogger("worker_adapters.observers")

_DEFAULT_LOGGING = LoggingObserver()


class Observers:
    """Notifies observers, in the order in which they were given.

    An observer that raises is logged, and the job and the other observers continue. Only
    KeyboardInterrupt propagates.

    Args:
        plugins: Objects with `@hookimpl` methods of ObserverHooks. Without a LoggingObserver among
            them the default one is added.

    Raises:
        ContractError: If one of them is not an observer; with all its problems.
    """

    def __init__(self, plugins: Iterable[object] = ()) -> None:
        self._plugins = tuple(plugins)
        for place, plugin in enumerate(self._plugins):
            problems = observer_problems(plugin, self._plugins[:place])
            if problems:
                target = type(plugin).__qualname__
                raise ContractError("observers", target, problems, kind="observers")
        self._set_hooks()

    def include(self, other: "Observers | None") -> None:
        """Notify the observers of `other`, too, each once."""
        more = () if other is None else other._plugins
        self._plugins += tuple(one for one in more if all(one is not it for it in self._plugins))
        self._set_hooks()

    def _set_hooks(self) -> None:
        plugins = self._plugins
        if not any(isinstance(plugin, LoggingObserver) for plugin in plugins):
            plugins = (*plugins, _DEFAULT_LOGGING)
        self._hooks: dict[str, list[Hook]] = {name: [] for name in NOTICES}
        for plugin in plugins:
            for name, function in observing_methods(plugin).items():
                self._hooks[name].append(Hook(plugin, function, _gate(plugin, name)))

    def wanting(self, hook: str) -> "list[Hook]":
        """Return the observers that want a call of `hook` now."""
        found = []
        for each in self._hooks[hook]:  # a comprehension costs more where there are none
            if each.wants is None or each.wants():
                found.append(each)  # noqa: PERF401
        return found

    def notify(self, hook: str, notice: object) -> None:
        """Call `hook` of every observer that wants it.

        Args:
            hook: The hook's name.
            notice: Its argument.
        """
        for each in self.wanting(hook):
            each.call(hook, notice)


@attrs.frozen
class Hook:
    """One observer's implementation of one hook, called with its notice."""

    plugin: object
    function: Callable[[object], object]
    wants: Callable[[], bool] | None

    def call(self, hook: str, notice: object) -> None:
        """Call the observer; an exception is logged."""
        try:
            self.function(notice)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # The exception's text may contain a key, so it is logged at DEBUG only.
            logger.warning(
                "observer %s failed in %s with %s",
                type(self.plugin).__qualname__,
                hook,
                type(error).__name__,
                exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
            )


def _gate(plugin: object, hook: str) -> Callable[[], bool] | None:
    """Return a function that returns whether `hook` is wanted now; None if it always is."""
    if isinstance(plugin, LoggingObserver):
        return plugin.gate(hook)
    wants = getattr(plugin, "wants", None)
    return None if wants is None else partial(wants, hook)
