"""Declarative workers: pools and replicas from a TOML file, or one replica from the environment.

docs/reference/workers-file.md describes the format.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from adapter_api.errors import Problem
from adapter_api.keys import without_keys
from adapter_api.validators import must_be, shown
from registry.config.fields import ConfigField
from registry.host.policy import PoolPolicy
from registry.host.routing import LeastLoaded, LoadedModel, PrefixAffinity, SessionAffinity
from registry.host.snapshot import ReplicaSettings
from registry.near import nearest
from registry.registry import Registry
from registry.workers.reading import Unreadable, is_too_deep, read_text
from registry.workers.spec import (
    PoolSpec,
    ReplicaSpec,
    Workers,
    WorkersError,
    by_key,
    configured,
    options_of,
    structured,
)

ROUTINGS: Mapping[str, type] = {
    "session_affinity": SessionAffinity,
    "prefix_affinity": PrefixAffinity,
    "loaded_model": LoadedModel,
    "least_loaded": LeastLoaded,
}
"""The routing policies that a file can name."""

MAX_FILE_BYTES = 4 << 20
"""Far more than a thousand replicas need; a larger file is probably the wrong one."""

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


is_name = must_be(
    "a name of printable characters",
    lambda value: isinstance(value, str) and value.strip() != "" and value.isprintable(),
)
"""An attrs validator for the names of pools and replicas."""


@attrs.frozen
class WorkersTable:
    """The file.

    Args:
        defaults: Policy settings for every pool.
        pools: Policy settings by pool; they override the defaults.
        replicas: The replicas, each a ReplicaTable.
    """

    defaults: dict[str, Any] = attrs.field(factory=dict)
    pools: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    replicas: list[dict[str, Any]] = attrs.field(factory=list)


@attrs.frozen
class ReplicaTable(ReplicaSettings):
    """One replica in the file.

    Args:
        pool: Its pool.
        replica: Its name in the pool.
        adapter: The adapter's name, or "distribution:name".
        options: The adapter's options.
        secrets: For each secret option, the environment variable that holds it.
    """

    pool: str = attrs.field(validator=is_name)
    replica: str = attrs.field(validator=is_name)
    adapter: str
    options: dict[str, Any] = attrs.field(factory=dict)
    secrets: dict[str, str] = attrs.field(factory=dict)


def read_workers(path: Path, registry: Registry) -> Workers:
    """Return what a workers file declares.

    Raises:
        WorkersError: With every problem of the file. It holds no secret.
    """
    name = os.fspath(path)
    try:
        text = read_text(path, MAX_FILE_BYTES)
    except Unreadable as error:
        raise WorkersError(name, [Problem(name, str(error))]) from None
    return parse_workers(text, name, registry)


def parse_workers(text: str, name: str, registry: Registry) -> Workers:
    """Return what the text of a workers file declares.

    Args:
        text: The file's text.
        name: The file's name, for the error.
        registry: Knows the adapters and their options.

    Raises:
        WorkersError: With every problem of the file. It holds no secret.
    """
    data = _toml(text, name)
    problems: list[Problem] = []
    structured(WorkersTable, data, f"{name}: $", problems)
    # Each part is read even if another is wrong, so that one error has every problem.
    others = _pool(_table(data, "defaults"), f"{name}: $.defaults", problems)
    pools = {
        pool_id: _pool({**others.settings, **settings}, f"{name}: $.pools.{pool_id}", problems)
        for pool_id, settings in _table(data, "pools").items()
        if isinstance(settings, dict)
    }
    tables = data.get("replicas")
    specs = [
        _replica(table, f"{name}: $.replicas[{index}]", registry, problems)
        for index, table in enumerate(tables if isinstance(tables, list) else [])
        if isinstance(table, dict)
    ]
    replicas = by_key([spec for spec in specs if spec is not None], problems)
    if "replicas" in data:  # otherwise replicas, and with them pools, come from elsewhere
        problems += _missing_fallbacks(data, name)
    if problems:
        raise WorkersError(name, problems)
    return Workers(replicas, pools, others, lists_replicas="replicas" in data)


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = f"it is not TOML: {error}"
    except RecursionError:
        problem = "it is nested too deeply"
    else:
        if not is_too_deep(data):
            return data
        problem = "it is nested too deeply"
    raise WorkersError(name, [Problem(name, problem)])


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the table of this name; empty if it is something else, which was reported already."""
    table = data.get(key)
    return table if isinstance(table, dict) else {}


# Pools


def _pool(settings: Mapping[str, Any], place: str, problems: list[Problem]) -> PoolSpec:
    """Return the policy of these settings; one without settings if they have problems."""
    values = dict(settings)
    # Its type is a protocol; a file can only name one of our policies.
    named = values.pop("routing", None)
    routing = None if named is None else _routing(named, f"{place}.routing", problems)
    policy = structured(PoolPolicy, values, place, problems)
    if policy is None:
        return PoolSpec()
    return PoolSpec(settings, policy if routing is None else attrs.evolve(policy, routing=routing))


def _routing(value: object, place: str, problems: list[Problem]) -> Any:
    """Return the routing policy of a name, or of a table with name and settings."""
    settings = dict(value) if isinstance(value, dict) else {"name": value}
    name = settings.pop("name", None)
    cls = ROUTINGS.get(name) if isinstance(name, str) else None
    if cls is not None:
        return structured(cls, settings, place, problems)
    near = nearest(name, ROUTINGS) if isinstance(name, str) else None
    hint = f"did you mean {near!r}?" if near else f"the names are {', '.join(ROUTINGS)}"
    problems.append(Problem(place, f"expected the name of a routing policy; {hint}"))
    return None


def _missing_fallbacks(data: Mapping[str, Any], name: str) -> Iterator[Problem]:
    """Yield a problem for each fallback pool that the file does not declare."""
    tables, pools = data.get("replicas"), _table(data, "pools")
    tables = tables if isinstance(tables, list) else []
    named = [table.get("pool") for table in tables if isinstance(table, dict)]
    known = [*pools, *(pool for pool in named if isinstance(pool, str))]
    policies = {"$.defaults": _table(data, "defaults")}
    policies |= {f"$.pools.{pool}": _table(pools, pool) for pool in pools}
    for place, settings in policies.items():
        names = settings.get("fallback")
        for index, pool in enumerate(names if isinstance(names, list) else ()):
            if isinstance(pool, str) and pool not in known:
                near = nearest(pool, known)
                listed = ", ".join(dict.fromkeys(known)) or "none"
                hint = f"did you mean {near!r}?" if near else f"the pools are: {listed}."
                message = (
                    f"there is no pool {shown(pool)}; {hint} A pool whose replicas come later "
                    f"needs a table [pools.{without_keys(pool)}]"
                )
                yield Problem(f"{name}: {place}.fallback[{index}]", message)


# Replicas


def _replica(
    data: Mapping[str, Any], place: str, registry: Registry, problems: list[Problem]
) -> ReplicaSpec | None:
    """Return the declared replica; None, or one without config, if it has problems."""
    table = structured(ReplicaTable, data, place, problems)
    adapter = data.get("adapter")
    fields = None
    if isinstance(adapter, str):
        fields = options_of(adapter, registry, place, problems)
    if not isinstance(adapter, str) or fields is None:
        return None
    options, places = _options(data, fields, place, problems)
    key = ("", "") if table is None else (table.pool, table.replica)
    settings = {} if table is None else table.settings
    spec = ReplicaSpec(*key, adapter, options, config=None, source=place, **settings)
    spec = configured(spec, fields, registry, problems, places)
    return None if table is None else spec


def _options(
    data: Mapping[str, Any],
    fields: Mapping[str, ConfigField],
    place: str,
    problems: list[Problem],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the adapter's options with their secrets, and where the secrets stand."""
    options = dict(_table(data, "options"))
    places = {}
    for name in list(options):
        if name in fields and fields[name].secret:
            del options[name]
            places[name] = ""
            message = (
                "a secret does not belong in a file: write "
                f'secrets = {{ {name} = "VARIABLE" }} with the name of the environment variable '
                "that holds it"
            )
            problems.append(Problem(f"{place}.options.{name}", message))
    for name, variable in _table(data, "secrets").items():
        if not isinstance(variable, str):
            continue  # already a problem
        where = f"secrets.{without_keys(name)}"
        try:
            options[name] = _from_environment(name, variable, options)
            places[name] = where
        except ValueError as error:
            places[name] = ""
            problems.append(Problem(f"{place}.{where}", str(error)))
    return options, places


def _from_environment(name: str, variable: str, options: Mapping[str, Any]) -> str:
    """Return the value of the variable that holds the option `name`.

    Raises:
        ValueError: If there is none; the message says why.
    """
    if name in options:
        raise ValueError("it is also among the options: remove one of them")
    value = os.environ.get(variable)
    if value:
        return value
    if _VARIABLE.fullmatch(variable) and without_keys(variable) == variable:
        raise ValueError(f"the environment variable {variable} is not set")
    # The text is not repeated: it may be the secret itself.
    raise ValueError("expected the name of an environment variable that is set")
