"""What a long run says on standard error."""

import logging

from adapter_api import BreakerNotice, ReplicaNotice, hookimpl
from registry.cli.terminal import status

logger = logging.getLogger("worker_adapters.workers")


class Changes:
    """An observer of a host: its replicas' changes, for the log of the one who runs it."""

    @hookimpl
    def replica_changed(self, change: ReplicaNotice) -> None:
        """A line for each, but for a replica whose state is not known yet."""
        if change.after != "unknown":
            why = "" if change.after == "ready" else change.message
            self._tell(change, change.after or "gone", why)

    @hookimpl
    def breaker_changed(self, change: BreakerNotice) -> None:
        """A line for each."""
        state = f"behind a breaker that is {change.after.replace('_', ' ')}"
        self._tell(change, state, change.reason)

    def _tell(self, change: ReplicaNotice | BreakerNotice, state: str, why: str) -> None:
        because = f": {why}" if why else ""
        where = f"replica {change.replica_id} of pool {change.pool_id}"
        logger.info("%s is %s%s", where, state, because)


class _OneLine(logging.Formatter):
    """Records as lines; texts from elsewhere do not steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return status.harmless(status.one_line(super().format(record)))


def log_to_stderr() -> None:
    """Have warnings, and what concerns the workers, written there."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("worker_adapters")
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
