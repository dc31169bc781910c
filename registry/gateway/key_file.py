"""The key file of a gateway: TOML with hashes, names, pools and limits, followed while it runs.

A key is 32 random bytes, so one round of SHA-256 is enough: there is no dictionary to try.
"""

import asyncio
import hashlib
import logging
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from adapter_api.errors import ConfigError, Problem
from adapter_api.validators import integer
from registry.config.fields import structure_config
from registry.workers.reading import Mark, Unreadable, mark_of, read_text

logger = logging.getLogger("worker_adapters.gateway")

PREFIX = "wa-"
"""The prefix of every gateway key, so that scanners for leaked keys can find it."""

MAX_FILE_BYTES = 1 << 20
"""Enough for several thousand keys."""

LOOK_S = 1.0
"""Seconds between two looks at the file. A revoked key is accepted for at most twice this time."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _hash(_: object, field: "attrs.Attribute[str]", value: object) -> None:
    # The value is not shown: it may be a key that was put there by mistake.
    if not isinstance(value, str) or _SHA256.fullmatch(value) is None:
        raise ValueError(
            f"{field.name} must be 64 hexadecimal digits: `gateway key NAME` makes them"
        )


@attrs.frozen
class KeyLimits:
    """One key in the file.

    Args:
        sha256: The hash of the key, in hexadecimal digits.
        pools: The pools it may use; None for all.
        requests_per_minute: How many requests it may begin in a minute; None for no limit.
        tokens_per_minute: After how many tokens in a minute, of prompts and answers that have
            ended, it may begin no more; None for no limit.
        max_in_flight: How many of its jobs may run or wait at once; None for no limit.
        metrics: Whether it opens /metrics, the dashboard and /v1/jobs from other machines.
    """

    sha256: str = attrs.field(validator=_hash)
    pools: frozenset[str] | None = None
    requests_per_minute: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    tokens_per_minute: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    max_in_flight: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    metrics: bool = False


@attrs.frozen
class KeyFile:
    """The key file.

    Args:
        keys: The keys by name.
    """

    keys: Mapping[str, KeyLimits] = attrs.field(factory=dict)


def read_keys(path: Path) -> Mapping[str, KeyLimits]:
    """Return the keys of a key file by name.

    Raises:
        ConfigError: With every problem of the file.
    """
    keys = _read(path)
    if not keys:
        why = "it has no key: `worker-adapters gateway key NAME` makes one"
        raise ConfigError.single("keys", why, str(path))
    names: dict[str, str] = {}
    for name, limits in keys.items():
        if (other := names.setdefault(limits.sha256, name)) != name:
            why = f"{other!r} and {name!r} are the same key: give each client its own"
            raise ConfigError.single("keys", why, str(path))
    return keys


def hash_of(key: str) -> str:
    """Return the hash of a key, as the file holds it."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(name: str) -> tuple[str, str]:
    """Return a new key, and the lines that add it to a key file.

    Raises:
        ValueError: If the name has other characters than letters, digits, `-` and `_`.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a key name: use 1 to 64 letters, digits, hyphens and underscores"
        )
    key = PREFIX + secrets.token_urlsafe(32)
    return key, f'[keys.{name}]\nsha256 = "{hash_of(key)}"\n'


def add_key(name: str, path: Path | None) -> tuple[str, str]:
    """Make a key, and add it to a key file if one is given.

    Returns:
        The key, and the lines for the file.

    Raises:
        ValueError: If the name is not valid, or the file has it already.
        OSError: If the file cannot be written.
    """
    key, lines = new_key(name)
    if path is not None:
        if path.exists() and name in _read(path):
            raise ValueError(f"{path} has a key {name!r} already: choose another name")
        before = "\n" if path.exists() and path.stat().st_size else ""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(fd, "a") as file:
            file.write(before + lines)
    return key, lines


class KeysWatch:
    """Follows a key file: new keys are accepted and revoked ones refused without a restart.

    A version with a problem is refused with one warning in the log, and the old keys stay.

    Args:
        path: The key file, which was read already.
        replace: Takes the keys of each new version.
        interval_s: Seconds between two looks.
    """

    def __init__(
        self,
        path: Path,
        replace: Callable[[Mapping[str, KeyLimits]], None],
        interval_s: float = LOOK_S,
    ) -> None:
        self._path = path
        self._replace = replace
        self._interval_s = interval_s
        self._read = self._seen = mark_of(path)
        self._task: asyncio.Task[None] | None = None

    def look(self) -> Mapping[str, KeyLimits] | None:
        """Return the keys of a new version of the file; None if there is none.

        A file is read once two looks have found it unchanged, as it may be partly written.

        Raises:
            ConfigError: If the new version cannot be used; once for each version.
        """
        mark: Mark = mark_of(self._path)
        settled, self._seen = mark == self._seen, mark
        if mark == self._read or not settled:
            return None
        self._read = mark
        return read_keys(self._path)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="watch keys")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                # In a thread: a slow disk must not stop the jobs.
                keys = await asyncio.to_thread(self.look)
            except ConfigError as error:
                logger.warning("the new keys are refused, the old ones stay: %s", error)
                continue
            if keys is not None:
                self._replace(keys)
                logger.info("the keys have changed: there are %d now", len(keys))


def _read(path: Path) -> Mapping[str, KeyLimits]:
    try:
        if not path.exists():
            raise ConfigError.single("keys", "there is no such file", str(path))
        data: Mapping[str, Any] = tomllib.loads(read_text(path, MAX_FILE_BYTES))
    except (Unreadable, tomllib.TOMLDecodeError) as exc:
        raise ConfigError.single("keys", str(exc), str(path)) from exc
    try:
        return structure_config("keys", KeyFile, data).keys
    except ConfigError as error:
        problems = [Problem(f"{path}: {it.path}", it.message, it.kind) for it in error.problems]
        raise ConfigError("keys", problems) from error
