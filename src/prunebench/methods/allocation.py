"""How many units leave where: plain functions, so that any criterion runs with any of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
