"""What shall be bound, as files declare it, and the adapters that are built from it."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from adapter_api.errors import ConfigError, Problem, RegistryError
from registry.adapter import BoundAdapter
from registry.config import structure as strict
from registry.config.declared import hide, option_of
from registry.config.fields import ConfigField
from registry.host.policy import PoolPolicy
from registry.registry import Registry

_T = TypeVar("_T")

_WHERE_BOUND = ("pool_id", "replica_id")
"""The options by which an adapter knows, for its log, where it is bound."""


class WorkersError(ConfigError):
    """What is declared cannot be bound; `problems` gives file, path and text of each problem.

    Args:
        name: What was read.
        problems: As "workers.toml: $.replicas[2].options.stall_timeout_s: expected float, got str".
    """

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{self.name} cannot be used:{lines}"


def _exactly(value: object) -> str:
    """For comparing: 1, 1.0 and true are equal in Python, and different in a file."""
    return json.dumps(value, sort_keys=True, default=str)


@attrs.frozen
class ReplicaSpec:
    """One replica as it is declared. Two that are equal are the same replica.

    Args:
        pool_id: Its pool.
        replica_id: Its name in the pool.
        adapter: The registry's name of its adapter.
        options: The adapter's options as declared, secrets among them.
        config: The adapter's config, made of them.
        limit: The most streams at once; None: what the engine says, or the policy.
        engine: What the source tells of the engine; another engine is another replica.
        source: The file and the path in it.
    """

    pool_id: str
    replica_id: str
    adapter: str
    options: Mapping[str, Any] = attrs.field(repr=False, eq=_exactly)
    config: object = attrs.field(repr=False, eq=False)
    limit: int | None = None
    engine: tuple[str, ...] = ()
    source: str = attrs.field(default="$", eq=False)

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it: pool and replica."""
        return self.pool_id, self.replica_id

    def build(self, registry: Registry) -> BoundAdapter:
        """Its adapter, not started.

        Raises:
            WorkersError: If it cannot be built.
        """
        try:
            return registry.get(self.adapter, self.config)
        except RegistryError as error:
            raise WorkersError(self.source, [Problem(self.source, one_line(error))]) from None


@attrs.frozen
class PoolSpec:
    """The policy of one pool as it is declared.

    Args:
        settings: The settings as they stand in the file, by which two are compared.
        policy: The policy they make.
    """

    settings: Mapping[str, Any] = attrs.field(factory=dict, eq=_exactly)
    policy: PoolPolicy = attrs.field(factory=PoolPolicy, eq=False)


@attrs.frozen
class Workers:
    """Everything that is declared.

    Args:
        replicas: By pool and replica.
        pools: The policies, by pool.
        others: The policy of pools that have none of their own.
    """

    replicas: Mapping[tuple[str, str], ReplicaSpec] = attrs.field(factory=dict)
    pools: Mapping[str, PoolSpec] = attrs.field(factory=dict)
    others: PoolSpec = attrs.field(factory=PoolSpec)

    @property
    def policies(self) -> dict[str, PoolSpec]:
        """The policy of every pool that has a replica or settings of its own."""
        used = dict.fromkeys((pool_id for pool_id, _ in self.replicas), self.others)
        return {**used, **self.pools}


def by_key(
    specs: Iterable[ReplicaSpec], problems: list[Problem]
) -> dict[tuple[str, str], ReplicaSpec]:
    """The replicas by pool and replica; of two with one name the first, and a problem."""
    found: dict[tuple[str, str], ReplicaSpec] = {}
    for spec in specs:
        other = found.setdefault(spec.key, spec)
        if other is not spec:
            message = (
                f"pool {spec.pool_id!r} has a replica {spec.replica_id!r} already, "
                f"from {other.source}"
            )
            problems.append(Problem(spec.source, message))
    return found


# From data to objects; every problem becomes a line with its place.


def structured(
    cls: type[_T], data: Mapping[str, Any], place: str, problems: list[Problem]
) -> _T | None:
    """The object of the attrs class `cls` that `data` describes; None if it has problems.

    Args:
        cls: An attrs class.
        data: From a file.
        place: The file and the path of `data` in it.
        problems: Gets a line for each problem.
    """
    try:
        made: _T = strict.structure(cls, data)
        return made
    except strict.Problems as error:
        problems += [Problem(f"{place}{p.path}", p.text, p.kind) for p in error.items]
        return None


def options_of(
    adapter: str, registry: Registry, place: str, problems: list[Problem]
) -> dict[str, ConfigField] | None:
    """The options that an adapter takes, by name; None, and a problem, if it cannot be used."""
    try:
        info = registry.describe(adapter)
        reason = info.reason
    except RegistryError as error:  # none of that name; it says the nearest
        reason = str(error)
    else:
        if info.status == "ok":
            return {field.name: field for field in info.config_fields}
    problems.append(Problem(f"{place}.adapter", one_line(reason)))
    return None


def configured(
    spec: ReplicaSpec,
    fields: Collection[str],
    registry: Registry,
    problems: list[Problem],
    places: Mapping[str, str],
) -> ReplicaSpec:
    """`spec` with the config that its options make; its problems are added to `problems`.

    Args:
        spec: With the options; its config is of no interest.
        fields: The names of the adapter's options.
        registry: Knows the adapter.
        problems: Gets a line for each problem.
        places: Where options come from that are not below `options` of the source; one that
            comes from nowhere ("") has had its problem told.
    """
    own = dict(zip(_WHERE_BOUND, spec.key, strict=True))
    options = {**{name: own[name] for name in own if name in fields}, **spec.options}
    try:
        return attrs.evolve(spec, config=registry.configure(spec.adapter, options))
    except ConfigError as error:
        found = [attrs.evolve(p, path=p.path.removeprefix("$")) for p in error.problems]
    except RegistryError as error:
        found = [Problem("", one_line(error))]
    # Whoever takes an option from the environment means it to be secret, whatever its adapter says.
    secrets = [spec.options[name] for name in places if places[name].startswith("secrets.")]
    for problem in found:
        option = option_of(problem.path)
        where = places.get(option, f"options{problem.path}")
        if where:
            message = hide(problem.message, secrets)
            problems.append(Problem(f"{spec.source}.{where}", message, problem.kind))
    return spec


def one_line(text: object) -> str:
    """A text of several lines as one; a list below a heading becomes `heading: item; item`."""
    heading, *items = [line.strip().removeprefix("- ") for line in str(text).splitlines()]
    listed = "; ".join(item for item in items if item)
    return f"{heading} {listed}" if heading.endswith(":") else "; ".join([heading, *items])
