"""Costs that are compared with each other, so that a slow machine proves nothing."""

from collections.abc import Callable
from time import process_time


def growth(work: Callable[[int], object], size: int, times: int) -> float:
    """How often the cost of `work(size)` goes into that of `work(size * times)`: about `times`
    where the cost is linear, its square where it is quadratic. The least of three is taken for
    each, which is what the work costs where nothing comes in between."""

    def cost(of: int) -> float:
        began = process_time()
        work(of)
        return process_time() - began

    small = min(cost(size) for _ in range(3))
    return min(cost(size * times) for _ in range(3)) / small
