"""Pruning ratios of layers by IncReg's rule: a layer's share of the work, and how redundant it is.

Source: the script repository of IncReg's first author (MingSun-Tse/Scripts, 2018-08-31). With a
share of the multiply-accumulates and an error of the principal components for each layer, the
ratios are 0.8 softmax(shares) + 0.2 softmax(scores of the errors), times one factor with which
they save what they should. What the scripts leave open is our choice: components are those of the
centred rows, and a keep ratio of m components keeps int(ratio m), one at least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

KEEP_RATIOS = tuple(k / 10 for k in range(1, 10))


def pca_errors(rows: Tensor, keep_ratios: Sequence[float] = KEEP_RATIOS) -> Tensor:
    """Return the error of a layer's rows at each share of its components, shape (keep ratios,).

    `rows` is (c_out, columns). The error is |row - reconstruction|^2 / |row|^2, averaged over the
    rows that are not zero; a layer of zeros has none.
    """
    rows = rows.detach().double()
    centre = rows.mean(dim=0)
    _, _, components = torch.linalg.svd(rows - centre, full_matrices=False)
    places = (rows - centre) @ components.T
    # What is left out of a row is what it has in the other components.
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
    """Return the score of each layer, (layers,), from errors (layers, keep ratios).

    At each keep ratio the product of the other layers' errors, scaled to a sum of 1, which is in
    proportion to 1 / error; then averaged over keep ratios. Errors of 0 count as 1e-12.

    >>> redundancy_scores(torch.tensor([[0.1], [0.3]]))
    tensor([0.7500, 0.2500])
    """
    inverse = 1 / errors.clamp(min=1e-12)
    return (inverse / inverse.sum(dim=0)).mean(dim=1)


def worth_pruning(macs: Mapping[str, int], total: int) -> list[str]:
    """Return the layers that are not left alone as too small.

    Left alone is a layer with a share of `total` of 0.01 at most that is also at most a tenth of
    the mean share.
    """
    mean = sum(macs.values()) / total / max(len(macs), 1)
    return [
        name
        for name, own in macs.items()
        if not (own / total <= 0.01 and own / total / mean <= 0.1)
    ]


def weighted_ratios(macs: Sequence[int], total: int, scores: Tensor, saved: float) -> list[float]:
    """Return 0.8 softmax(macs / total) + 0.2 softmax(scores), scaled to save `saved`.

    Of each layer, its ratio times its multiply-accumulates is saved. A ratio may exceed 1: then
    the target is out of reach of the rule.
    """
    shares = torch.tensor(macs, dtype=torch.float64) / total
    weights = 0.8 * shares.softmax(dim=0) + 0.2 * scores.double().cpu().softmax(dim=0)
    factor = saved / float((weights * torch.tensor(macs, dtype=torch.float64)).sum())
    return [float(weight) * factor for weight in weights]


Number = TypeVar("Number", float, Tensor)


def macs_left(macs: Number, columns: Number, rows: Number) -> Number:
    """Return what a layer costs without a share of its columns and of its rows.

    >>> macs_left(100, 0.5, 0.2)
    40.0
    """
    return macs * (1 - (columns + rows - columns * rows))


def speedup(macs: Sequence[int], columns: Sequence[float], rows: Sequence[float]) -> float:
    """Return the theoretical speedup of layers that lose shares of their columns and rows."""
    left = sum(macs_left(*layer) for layer in zip(macs, columns, rows, strict=True))
    return sum(macs) / left
