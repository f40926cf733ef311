"""The Pareto front of speedup and accuracy, with its uncertainty over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from prunebench.report.significance import margin, standard_error


def pareto_front(cells: pd.DataFrame, x: str, start: float) -> pd.DataFrame:
    """Return the steps of the Pareto front, by rising speedup.

    A cell is on the front if no other cell has at least its speedup, the column `x`, and at least
    its mean accuracy, and more of one of them. A step goes from the previous step's `until`, or
    from `start`, to its own. Its `accuracy` is the best mean accuracy of all cells with a speedup
    of `until` or more, that is, of a cell on the front.

    `low` and `high` are the fronts of the lower and upper bounds of the cells' 95 % t intervals:
    the best bound of all cells with that speedup. They are NaN if the cell that makes the step has
    no interval, because it has fewer than three seeds or no spread. Neither exceeds 100 %.

    Parameters
    ----------
    cells
        A row per cell with the columns n, accuracy, accuracy_std and `x`.

    Examples
    --------
    >>> cells = pd.DataFrame(
    ...     {"speedup": [2, 4, 3], "accuracy": [90, 80, 70], "accuracy_std": 3**0.5, "n": [3, 3, 1]}
    ... )
    >>> pareto_front(cells, "speedup", 1.0).round(1).to_dict("list")  # t = 4.303 for three seeds
    {'until': [2.0, 4.0], 'accuracy': [90.0, 80.0], 'low': [85.7, 75.7], 'high': [94.3, 84.3]}
    """
    cells = cells.dropna(subset=[x, "accuracy"])
    n = cells["n"].to_numpy(dtype=float)
    half = margin(standard_error(cells["accuracy_std"].fillna(0.0), n), n)
    mean = cells["accuracy"].to_numpy(dtype=float)
    bounds = np.stack([mean - half, np.minimum(mean + half, 100.0)])
    speedups = cells[x].to_numpy(dtype=float)
    steps: list[tuple[float, float, float, float]] = []
    for until in np.unique(speedups[speedups > start]):
        reached = np.flatnonzero(speedups >= until)
        best = reached[np.argmax(mean[reached])]
        low, high = (
            np.full(2, np.nan) if np.isnan(half[best]) else np.nanmax(bounds[:, reached], axis=1)
        )
        step = (float(until), float(mean[best]), float(low), float(high))
        if steps and np.array_equal(steps[-1][1:], step[1:], equal_nan=True):
            steps[-1] = step  # the same height further on
        else:
            steps.append(step)
    return pd.DataFrame(steps, columns=["until", "accuracy", "low", "high"])
