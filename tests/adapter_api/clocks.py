"""A job that has to end at a moment of virtual time, for the tests of limits."""

import pytest

from adapter_api import (
    TokenStream,
    WorkerError,
)
from tests.scripted import collect
from tests.virtual_time import now_s


async def ends_after(limit_s: float, stream: TokenStream) -> WorkerError:
    """The error that ends a stream, when `limit_s` has passed."""
    began = now_s()
    *_, error = await collect(stream)
    assert isinstance(error, WorkerError)
    assert now_s() - began == pytest.approx(limit_s)
    return error
