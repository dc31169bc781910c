"""Finds the pool that serves a model, from the host's known facts."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

from registry.serving.openai_api.errors import ApiError, model_not_found

REFRESH_S = 1.0
"""How old the list may be: replicas learn their models in health checks, which are rarer."""


ANY = "*"
"""The alias of a pool that takes every model that no other pool has."""


class KnowsModels(Protocol):
    """The part of a host that this module needs."""

    def models(self) -> Mapping[str, tuple[str, ...]]:
        """Return the names that each pool is known to serve, by pool_id."""
        ...


class ModelDirectory:
    """Finds the pool for a model's name: an alias, a model that a replica lists, or a pool.

    Args:
        host: Knows the models of its pools.
        aliases: Further names, each with the pool that serves it.
    """

    def __init__(self, host: KnowsModels, aliases: Mapping[str, str] | None = None) -> None:
        self._host = host
        self._aliases = dict(aliases or {})
        self._pools_of: dict[str, tuple[str, ...]] = {}
        self._pools: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    def find(self, model: str | None, allowed: frozenset[str] | None) -> str:
        """Return the pool that serves `model`.

        Args:
            model: The name in the request; None only if there is no choice of pools.
            allowed: The pools that the client may use; None for all.

        Raises:
            ApiError: 404 `model_not_found`.
        """
        now = asyncio.get_running_loop().time()
        if now - self._read_at > REFRESH_S:
            self._refresh(now)
        if model is None:
            return self._only_pool(allowed)
        for pool_id in self._pools_of.get(model, ()):
            if allowed is None or pool_id in allowed:
                return pool_id
        if model in self._pools and (allowed is None or model in allowed):
            return model
        fallback = self._aliases.get(ANY)
        if fallback is not None and (allowed is None or fallback in allowed):
            return fallback
        raise model_not_found(model, self.names(allowed))

    def _only_pool(self, allowed: frozenset[str] | None) -> str:
        fallback = self._aliases.get(ANY)
        if fallback is not None and (allowed is None or fallback in allowed):
            return fallback
        pools = self._pools if allowed is None else self._pools & allowed
        if len(pools) == 1:
            return next(iter(pools))
        raise ApiError(
            400,
            "model must be given: GET /v1/models lists the models.",
            code="invalid_value",
            param="model",
        )

    def upstream_name(self, model: str | None) -> str | None:
        """Return the name that a task gets: None for an alias or a pool, which no engine knows."""
        return model if model in self._pools_of and model not in self._aliases else None

    def names(self, allowed: frozenset[str] | None) -> list[str]:
        """Return every name that a request may have, sorted and without duplicates."""
        self._refresh(asyncio.get_running_loop().time())
        silent = self._pools.difference(*self._pools_of.values())
        known = [(name, pools) for name, pools in self._pools_of.items()]
        known += [(pool_id, (pool_id,)) for pool_id in silent]
        return sorted({name for name, pools in known if _any_allowed(pools, allowed)})

    def _refresh(self, now: float) -> None:
        self._read_at = now
        known = self._host.models()
        pools_of: dict[str, tuple[str, ...]] = {}
        for pool_id in sorted(known):
            for name in known[pool_id]:
                pools_of[name] = (*pools_of.get(name, ()), pool_id)
        for name, pool_id in self._aliases.items():
            if name != ANY:
                pools_of[name] = (pool_id,)
        self._pools_of = pools_of
        self._pools = frozenset(known)


def _any_allowed(pools: Iterable[str], allowed: frozenset[str] | None) -> bool:
    return allowed is None or not allowed.isdisjoint(pools)
