"""Allocation of a budget to groups: plain functions of scores and counts.

An allocation is an order in which units are removed; a budget says how far to follow it. Any
criterion works with any allocation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

Allocation = Annotated[
    Literal["uniform", "global"],
    Field(
        description="Distribution of ratio_kind macs, params, activations, latency or weights. "
        "uniform: the same share of every group or layer; global: all groups or layers ranked "
        "together."
    ),
]


def pruned_count(n_units: int, ratio: float) -> int:
    """Return how many of a layer's `n_units` to prune; one always survives.

    min(ceil(ratio * n_units), n_units - 1): the rounding of GReg's official code, in floating
    point as there, so that 0.07 of 100 is 8.

    >>> pruned_count(8, 0.3), pruned_count(1, 0.9), pruned_count(100, 0.07)
    (3, 0, 8)
    """
    return min(math.ceil(ratio * n_units), n_units - 1)


def rounded_up(left: int, n_units: int, channels: Iterable[int], multiple: int) -> int:
    """Return how many units to keep so that the channels of each layer are a multiple of a number.

    Parameters
    ----------
    left, n_units
        Units to keep at least, and all of them: no more are kept, even if that is no multiple.
    channels
        Channels per unit of each layer that produces the units.

    >>> rounded_up(5, 16, [1], 8), rounded_up(9, 12, [1], 8), rounded_up(3, 16, [4], 8)
    (8, 12, 4)
    """
    step = math.lcm(*(multiple // math.gcd(multiple, own) for own in channels))
    return min(-(-left // step) * step, n_units)


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` lowest scores, ascending; ties go to the lower index."""
    order = torch.argsort(scores, stable=True)
    return order[:count].sort().values.cpu()


def leaving_order(
    scores: Mapping[str, Tensor], gone: Mapping[str, int], allocation: Allocation
) -> list[str]:
    """Return the groups of all units in the order of removal; one unit of each group is left out.

    Parameters
    ----------
    scores
        By group, (units,); the lowest is removed first.
    gone
        Number of units of each group removed before.
    allocation
        "uniform": all groups lose about the same share of their first width; "global": all units
        are ranked together. Ties go to the earlier group, then to the lower unit.

    >>> two = {"a": torch.tensor([1.0, 9.0, 8.0]), "b": torch.tensor([3.0, 2.0])}
    >>> leaving_order(two, {}, "uniform"), leaving_order(two, {}, "global")
    (['a', 'b', 'a'], ['a', 'b', 'a'])
    """
    keys, groups = [], []
    for name, group_scores in scores.items():
        ranked = group_scores.detach().double().cpu().sort(stable=True).values[:-1]
        if allocation == "uniform":
            left = gone.get(name, 0)
            ranks = torch.arange(1, len(ranked) + 1, dtype=torch.float64)
            ranked = (left + ranks) / (left + len(group_scores))
        keys.append(ranked)
        groups += [name] * len(ranked)
    order = torch.argsort(torch.cat(keys), stable=True) if keys else torch.empty(0)
    return [groups[int(i)] for i in order]


def counted(order: list[str]) -> dict[str, int]:
    """Return how often each group occurs."""
    counts: dict[str, int] = {}
    for name in order:
        counts[name] = counts.get(name, 0) + 1
    return counts


class Crossing(NamedTuple):
    """Two close values of an option; only the larger one reaches a target."""

    below: float
    reached: float


def crossing(reached: Callable[[float], bool], start: float, most: float) -> Crossing:
    """Search for the value of an option from which on a target is reached.

    The value 0 counts as not reaching it. `start` is doubled until the target is reached, then the
    interval is halved down to a millionth of its end. Where `reached` changes more than once, the
    result is one of these places. The search takes about 25 calls.

    Raises
    ------
    ValueError
        If the target is not reached up to `most`.

    >>> found = crossing(lambda beta: beta > 0.3, 0.5, 4.0)
    >>> round(found.below, 4), round(found.reached, 4), found.below <= 0.3 < found.reached
    (0.3, 0.3, True)
    """
    low, high = 0.0, start
    while not reached(high):
        if high >= most:
            raise ValueError("the target is out of reach")
        low, high = high, min(2 * high, most)
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return Crossing(low, high)


def shortest_prefix(order: list[str], reached: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Return the counts of the shortest prefix of `order` that reaches a target.

    `reached` must stay true for longer prefixes; ValueError if the whole order does not reach it.

    >>> shortest_prefix(["a", "b", "a"], lambda counts: sum(counts.values()) >= 2)
    {'a': 1, 'b': 1}
    """
    if not reached(counted(order)):
        raise ValueError("the target is out of reach")
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if reached(counted(order[:middle])):
            high = middle
        else:
            low = middle + 1
    return counted(order[:low])
