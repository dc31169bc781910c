"""JsonFormatter: log records as lines of JSON."""

import json
import logging
from datetime import UTC, datetime

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}


class JsonFormatter(logging.Formatter):
    """Formats records as JSON lines: time, level, logger, message, and the record's own facts.

    The output is ASCII without control characters, so a line cannot steer a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        facts = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
