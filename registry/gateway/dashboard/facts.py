"""The facts that the dashboard shows, as one JSON object a second."""

import asyncio
from collections import deque
from time import time
from typing import Any

import attrs
import msgspec

from adapter_api import BreakerNotice, ReplicaNotice, hookimpl
from registry.gateway.gateway import Gateway

REFRESH_S = 1.0
"""How often a page gets new facts."""

MAX_RUNNING_SHOWN = 200
"""The maximum number of jobs in flight on a page, the oldest first."""

MAX_EVENTS = 100


@attrs.frozen
class Event:
    """A change of a replica or a breaker.

    Args:
        at_s: When, in seconds since the epoch.
        text: One sentence.
        level: "info" or "bad".
    """

    at_s: float
    text: str
    level: str


class EventLog:
    """An observer that keeps the latest changes of replicas and breakers."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        """Keep a replica's change of state."""
        what = f"is {change.after}" if change.after else "was removed"
        text = f"Replica {change.replica_id} of {change.pool_id} {what}"
        self._add(f"{text}: {change.message}" if change.message else text, change.after == "down")

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """Keep a breaker's change."""
        state = change.after.replace("_", " ")
        text = f"The breaker of {change.replica_id} of {change.pool_id} is {state}"
        self._add(f"{text}: {change.reason}" if change.reason else text, change.after == "open")

    def _add(self, text: str, bad: bool) -> None:
        self.events.append(Event(round(time(), 3), text, "bad" if bad else "info"))


class Facts:
    """The facts of one gateway, encoded once a second however many pages are open.

    Args:
        gateway: The gateway.
        events: The changes of replicas and breakers; None if no observer keeps them.
    """

    def __init__(self, gateway: Gateway, events: EventLog | None) -> None:
        self._gateway = gateway
        self._events = events
        self._encoded = b""
        self._encoded_at = float("-inf")

    @property
    def leaving(self) -> bool:
        """True while the gateway is shutting down."""
        return self._gateway.is_leaving

    def encoded(self) -> bytes:
        """Return the facts as JSON."""
        now = asyncio.get_running_loop().time()
        if now - self._encoded_at >= REFRESH_S / 2:
            self._encoded = msgspec.json.encode(self._collected(now))
            self._encoded_at = now
        return self._encoded

    def config(self, pool_id: str, replica_id: str) -> str:
        """Return a replica's options, without secrets.

        Raises:
            LookupError: If there is no such replica.
        """
        adapter = self._gateway.host.adapter(pool_id, replica_id)
        return f"{adapter.name}\n{adapter.config!r}"

    def _collected(self, now: float) -> dict[str, Any]:
        pools = [attrs.asdict(pool) for pool in self._gateway.host.snapshot().pools]
        states = [replica["state"] for pool in pools for replica in pool["replicas"]]
        gateway, events = self._gateway, self._events
        jobs, totals = gateway.table.jobs, gateway.table.totals
        running = [
            {**_fields(job), "age_ms": round(1000 * (now - job.since))}
            for job in jobs[:MAX_RUNNING_SHOWN]
        ]
        return {
            "at_s": round(time(), 3),
            "draining": gateway.is_leaving,
            "pools": pools,
            "replicas_total": len(states),
            "replicas_ready": sum(state in ("ready", "busy") for state in states),
            "running": running,
            "running_total": len(jobs),
            "recent": [attrs.asdict(job) for job in reversed(gateway.recent)],
            "answered": totals.answered,
            "failed": totals.failed,
            "events": [attrs.asdict(event) for event in reversed(events.events)] if events else [],
        }


def _fields(job: Any) -> dict[str, Any]:
    shown = ("job_id", "pool_id", "model", "key", "priority", "phase", "tokens", "replica_id")
    return {name: getattr(job, name) for name in shown}
