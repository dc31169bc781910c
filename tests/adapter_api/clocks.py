"""Jobs with limits, and one that has to end at a moment of virtual time."""

from collections.abc import AsyncIterator, Callable

import pytest

from adapter_api import StreamClock, TokenEvent, TokenStream, WorkerError, WorkerTimeout
from tests.scripted import TASK, collect
from tests.virtual_time import now_s


async def ends_after(limit_s: float, stream: TokenStream) -> WorkerError:
    """The error that ends a stream, when `limit_s` has passed."""
    began = now_s()
    *_, error = await collect(stream)
    assert isinstance(error, WorkerError)
    assert now_s() - began == pytest.approx(limit_s)
    return error


def late() -> WorkerError:
    """Return the error of a limit in these tests."""
    return WorkerTimeout("DECODE_TIMEOUT", "silent")


def limited(
    make: Callable[[StreamClock], AsyncIterator[TokenEvent]], deadline_s: float | None = None
) -> TokenStream:
    """Return the stream of what `make` gives, with the clock that it is given."""
    clock = StreamClock(deadline_s)
    return TokenStream(make(clock), TASK, clock=clock)
