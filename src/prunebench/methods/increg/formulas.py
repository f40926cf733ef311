"""IncReg's formulas: ranks, increments of the penalty, its ceiling, and the stages to an accuracy.

Sources and disagreements between them are in `to_ratios`, with the abbreviations [one], [multi] and
[scripts]. Tables have the shape (layers, units), numbers per layer (layers, 1). R is the number of
units that are still to be pruned, A the largest increment.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ranks(values: Tensor) -> Tensor:
    """Return the rank of each value in its row, 0 for the smallest; ties: lower index first.

    >>> ranks(torch.tensor([[3.0, 1.0, 1.0]]))
    tensor([[2, 0, 1]])
    """
    order = torch.argsort(values, dim=1, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def averaged_rank(mean: Tensor, rank: Tensor, n: Tensor | int) -> Tensor:
    """Return the mean rank after iteration n, counted from 1: ((n - 1) mean + rank) / n."""
    return ((n - 1) * mean + rank) / n


def symmetric_increments(
    position: Tensor, pivot: Tensor, A: Tensor | float, u: float = 0.25
) -> Tensor:
    """Return the increments of scheme 1, which are symmetric about a center at u A.

    With R1 = `pivot`, alpha = ln(2/u) / R1 and N1 = -ln(u) / alpha, the increment at position j is
    A exp(-alpha j) for j < N1, else 2 u A - A exp(-alpha (2 N1 - j)): A at position 0, u A at N1, 0
    at R1 and negative beyond. R1 counts as at least 1: a layer with nothing to prune has stopped.
    """
    alpha = math.log(2 / u) / pivot.clamp(min=1)
    center = -math.log(u) / alpha
    falling = A * torch.exp(-alpha * position)
    mirrored = 2 * u * A - A * torch.exp(-alpha * (2 * center - position))
    return torch.where(position < center, falling, mirrored)


def discontinuous_increments(
    position: Tensor, R: Tensor, live: Tensor, A: Tensor | float, k2: Tensor | float
) -> Tensor:
    """Return the increments of scheme 2, which jump at position R.

    The increment at position j is A k2^(j/(R-1)) for j < R, else -A k2^((live-1-j)/(live-1-R)).
    `live` is the number of units that are not pruned. Exponents 0/0 count as 0.
    """
    last = live - 1
    rising = A * k2 ** (position / (R - 1).clamp(min=1))
    relief = -A * k2 ** ((last - position) / (last - R).clamp(min=1))
    return torch.where(position < R, rising, relief)


def norm_increments(norms: Tensor, lowest: Tensor, pivot: Tensor, A: Tensor | float) -> Tensor:
    """Return the increments A - A (s - s_(0)) / (s_(R) - s_(0)) from norms s; [one].

    `lowest` is s_(0), the smallest norm of a unit that is not pruned; `pivot` is s_(R), the
    smallest norm of a unit to keep. If both are equal, larger units are relieved at once.
    """
    width = (pivot - lowest).clamp(min=torch.finfo(norms.dtype).tiny)
    return A - A * ((norms - lowest) / width)


def stage_base(progress: Tensor) -> Tensor:
    """Return the base k2 of scheme 2 in [multi], max(0.75 progress, 0.05).

    `progress` is the share of the stage's units that are pruned already.
    """
    return (0.75 * progress).clamp(min=0.05)


def ceiling_factor(x: float) -> float:
    """Return m(x), the factor of the ceiling in a stage that prunes a share x; [multi].

    m(x) = 3 (1 / (1 + exp(-k (x - 0.05))) - 0.5) + 1 with k = ln(3) / 0.04.

    >>> round(ceiling_factor(0.05), 6), round(ceiling_factor(0.2), 6)
    (1.0, 2.452036)
    """
    k = math.log(3) / 0.04
    return 3 * (1 / (1 + math.exp(-k * (x - 0.05))) - 0.5) + 1


def staged_ceiling(target: float, x: float) -> float:
    """Return the effective ceiling min(target m(x), 10); [multi].

    >>> round(staged_ceiling(2.5, 0.2), 6), staged_ceiling(5.0, 0.2)
    (6.13009, 10.0)
    """
    return min(target * ceiling_factor(x), 10.0)


def next_share(accuracy: float, border: float) -> float:
    """Return the share that the next stage prunes after an accepted stage; [multi].

    clip(10 (accuracy - border), 0.01, 0.2), with accuracies as fractions.

    >>> round(next_share(0.9, 0.888), 6), next_share(0.888, 0.888), next_share(0.95, 0.888)
    (0.12, 0.01, 0.2)
    """
    return min(max(10 * (accuracy - border), 0.01), 0.2)


def smaller_share(x: float, accepted: float, failed: float, border: float) -> float:
    """Return the share to try after a failed stage that pruned x; [multi].

    x (accepted - border) / (accepted - failed): the share at which a straight line between the two
    accuracies meets the border. 0 if the failed network is no worse than the accepted one.

    >>> round(smaller_share(0.2, 0.92, 0.87, 0.9), 6)
    0.08
    """
    return x * (accepted - border) / (accepted - failed) if accepted > failed else 0.0
