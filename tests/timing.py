"""Costs that are compared with each other, so that a slow machine proves nothing."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time

ROUNDS = 5
"""The least of so many is what a piece of work costs where nothing comes in between."""

ENOUGH_S = 0.002
"""Measured at once: far above the resolution of the clock and the cost of a call."""


def growth(work: Callable[[int], object], size: int, times: int) -> float:
    """Return the cost of `work(size * times)` over that of `times` calls of `work(size)`.

    It is about 1 where the cost is linear, and `times` where it is quadratic. Both are measured
    for the same while, in turns.
    """
    with _undisturbed():
        work(size * times)  # what is made at the first call costs nothing later
        whole = _cost(lambda: work(size * times))
        rounds = max(1, round(ENOUGH_S / max(whole, 1e-9)))

        def parts() -> None:
            for _ in range(rounds * times):
                work(size)

        def wholes() -> None:
            for _ in range(rounds):
                work(size * times)

        best_parts = best_wholes = float("inf")
        for _ in range(ROUNDS):
            best_parts = min(best_parts, _cost(parts))
            best_wholes = min(best_wholes, _cost(wholes))
    return best_wholes / best_parts


def assert_linear(work: Callable[[int], object], size: int, times: int = 16) -> None:
    """Assert that the cost of `work(n)` grows as n does.

    The bound is the geometric mean of linear and quadratic growth, the farthest from both.
    """
    found = growth(work, size, times)
    assert found < times**0.5, f"{times} times the size cost {found:.1f} times the time per unit"


def least_cost_s(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the processor time of `work`, the least of several."""
    with _undisturbed():
        return min(_cost(work) for _ in range(rounds))


def _cost(work: Callable[[], object]) -> float:
    began = thread_time()
    work()
    return thread_time() - began


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the garbage collector out."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
