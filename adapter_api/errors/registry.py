"""The errors of adapters that cannot be found, loaded or configured."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, Self

from adapter_api.errors.base import WorkerAdaptersError
from adapter_api.keys import without_keys


class RegistryError(WorkerAdaptersError):
    """An adapter cannot be found, loaded or configured. `name` is the adapter's name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({without_keys(self.name)!r})"


class AdapterNotFound(RegistryError, LookupError):
    """No installed distribution offers an adapter of this name, or the name is blocked."""

    def __init__(
        self,
        name: str,
        installed: Iterable[str],
        nearest: str | None,
        blocked: bool = False,
        cause: str = "",
    ) -> None:
        super().__init__(name)
        self.installed = tuple(installed)
        self.nearest = nearest
        self.blocked = blocked
        self.cause = cause

    def __str__(self) -> str:
        if self.blocked:
            return (
                f"adapter {self.name!r} is blocked: remove it from WORKER_ADAPTERS_BLOCKED "
                "(or the registry's blocked names) to use it"
            )
        hint = f"did you mean {self.nearest!r}? " if self.nearest else ""
        names = ", ".join(self.installed) or "none"
        text = (
            f"no adapter named {without_keys(self.name)!r}: {hint}installed: {names}. Install the "
            "distribution that offers it; in a running process call registry.refresh() after that"
        )
        return f"{text}. {self.cause}" if self.cause else text


class AmbiguousAdapter(RegistryError, LookupError):
    """Several distributions offer an adapter of this name."""

    def __init__(self, name: str, distributions: Iterable[str]) -> None:
        super().__init__(name)
        self.distributions = tuple(distributions)

    def __str__(self) -> str:
        return (
            f"adapter {self.name!r} is offered by {' and '.join(self.distributions)}: "
            f"name the distribution, as in registry.get('{self.distributions[0]}:{self.name}'), "
            "or uninstall the other"
        )


class AdapterLoadError(RegistryError):
    """The adapter's code could not be imported, or its object could not be built."""

    def __init__(
        self, name: str, distribution: str, version: str, target: str, reason: str
    ) -> None:
        super().__init__(name)
        self.distribution = distribution
        self.version = version
        self.target = target
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"adapter {self.name!r} ({self.target}, from {self.distribution} {self.version}) "
            f"cannot be loaded: {self.reason}"
        )


class ContractError(RegistryError):
    """The adapter does not fulfil the contract; `problems` lists everything found.

    Args:
        name: The adapter's name; "middleware" or "observers" for objects of an application.
        target: Where the class is, as "module:attribute".
        problems: One sentence each.
        distribution: The distribution that the adapter comes from, where it comes from one.
        version: That distribution's version.
        kind: "adapter", or `name` for objects of an application.
    """

    def __init__(
        self,
        name: str,
        target: str,
        problems: Iterable[str],
        distribution: str | None = None,
        version: str | None = None,
        kind: str = "adapter",
    ) -> None:
        super().__init__(name)
        self.target = target
        self.problems = tuple(problems)
        self.distribution = distribution
        self.version = version
        self.kind = kind

    def __str__(self) -> str:
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        if self.kind != "adapter":
            return f"{self.kind}: {self.target} does not fulfil the contract:{lines}"
        origin = f", from {self.distribution} {self.version}" if self.distribution else ""
        return f"adapter {self.name!r} ({self.target}{origin}) does not fulfil the contract:{lines}"


ProblemKind = Literal["unknown", "missing", "type", "value"]


class Problem(NamedTuple):
    """One problem of the given options.

    Args:
        path: The option, as `$.retry.attempts` or `workers.toml: $.replicas[2].options.api_key`;
            `$` or empty for the options as a whole.
        message: The problem and the advice, without the path.
        kind: "unknown" for an option that does not exist, "missing" for one that has to be given,
            "type" for a value of another type, "value" for everything else.
    """

    path: str
    message: str
    kind: ProblemKind = "value"

    def __str__(self) -> str:
        return self.message if self.path in ("", "$") else f"{self.path}: {self.message}"


class ConfigError(RegistryError, ValueError):
    """The adapter's options are wrong; `problems` has the path and the message of each."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        super().__init__(name)
        self.problems = tuple(problems)

    @classmethod
    def single(cls, name: str, message: str, path: str = "") -> Self:
        """Return a ConfigError with one problem."""
        return cls(name, (Problem(path, message),))

    def __str__(self) -> str:
        heading = f"configuration of {self.name!r}:"
        if len(self.problems) == 1:
            return f"{heading} {self.problems[0]}"
        return heading + "".join(f"\n  - {problem}" for problem in self.problems)
