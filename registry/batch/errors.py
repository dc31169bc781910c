"""Why a bulk run cannot begin or go on."""

from adapter_api.errors import WorkerAdaptersError


class BatchError(WorkerAdaptersError, ValueError):
    """A bulk run cannot be done as it was asked for; the message says what to do."""
