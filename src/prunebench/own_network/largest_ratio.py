"""The largest ratio whose accuracy holds, by bisection over exact ratios."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prunebench.core.errors import TrainingError
from prunebench.own_network.pruned import Pruned, Tried

FINEST = 0.005  # width of the last interval


def largest_ratio(
    attempt: Callable[[float], Pruned],
    most: float,
    *,
    before: float,
    max_drop: float,
    is_limit: bool,
) -> Pruned:
    """Return the network of the largest ratio found, with all that were tried, by ratio.

    Where the accuracy does not fall steadily, it is the largest ratio of those tried.

    Parameters
    ----------
    attempt
        Prunes to a ratio and evaluates.
    most
        No larger ratio is tried.
    before, max_drop
        Accuracy of the given network, and how much less is accepted.
    is_limit
        Whether `most` itself is tried, first.

    Raises
    ------
    TrainingError
        If the smallest ratio tried costs more accuracy.
    """
    tried: list[Tried] = []
    best: Pruned | None = None

    def holds(ratio: float) -> bool:
        nonlocal best
        found = attempt(ratio)
        assert found.accuracy is not None
        assert found.achieved is not None
        tried.append(Tried(ratio, found.achieved, found.accuracy.after))
        # A sum such as 0.9 - 0.1 may miss 0.8 by its last digit.
        if found.accuracy.after < before - max_drop - 1e-12:
            return False
        if best is None or found.achieved > (best.achieved or 0.0):
            best = found
        return True

    low, high = 0.0, most
    if is_limit and holds(most):
        low = most
    while high - low > FINEST:
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    in_order = tuple(sorted(tried, key=lambda one: one.ratio))
    if best is None:
        least = in_order[0] if in_order else Tried(most, 0.0, before)
        raise TrainingError(
            f"max_drop: a ratio of {least.ratio:.4g} already lowers the accuracy from {before:g} "
            f"to {least.accuracy:g}, by more than {max_drop:g}"
        )
    return replace(best, tried=in_order)
