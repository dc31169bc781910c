"""API keys of the gateway: a TOML file with hashes, names, pools and limits.

A key is 32 random bytes, so one round of SHA-256 is enough: there is no dictionary to try.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from adapter_api.errors import ConfigError
from adapter_api.validators import integer
from registry.config.fields import structure_config
from registry.serving.openai_api.errors import ApiError

PREFIX = "wa-"
"""The prefix of every gateway key, so that scanners for leaked keys can find it."""

MAX_FILE_BYTES = 1 << 20
"""Some thousand keys."""

_WINDOW_S = 60.0
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
        max_in_flight: How many of its jobs may run or wait at once; None for no limit.
        metrics: Whether it opens /metrics, the dashboard and /v1/jobs from other machines.
    """

    sha256: str = attrs.field(validator=_hash)
    pools: frozenset[str] | None = None
    requests_per_minute: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    max_in_flight: int | None = attrs.field(default=None, validator=integer(1, optional=True))
    metrics: bool = False


@attrs.frozen
class KeyFile:
    """The key file.

    Args:
        keys: The keys by name.
    """

    keys: Mapping[str, KeyLimits] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Key:
    """One key, and what is in flight with it.

    Args:
        name: Its name in the file, the logs and the dashboard.
        limits: What the file says of it.
    """

    name: str
    limits: KeyLimits
    in_flight: int = attrs.field(default=0, init=False)
    _begun: deque[float] = attrs.field(factory=deque, init=False)

    @property
    def pools(self) -> frozenset[str] | None:
        """The pools it may use; None for all."""
        return self.limits.pools

    def admit(self, now: float) -> None:
        """Count a request that begins.

        Args:
            now: Seconds of a monotonic clock.

        Raises:
            ApiError: 429 with the time to wait, if a limit is reached.
        """
        limits = self.limits
        if limits.max_in_flight is not None and self.in_flight >= limits.max_in_flight:
            raise _limited(f"has {limits.max_in_flight} jobs in flight, its maximum", 1000)
        if limits.requests_per_minute is not None:
            begun = self._begun
            while begun and begun[0] <= now - _WINDOW_S:
                begun.popleft()
            if len(begun) >= limits.requests_per_minute:
                wait_ms = max(1, round(1000 * (begun[0] + _WINDOW_S - now)))
                raise _limited(f"may begin {limits.requests_per_minute} requests a minute", wait_ms)
            begun.append(now)
        self.in_flight += 1

    def release(self) -> None:
        """Count a request that has ended."""
        self.in_flight -= 1


def _limited(why: str, wait_ms: int) -> ApiError:
    return ApiError(429, f"This key {why}.", code="rate_limit_exceeded", retry_after_ms=wait_ms)


class Keyring:
    """The keys of a gateway.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys

    @classmethod
    def from_file(cls, path: Path) -> "Keyring":
        """Read a key file.

        Raises:
            ConfigError: With every problem of the file.
        """
        file = structure_config(str(path), KeyFile, _read(path))
        if not file.keys:
            raise ConfigError.single(
                str(path), "it has no key: `worker-adapters gateway key NAME` makes one"
            )
        return cls(tuple(Key(name, limits) for name, limits in file.keys.items()))

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, authorization: str | None, *, basic: bool = False) -> Key:
        """Return the key of a request.

        Args:
            authorization: The request's Authorization header.
            basic: Whether the key may be the password of Basic authentication, which browsers ask
                for. They send it with requests of other sites, too: only for what changes nothing.

        Raises:
            ApiError: 401 if there is none, or an unknown one.
        """
        challenge = 'Basic realm="worker-adapters", charset="UTF-8"' if basic else "Bearer"
        scheme, _, given = (authorization or "").partition(" ")
        given = given.strip()
        if basic and scheme.lower() == "basic":
            given = _password(given)
        elif scheme.lower() != "bearer":
            given = ""
        if not given:
            raise _unauthorized(
                "This gateway needs a key, as a bearer token in the header Authorization.",
                challenge,
            )
        digest = hash_of(given)
        found = None
        for key in self._keys:  # all of them: the time says nothing about which one fits
            if hmac.compare_digest(key.limits.sha256, digest):
                found = key
        if found is None:
            raise _unauthorized("This key is unknown.", challenge)
        return found


def _password(credentials: str) -> str:
    """Return the password of Basic credentials; empty if they are not valid."""
    try:
        pair = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return ""
    return pair.partition(":")[2]


def _unauthorized(message: str, challenge: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": challenge})


def hash_of(key: str) -> str:
    """Return what the file holds of a key."""
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
        if path.exists() and name in structure_config(str(path), KeyFile, _read(path)).keys:
            raise ValueError(f"{path} has a key {name!r} already: take another name")
        before = "\n" if path.exists() and path.stat().st_size else ""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(fd, "a") as file:
            file.write(before + lines)
    return key, lines


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if not path.is_file():
            raise ConfigError.single(str(path), "there is no such file")
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise ConfigError.single(str(path), f"the file has more than {MAX_FILE_BYTES} bytes")
        return tomllib.loads(text.decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError.single(str(path), str(exc)) from exc
