"""Pruning ratios of layers by IncReg's rule, from their computation and their redundancy.

Source: the script repository of IncReg's first author (MingSun-Tse/Scripts, 2018-08-31). Each layer
has a share of the multiply-accumulates and errors of reconstruction from its principal components.
The ratios are 0.8 softmax(shares) + 0.2 softmax(scores of the errors), times one common factor that
makes them save the required amount. Two choices are ours, since the scripts leave them open: the
components are those of the centered rows, and a keep ratio of m components keeps int(ratio m), at
least one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

KEEP_RATIOS = tuple(k / 10 for k in range(1, 10))


def pca_errors(rows: Tensor, keep_ratios: Sequence[float] = KEEP_RATIOS) -> Tensor:
    """Return the reconstruction error of a layer at each keep ratio, shape (keep ratios,).

    `rows` has the shape (c_out, columns). The error is |row - reconstruction|^2 / |row|^2, averaged
    over the rows that are not zero; it is 0 for a layer of zeros.
    """
    rows = rows.detach().double()
    center = rows.mean(dim=0)
    _, _, components = torch.linalg.svd(rows - center, full_matrices=False)
    places = (rows - center) @ components.T
    # The squared error of a row is the sum of squares of its dropped components.
    squares = places.square().flip(1).cumsum(dim=1).flip(1)
    norms = rows.square().sum(dim=1)
    filled = norms > 0
    errors = [
        (squares[filled, k] / norms[filled]).mean()
        for k in (max(1, int(ratio * len(components))) for ratio in keep_ratios)
        if k < len(components)
    ]
    missing = len(keep_ratios) - len(errors)  # all components are kept: no error
    stacked = torch.stack([*errors, *[rows.new_zeros(())] * missing])
    return stacked.nan_to_num(0.0)


def redundancy_scores(errors: Tensor) -> Tensor:
    """Return the redundancy score of each layer, (layers,), from errors (layers, keep ratios).

    At each keep ratio, the score is the product of the other layers' errors, scaled to a sum of 1
    over the layers, which is proportional to 1 / error. The result is the mean over keep ratios.
    Errors of 0 count as 1e-12.

    >>> redundancy_scores(torch.tensor([[0.1], [0.3]]))
    tensor([0.7500, 0.2500])
    """
    inverse = 1 / errors.clamp(min=1e-12)
    return (inverse / inverse.sum(dim=0)).mean(dim=1)


def worth_pruning(macs: Mapping[str, int], total: int) -> list[str]:
    """Return the layers that are large enough to be pruned.

    A layer is too small if its share of `total` is at most 0.01 and at most a tenth of the mean
    share.
    """
    mean = sum(macs.values()) / total / max(len(macs), 1)
    return [
        name
        for name, own in macs.items()
        if not (own / total <= 0.01 and own / total / mean <= 0.1)
    ]


def weighted_ratios(
    macs: Sequence[int],
    total: int,
    scores: Tensor,
    saved: float,
    costs: Sequence[int] | None = None,
) -> list[float]:
    """Return 0.8 softmax(macs / total) + 0.2 softmax(scores), scaled to save `saved`.

    Each layer saves its ratio times its cost (default: its MACs). A ratio may exceed 1; then the
    target is out of reach of the rule.
    """
    shares = torch.tensor(macs, dtype=torch.float64) / total
    weights = 0.8 * shares.softmax(dim=0) + 0.2 * scores.double().cpu().softmax(dim=0)
    own = torch.tensor(macs if costs is None else costs, dtype=torch.float64)
    factor = saved / float((weights * own).sum())
    return [float(weight) * factor for weight in weights]


Number = TypeVar("Number", float, Tensor)


def macs_left(macs: Number, columns: Number, rows: Number) -> Number:
    """Return the MACs of a layer that has lost a share of its columns and a share of its rows.

    >>> macs_left(100, 0.5, 0.2)
    40.0
    """
    return macs * (1 - (columns + rows - columns * rows))
