"""LoggingObserver: one log record for each event of jobs, attempts, replicas and breakers."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from adapter_api.health import HealthState
from adapter_api.hookspecs import hookimpl
from adapter_api.notices import (
    AdapterNotice,
    AttemptNotice,
    BreakerNotice,
    HealthNotice,
    JobNotice,
    ReplicaNotice,
)

_MOST_SEVERE = {
    "adapter_started": logging.INFO,
    "adapter_closed": logging.INFO,
    "job_submitted": logging.DEBUG,
    "attempt_started": logging.DEBUG,
    "attempt_ended": logging.INFO,
    "job_first_token": logging.DEBUG,
    "job_ended": logging.INFO,
    "job_failed": logging.WARNING,
    "job_cancelled": logging.INFO,
    "health_changed": logging.WARNING,
    "replica_changed": logging.INFO,
    "breaker_changed": logging.WARNING,
}


@attrs.define(eq=False)
class LoggingObserver:
    """Writes a log record for each notice (ORCH-3027, ORCH-3300).

    The message is a short sentence without ids or secrets; the same text is the record's attribute
    `human`, and the notice's facts are its other attributes. Every Registry and host has one of
    these by default, unless it is given one.

    Args:
        logger: The logger to write to.
    """

    logger: logging.Logger = attrs.field(factory=lambda: logging.getLogger("worker_adapters.jobs"))

    def gate(self, hook: str) -> Callable[[], bool]:
        """Return a function that returns whether the logger is enabled for the hook's records."""
        return partial(self.logger.isEnabledFor, _MOST_SEVERE[hook])

    @hookimpl
    def adapter_started(self, adapter: AdapterNotice) -> None:
        """Log at INFO."""
        self._log(logging.INFO, "an adapter was started", adapter)

    @hookimpl
    def adapter_closed(self, adapter: AdapterNotice) -> None:
        """Log at INFO."""
        self._log(logging.INFO, "an adapter was closed", adapter)

    @hookimpl
    def job_submitted(self, job: JobNotice) -> None:
        """Log at DEBUG."""
        self._log(logging.DEBUG, "a job was submitted", job)

    @hookimpl
    def attempt_started(self, attempt: AttemptNotice) -> None:
        """Log at DEBUG."""
        self._log(logging.DEBUG, f"attempt {attempt.number} started", attempt)

    @hookimpl
    def attempt_ended(self, attempt: AttemptNotice) -> None:
        """Log at INFO if the attempt failed, else at DEBUG."""
        if attempt.code is None:
            self._log(logging.DEBUG, f"attempt {attempt.number} was answered", attempt)
        else:
            human = f"attempt {attempt.number} failed with {attempt.code}"
            self._log(logging.INFO, human, attempt)

    @hookimpl
    def job_first_token(self, job: JobNotice) -> None:
        """Log at DEBUG."""
        self._log(logging.DEBUG, "the first token arrived", job)

    @hookimpl
    def job_ended(self, job: JobNotice) -> None:
        """Log at INFO."""
        self._log(logging.INFO, "the answer is whole", job)

    @hookimpl
    def job_failed(self, job: JobNotice) -> None:
        """Log at WARNING."""
        self._log(logging.WARNING, f"the job failed with {job.code}", job)

    @hookimpl
    def job_cancelled(self, job: JobNotice) -> None:
        """Log at INFO."""
        self._log(logging.INFO, "the job was cancelled", job)

    @hookimpl
    def health_changed(self, change: HealthNotice) -> None:
        """Log at INFO if the engine is healthy, else at WARNING."""
        level = logging.INFO if change.after is HealthState.HEALTHY else logging.WARNING
        self._log(level, f"the engine is {change.after}", change)

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        """Log at INFO."""
        self._log(logging.INFO, f"a replica is {change.after or 'removed'}", change)

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """Log at WARNING if the breaker opened, else at INFO."""
        level = logging.WARNING if change.after == "open" else logging.INFO
        self._log(level, f"a circuit breaker is {change.after.replace('_', ' ')}", change)

    def _log(self, level: int, human: str, notice: Any) -> None:
        if self.logger.isEnabledFor(level):
            self.logger.log(level, human, extra={"human": human, **_facts(notice)})


# `message` is an attribute that every log record has already.
_NAMES_IN_LOGS = {"time_to_first_token_ms": "latency_first_token_ms", "message": "reason"}


def _facts(notice: Any) -> dict[str, Any]:
    """Return the notice's facts as a flat mapping, with the adapter's among them."""
    facts: dict[str, Any] = notice._asdict()
    facts.pop("owner", None)
    if isinstance(notice, AdapterNotice):
        facts["adapter"] = facts.pop("name")
    elif "adapter" in facts:
        adapter = facts.pop("adapter")._asdict()
        facts = {"adapter": adapter.pop("name"), **adapter, **facts}
    return {_NAMES_IN_LOGS.get(key, key): value for key, value in facts.items()}
