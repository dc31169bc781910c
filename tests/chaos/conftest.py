"""Chaos in virtual time: the same on a machine of any speed."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping

import pytest

from registry.simulate.virtual import VirtualLoop
from tests.virtual_time import ARRIVAL_S, loop_clock

TICK_S = 0.005
"""Time passes in steps of this: each step costs a look at the sockets."""


class TickingLoop(VirtualLoop):
    """A VirtualLoop with sockets whose time stands still while anything is computed."""

    grace_s = ARRIVAL_S

    @property
    def now_s(self) -> float:
        """The virtual time."""
        return self._now_s

    @now_s.setter
    def now_s(self, value: float) -> None:
        self._now_s = math.ceil(value / TICK_S) * TICK_S


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test here on a TickingLoop."""
    return {"virtual": TickingLoop}


@pytest.fixture(autouse=True)
def _loop_clock() -> Iterator[None]:
    with loop_clock():
        yield
