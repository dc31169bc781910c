"""The error of a refusal, for the tests of meanings."""

import json
from typing import Any

from adapter_api import WorkerError
from adapters.http_util import error_from_response


def refused(status: int, error: Any) -> WorkerError:
    """Return the error for a status and a body of JSON."""
    return error_from_response(status, {}, json.dumps(error).encode())
