"""How many units leave where: plain functions, so that any criterion runs with any of them.

Every allocation is an order in which units would leave, and a budget says how far to follow it.

Whether a budget is met: one rule for a selection at once and for what shrinks in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from prunebench.core.errors import TrainingError
from prunebench.criteria.base import Run
from prunebench.experiments.phases import Budget

Allocation = Literal["uniform", "global"]


def pruned_count(n_units: int, ratio: float) -> int:
    """Units to prune in a layer of `n_units`; one always survives.

    min(ceil(ratio * n_units), n_units - 1): the rounding of GReg's official code, in floating
    point as there, so that 0.07 of 100 is 8.

    >>> pruned_count(8, 0.3), pruned_count(1, 0.9), pruned_count(100, 0.07)
    (3, 0, 8)
    """
    return min(math.ceil(ratio * n_units), n_units - 1)


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the `count` lowest scores, ascending; ties go to the lower index."""
    order = torch.argsort(scores, stable=True)
    return order[:count].sort().values.cpu()


def leaving_order(
    scores: Mapping[str, Tensor], gone: Mapping[str, int], allocation: Allocation
) -> list[str]:
    """Return the group of each unit in the order in which units leave; one of each group stays.

    Parameters
    ----------
    scores
        By group, (units,); lower leaves first.
    gone
        Units of each group that have left before.
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
    """Return how often each group is named."""
    counts: dict[str, int] = {}
    for name in order:
        counts[name] = counts.get(name, 0) + 1
    return counts


def shortest_prefix(order: list[str], reached: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Return the counts of the shortest beginning of `order` with which a target is reached.

    `reached` must stay true once it is; ValueError if the whole order does not reach it.

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


def is_met(run: Run, budget: Budget, left: Mapping[str, int]) -> bool:
    """Return whether a budget is met with so many units left of some groups, and the rest as is.

    Units of all groups: floor(ratio N) have left, of what may leave at all. Multiply-accumulates
    and parameters: at most (1 - ratio) of the network's that the run started from.
    """
    assert budget.ratio is not None
    if budget.kind == "units_global":
        now = {name: len(units) for name, units in run.kept.items()} | dict(left)
        # A group of which one unit is left cannot lose more; it counts all the same.
        counted = [name for name, n in run.sizes.items() if name in left or now[name] < n]
        population = sum(run.sizes[name] for name in counted)
        return population - sum(now[name] for name in counted) >= int(budget.ratio * population)
    if budget.kind == "macs":
        return run.costs.macs(left) <= (1 - budget.ratio) * run.base_macs
    return run.costs.params(left) <= (1 - budget.ratio) * run.base_params


def out_of_reach(run: Run, budget: Budget, groups: int) -> TrainingError:
    """Return the error of a budget that one unit in each of so many groups does not meet."""
    return TrainingError(
        f"phase {run.phase.name!r}: ratio {budget.ratio} of {budget.kind} is out of reach with "
        f"one unit left in each of {groups} groups; a smaller ratio, or more roles"
    )
