"""Errors of bulk runs."""

from adapter_api.errors import WorkerAdaptersError


class BatchError(WorkerAdaptersError, ValueError):
    """A bulk run cannot begin or continue; the message says what to do."""
