"""The log of a long run, on standard error."""

import logging

from adapter_api import BreakerNotice, ReplicaNotice, hookimpl
from registry.cli.terminal.text import harmless, one_line
from registry.observers.json_lines import JsonFormatter

logger = logging.getLogger("worker_adapters.serving")


class ChangeLog:
    """Logs the changes of a host's replicas: an observer."""

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        """Log a new state, except one that is unknown."""
        if change.after != "unknown":
            why = "" if change.after == "ready" else change.message
            self._log(change, change.after or "gone", why)

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """Log a breaker that opens or closes."""
        state = f"behind a breaker that is {change.after.replace('_', ' ')}"
        self._log(change, state, change.reason)

    def _log(self, change: ReplicaNotice | BreakerNotice, state: str, why: str) -> None:
        because = f": {why}" if why else ""
        where = f"replica {change.replica_id} of pool {change.pool_id}"
        logger.info("%s is %s%s", where, state, because)


_FACTS = ("job_id", "pool_id", "replica_id")


class OneLineFormatter(logging.Formatter):
    """Formats records as lines that cannot steer the terminal.

    Messages of jobs and engines have no names in them: those follow in parentheses.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record on one line."""
        given = ((name, getattr(record, name, None)) for name in _FACTS)
        facts = ", ".join(f"{name} {value}" for name, value in given if value)
        line = super().format(record)
        return harmless(one_line(f"{line} ({facts})" if facts else line))


def _is_told_once(record: logging.LogRecord) -> bool:
    """Return whether ChangeLog does not log the same with its reason: it does for replicas."""
    return record.name != "worker_adapters.jobs" or hasattr(record, "job_id")


_LOGGERS = ("worker_adapters.serving", "worker_adapters.workers")


def log_to_stderr(*, as_json: bool = False) -> None:
    """Write the log to standard error; the first call in a process decides on the form.

    Args:
        as_json: JSON lines with every record from INFO on. Otherwise plain lines with warnings,
            and with what concerns workers and the run.
    """
    root = logging.getLogger("worker_adapters")
    ours = OneLineFormatter | JsonFormatter
    if any(isinstance(handler.formatter, ours) for handler in root.handlers):
        return
    handler = logging.StreamHandler()
    plain = OneLineFormatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else plain)
    if not as_json:
        handler.addFilter(_is_told_once)
    root.addHandler(handler)
    root.setLevel(logging.INFO if as_json else logging.WARNING)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
