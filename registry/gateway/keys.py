"""The keys of a gateway's clients, with their limits on requests and tokens."""

import base64
import hmac
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from registry.gateway.key_file import KeyLimits, hash_of, read_keys
from registry.serving.openai_api.errors import ApiError

_WINDOW_S = 60.0


@attrs.define(eq=False)
class _Window:
    """The counts of the last minute, in steps of a second.

    Args:
        step_s: The minimum distance of two counts. A closer one is added to the earlier.
    """

    step_s: float
    total: int = attrs.field(default=0, init=False)
    _counts: deque[tuple[float, int]] = attrs.field(factory=deque, init=False)

    def add(self, now: float, count: int) -> None:
        """Count."""
        self.total += count
        counts = self._counts
        if counts and now - counts[-1][0] < self.step_s:
            at, before = counts.pop()
            counts.append((at, before + count))
        else:
            counts.append((now, count))

    def wait_ms(self, now: float, limit: int) -> int:
        """Return how long until less than `limit` is counted; 0 if it is already."""
        counts = self._counts
        while counts and counts[0][0] <= now - _WINDOW_S:
            self.total -= counts.popleft()[1]
        left, free_at = self.total, now
        for at, count in counts:
            if left < limit:
                break
            left -= count
            free_at = at + _WINDOW_S
        return math.ceil(1000 * (free_at - now))


@attrs.define(eq=False)
class Key:
    """One key, and its jobs in flight.

    Args:
        name: Its name in the file, the logs and the dashboard.
        limits: Its limits in the file.
    """

    name: str
    limits: KeyLimits
    in_flight: int = attrs.field(default=0, init=False)
    _requests: _Window = attrs.field(factory=lambda: _Window(0.0), init=False)
    _tokens: _Window = attrs.field(factory=lambda: _Window(1.0), init=False)

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
        if limits.tokens_per_minute is not None:
            wait_ms = self._tokens.wait_ms(now, limits.tokens_per_minute)
            if wait_ms:
                raise _limited(
                    f"has used its {limits.tokens_per_minute} tokens of this minute", wait_ms
                )
        if limits.requests_per_minute is not None:
            wait_ms = self._requests.wait_ms(now, limits.requests_per_minute)
            if wait_ms:
                raise _limited(f"may begin {limits.requests_per_minute} requests a minute", wait_ms)
            self._requests.add(now, 1)
        self.in_flight += 1

    def release(self, now: float, tokens: int) -> None:
        """Count a request that has ended.

        Args:
            now: Seconds of the same clock.
            tokens: The tokens of its prompt and its answer, as far as they are known.
        """
        self.in_flight -= 1
        if self.limits.tokens_per_minute is not None and tokens:
            self._tokens.add(now, tokens)


def _limited(why: str, wait_ms: int) -> ApiError:
    return ApiError(429, f"This key {why}.", code="rate_limit_exceeded", retry_after_ms=wait_ms)


class Keyring:
    """The keys of a gateway.

    Args:
        limits: The keys by name.
    """

    def __init__(self, limits: Mapping[str, KeyLimits]) -> None:
        self._keys: dict[str, Key] = {}  # by hash
        self.replace(limits)

    @classmethod
    def from_file(cls, path: Path) -> "Keyring":
        """Read a key file.

        Raises:
            ConfigError: With every problem of the file.
        """
        return cls(read_keys(path))

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, limits: Mapping[str, KeyLimits]) -> None:
        """Replace the keys. Remaining keys keep their counts; jobs of removed ones run to their
        end.

        Args:
            limits: The keys by name.
        """
        before, self._keys = self._keys, {}
        for name, limit in limits.items():
            key = before.get(limit.sha256)
            if key is None or key.name != name:
                key = Key(name, limit)
            key.limits = limit
            self._keys[limit.sha256] = key

    def find(self, scope: Mapping[str, Any], *, basic: bool = False) -> Key:
        """Return the key of a request.

        Args:
            scope: The request.
            basic: Whether the key may be the password of Basic authentication, as browsers send it.
                They send it with requests from other sites, too, so allow it for reading only.

        Raises:
            ApiError: 401 if there is none, or an unknown one.
        """
        challenge = 'Basic realm="worker-adapters", charset="UTF-8"' if basic else "Bearer"
        # Two headers are one value with a comma, and no key: a proxy may have checked the other.
        given = b", ".join(value for name, value in scope["headers"] if name == b"authorization")
        scheme, _, secret = given.decode("latin-1").partition(" ")
        secret = secret.strip()
        if basic and scheme.lower() == "basic":
            secret = _password(secret)
        elif scheme.lower() != "bearer":
            secret = ""
        if not secret:
            raise _unauthorized(
                "This gateway needs a key, as a bearer token in the header Authorization.",
                challenge,
            )
        # The time of a look-up says nothing about the hash: Python's own hashes are keyed.
        digest = hash_of(secret)
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.limits.sha256, digest):
            raise _unauthorized("This key is unknown.", challenge)
        return key


def _password(credentials: str) -> str:
    """Return the password of Basic credentials; empty if they are not valid."""
    try:
        pair = base64.b64decode(credentials, validate=True).decode()
    except ValueError:
        return ""
    return pair.partition(":")[2]


def _unauthorized(message: str, challenge: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": challenge})
