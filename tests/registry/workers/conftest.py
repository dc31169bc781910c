"""These tests run in virtual time; files, and a host that follows them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry import AdapterHost
from tests.registry.workers.watched import Files, Watched, replica
from tests.virtual_time import pytest_asyncio_loop_factories, virtual_clock

__all__ = ["pytest_asyncio_loop_factories", "virtual_clock"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A workers file with replicas r0 and r1, and an empty folder for handoff files."""
    made = Files(tmp_path)
    made.handoff.mkdir()
    made.declare(replica("r0"), replica("r1"))
    return made


@pytest.fixture
async def watch(files: Files) -> AsyncIterator[Watched]:
    """A host with what the files declare."""
    async with AdapterHost() as host:
        watched = Watched(host, files)
        watched.watch.load()
        yield watched
