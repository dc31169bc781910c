"""Errors of bulk runs."""

from adapter_api.errors import WorkerAdaptersError


class BatchError(WorkerAdaptersError, ValueError):
    """A bulk run cannot start or continue; the message says what to do."""
