"""The range of many lines: the lowest and the highest of them at each place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Line = tuple[Floats, Floats]  # rising x, and y


class Stretch(NamedTuple):
    """The range of lines over a connected part of the x axis."""

    x: Floats
    low: Floats
    high: Floats


def envelope(lines: Sequence[Line], gap: float) -> list[Stretch]:
    """Return the range of some lines over each connected part of the x axis.

    Points less than `gap` apart are taken as one place, their mean, since the same ratio does not
    give all methods quite the same speedup. Between its points, a line is straight. Two places
    that no line joins belong to different stretches.

    >>> (one,) = envelope([([1, 3], [5, 7]), ([2], [9])], gap=0.5)
    >>> one.x.tolist(), one.low.tolist(), one.high.tolist()
    ([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [5.0, 9.0, 7.0])
    """
    lines = [(np.asarray(x, dtype=float), np.asarray(y, dtype=float)) for x, y in lines]
    places: list[list[float]] = []
    for x in np.sort(np.concatenate([x for x, _ in lines])) if lines else ():
        if places and x - places[-1][0] < gap:
            places[-1].append(float(x))
        else:
            places.append([float(x)])
    stretches: list[list[tuple[float, float, float]]] = []
    for i, place in enumerate(places):
        values = [value for line in lines for value in _at(line, place)]
        point = (float(np.mean(place)), min(values), max(values))
        if i and any(_joins(line, places[i - 1], place) for line in lines):
            stretches[-1].append(point)
        else:
            stretches.append([point])
    return [Stretch(*np.array(points).T) for points in stretches]


def _at(line: Line, place: Sequence[float]) -> list[float]:
    """Return a line's values at a place; none if the line does not reach it."""
    x, y = line
    own = y[(x >= place[0]) & (x <= place[-1])]
    if len(own) or x[-1] < place[0] or x[0] > place[-1]:
        return [float(value) for value in own]
    return [float(np.interp(np.mean(place), x, y))]


def _joins(line: Line, left: Sequence[float], right: Sequence[float]) -> bool:
    return bool(line[0][0] <= left[-1] and line[0][-1] >= right[0])
