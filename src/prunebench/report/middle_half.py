"""The middle half of many seeds: their median and quartiles at each place of a figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

MOST_LINES = 5  # seeds of a cell with a line of their own; of more, the quartiles are shown


class _Ordered(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


K = TypeVar("K", bound=_Ordered)  # a place: an epoch, a step, a layer, ...


class Quartiles(NamedTuple):
    """Lower quartile, median and upper quartile of some seeds."""

    low: float
    middle: float
    high: float


Place = tuple[int, int]  # an epoch, and the number of an event after it; 0 is the epoch itself


def places(epochs: Iterable[int]) -> list[Place]:
    """Return the places of a run's rows, whose events have the number of the epoch before them.

    >>> places([1, 2, 2, 3])
    [(1, 0), (2, 0), (2, 1), (3, 0)]
    """
    found: list[Place] = []
    for epoch in epochs:
        event = found[-1][1] + 1 if found and found[-1][0] == epoch else 0
        found.append((epoch, event))
    return found


def middle_half(seeds: Sequence[Mapping[K, float]]) -> dict[K, Quartiles]:
    """Return the quartiles over some seeds at each place that at least half of them have.

    Places are in ascending order.

    >>> middle_half([{1: 10.0, 2: 0.0}, {1: 20.0}, {1: 30.0}])
    {1: Quartiles(low=15.0, middle=20.0, high=25.0)}
    """
    found: dict[K, list[float]] = {}
    for seed in seeds:
        for place, value in seed.items():
            found.setdefault(place, []).append(value)
    return {
        place: Quartiles(*np.quantile(found[place], (0.25, 0.5, 0.75)).tolist())
        for place in sorted(found)
        if 2 * len(found[place]) >= len(seeds)
    }
