"""Declared workers: specs of replicas and pools, and the problems of a declaration."""

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
from registry.host.snapshot import Binding, ReplicaSettings
from registry.registry import Registry

_T = TypeVar("_T")

_WHERE_BOUND = ("pool_id", "replica_id")
"""The options that give an adapter the names, for its log, under which it is bound."""


class WorkersError(ConfigError):
    """A declaration cannot be bound.

    The path of each problem begins with the file, as in
    `workers.toml: $.replicas[2].options.stall_timeout_s`.

    Args:
        name: The file, or a phrase for several.
        problems: Every problem.
    """

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{self.name} cannot be used:{lines}"


def _exactly(value: object) -> str:
    """Return a key for comparing: 1, 1.0 and true are equal in Python, but not in a file."""
    return json.dumps(value, sort_keys=True, default=str)


@attrs.frozen
class ReplicaSpec(ReplicaSettings):
    """A declared replica. Two equal ones are the same replica.

    Args:
        pool_id: Its pool.
        replica_id: Its name in the pool.
        adapter: The registry's name of its adapter.
        options: The adapter's options as declared, secrets included.
        config: The adapter's config, made of the options.
        engine: The engine's kind and version as declared; another engine is another replica.
        source: The file, and the path in it.
    """

    pool_id: str
    replica_id: str
    adapter: str
    options: Mapping[str, Any] = attrs.field(repr=False, eq=_exactly)
    config: object = attrs.field(repr=False, eq=False)
    engine: tuple[str, ...] = ()
    source: str = attrs.field(default="$", eq=False)

    @property
    def key(self) -> tuple[str, str]:
        """Pool and replica, which identify it."""
        return self.pool_id, self.replica_id

    def binding(self, adapter: BoundAdapter) -> Binding:
        """Return how the host binds this adapter."""
        return Binding(adapter, **self.settings)

    def build(self, registry: Registry) -> BoundAdapter:
        """Return its adapter, not started.

        Raises:
            WorkersError: If it cannot be built.
        """
        try:
            return registry.get(self.adapter, self.config)
        except RegistryError as error:
            raise WorkersError(self.source, [Problem(self.source, one_line(error))]) from None


@attrs.frozen
class PoolSpec:
    """A pool's declared policy.

    Args:
        settings: The settings as the file has them, by which two specs are compared.
        policy: The policy they make.
    """

    settings: Mapping[str, Any] = attrs.field(factory=dict, eq=_exactly)
    policy: PoolPolicy = attrs.field(factory=PoolPolicy, eq=False)


@attrs.frozen
class Workers:
    """All declared pools and replicas.

    Args:
        replicas: By pool and replica.
        pools: The policies, by pool.
        others: The policy of pools without their own.
        lists_replicas: Whether the file has the key `replicas`, even with an empty list.
    """

    replicas: Mapping[tuple[str, str], ReplicaSpec] = attrs.field(factory=dict)
    pools: Mapping[str, PoolSpec] = attrs.field(factory=dict)
    others: PoolSpec = attrs.field(factory=PoolSpec)
    lists_replicas: bool = attrs.field(default=False, eq=False)

    @property
    def policies(self) -> dict[str, PoolSpec]:
        """The policy of every pool that has a replica or settings of its own."""
        used = dict.fromkeys((pool_id for pool_id, _ in self.replicas), self.others)
        return {**used, **self.pools}


def by_key(
    specs: Iterable[ReplicaSpec], problems: list[Problem]
) -> dict[tuple[str, str], ReplicaSpec]:
    """Return the replicas by pool and replica; a duplicate is a problem, and the first one stays.

    Args:
        specs: The replicas.
        problems: Receives the problems.
    """
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


# From data to objects; every problem is collected with its place.


def structured(
    cls: type[_T], data: Mapping[str, Any], place: str, problems: list[Problem]
) -> _T | None:
    """Return the object that `data` describes; None if it has problems.

    Args:
        cls: An attrs class.
        data: From a file.
        place: The file, and the path of `data` in it.
        problems: Receives the problems.
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
    """Return an adapter's options by name; None, and a problem, if it cannot be used."""
    try:
        info = registry.describe(adapter)
        reason = info.reason
    except RegistryError as error:  # none of this name; the error names the nearest
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
    """Return `spec` with the config that its options make.

    Args:
        spec: Has the options; its config is ignored.
        fields: The names of the adapter's options.
        registry: Knows the adapter.
        problems: Receives the problems.
        places: Where an option stands if not below `options` of the source; "" for one whose
            problem is known already.
    """
    own = dict(zip(_WHERE_BOUND, spec.key, strict=True))
    options = {**{name: own[name] for name in own if name in fields}, **spec.options}
    try:
        return attrs.evolve(spec, config=registry.configure(spec.adapter, options))
    except ConfigError as error:
        found: Iterable[Problem] = error.problems
    except RegistryError as error:
        found = (Problem("", one_line(error)),)
    # An option that a file takes from the environment is secret, whatever its adapter declares.
    secrets = [spec.options[name] for name in places if places[name].startswith("secrets.")]
    for problem in found:
        option = option_of(problem.path)
        where = places.get(option, f"options{problem.path.removeprefix('$')}")
        if where:
            message = hide(problem.message, secrets)
            problems.append(Problem(f"{spec.source}.{where}", message, problem.kind))
    return spec


def one_line(text: object) -> str:
    """Return a text on one line; a list below a heading becomes `heading: item; item`."""
    heading, *items = [line.strip().removeprefix("- ") for line in str(text).splitlines()]
    listed = "; ".join(item for item in items if item)
    return f"{heading} {listed}" if heading.endswith(":") else "; ".join([heading, *items])
