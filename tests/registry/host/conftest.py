"""Hosts for tests."""

from collections.abc import AsyncIterator

import pytest

from registry import AdapterHost, PoolPolicy
from tests.virtual_time import pytest_asyncio_loop_factories, virtual_clock

__all__ = ["pytest_asyncio_loop_factories", "virtual_clock"]


@pytest.fixture
async def host() -> AsyncIterator[AdapterHost]:
    """A host with quick health checks."""
    async with AdapterHost(defaults=PoolPolicy(probe_interval_s=0.05, ready_wait_s=0.5)) as host:
        yield host
