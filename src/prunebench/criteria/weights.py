"""Criteria computed from weights alone; biases never count.

- `l1`: Li et al., Pruning Filters for Efficient ConvNets, arXiv 1608.08710. GReg's control takes
  the mean |w|, OrthoReg's baseline the sum, which in a global ranking favors layers with many
  inputs.
- `l2`: OrthoReg's baseline "sfp".
- `fpgm`: He et al., Filter Pruning via Geometric Median, arXiv 1811.00250.
- `bn_scale`: Liu et al., Learning Efficient Convolutional Networks through Network Slimming,
  arXiv 1708.06519. OrthoReg's code divides by the fan-in in VGG only.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from prunebench.channels.groups import ChannelGroup, MemberRole
from prunebench.channels.unit_weights import (
    mean_magnitude,
    member_rows,
    members_with,
    producers,
    scale_members,
    weight_magnitudes,
)
from prunebench.criteria.base import AnyUnitCriterion, Combine, Criterion, ScoringRun, combined


class FilterCriterion(Criterion):
    """A criterion that scores a unit by its weights. Subclasses define `of_rows`."""

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return one score per row of (units, weights), shape (units,)."""
        raise NotImplementedError

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the score of each unit's filters."""
        return self.scores_of(run, groups, "out")

    def scores_of(
        self, run: ScoringRun, groups: Mapping[str, ChannelGroup], role: MemberRole
    ) -> dict[str, Tensor]:
        """Return the score of each unit's filters (role "out") or input channels ("in")."""
        return {
            name: combined(
                [member_rows(run.params, member) for member in members_with(group, role)],
                self.combine,
                self.of_rows,
            )
            for name, group in groups.items()
        }


class L1(FilterCriterion, AnyUnitCriterion):
    """The mean or sum of |w|."""

    summary = "one-shot, smallest mean |w| of a filter (Li et al.; GReg's control)"

    norm: Literal["mean", "sum"] = Field(
        "mean",
        description="How |w| is reduced over a unit. mean: GReg's control; sum: OrthoReg's "
        "baseline.",
    )

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the mean or the sum of |w|."""
        return mean_magnitude(rows) if self.norm == "mean" else rows.abs().sum(dim=1)

    def channel_scores(
        self, run: ScoringRun, groups: Mapping[str, ChannelGroup]
    ) -> dict[str, Tensor]:
        """Return the score of each unit's input channels."""
        return self.scores_of(run, groups, "in")

    def weight_scores(self, run: ScoringRun, weights: Mapping[str, str]) -> dict[str, Tensor]:
        """Return |w|."""
        return weight_magnitudes(run.params, weights)


class L2(FilterCriterion):
    """The Euclidean norm of a filter."""

    summary = "one-shot, smallest L2 norm of a filter"

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the Euclidean norm."""
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
        return norms


class FPGM(FilterCriterion):
    """The sum of a filter's distances to the other filters of its layer."""

    summary = "one-shot, filters nearest to the geometric median (He et al.)"
    revision = 2

    norm_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="Fraction of the filters kept by a first ranking by norm; the distance ranks "
        "the rest. FPGM-mix 40 % of the official scripts is ratio 0.4 with norm_rate 0.7: 30 % by "
        "norm, 10 % by distance. The paper's text swaps the two shares.",
    )

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return `median_scores`."""
        return median_scores(rows, self.norm_rate)

    def removed_count(self, n_units: int, ratio: float) -> int:
        """Return `median_count`."""
        return median_count(n_units, ratio, self.norm_rate)


def median_scores(rows: Tensor, norm_rate: float) -> Tensor:
    """Return each filter's sum of distances to the others, as FPGM's official code ranks them.

    The int(units (1 - norm_rate)) filters with the smallest norms score below zero, ordered by
    norm, and so rank before all others. Distances are computed among the other filters only.

    Parameters
    ----------
    rows
        (units, weights).
    norm_rate
        Fraction of the filters not pruned by norm.

    >>> median_scores(torch.tensor([[0.0], [1.0], [5.0]]), 1.0)
    tensor([6., 5., 9.])
    """
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    by_norm = count_by_norm(len(rows), norm_rate)
    rest = torch.argsort(norms, stable=True)[by_norm:].sort().values
    scores = norms - norms.max() - 1
    # The default mode is faster for many distances but loses half of the digits.
    distances = torch.cdist(rows[rest], rows[rest], compute_mode="donot_use_mm_for_euclid_dist")
    return scores.index_copy(0, rest, distances.sum(dim=1))


def count_by_norm(n: int, norm_rate: float) -> int:
    """Return how many of n filters are pruned by norm, in the floating point of FPGM's code.

    >>> count_by_norm(16, 0.7), count_by_norm(20, 0.9)  # 20 * (1 - 0.9) is 1.9999999999999996
    (4, 1)
    """
    return int(n * (1 - norm_rate))


def median_count(n: int, ratio: float, norm_rate: float) -> int:
    """Return how many of n filters are pruned by norm and by distance; one always survives.

    int(n (1 - norm_rate)) + int(n d) in floating point, as in FPGM's code, where the rate d of the
    pruning by distance is the number that makes `ratio` with 1 - norm_rate: 0.1 for 0.4 and 0.7. A
    ratio below 1 - norm_rate is pruned by norm alone.

    >>> median_count(16, 0.4, 1.0), median_count(16, 0.4, 0.7), median_count(20, 0.2, 0.9)
    (6, 5, 3)
    """
    by_norm = count_by_norm(n, norm_rate)
    by_distance = difference(ratio, difference(1, norm_rate))
    count = by_norm + int(n * by_distance) if by_distance >= 0 else min(int(n * ratio), by_norm)
    return min(count, n - 1)


def difference(a: float, b: float) -> float:
    """Return a - b of the two decimal numbers, as one would write it in a script.

    >>> difference(0.4, 0.3), 0.4 - 0.3
    (0.1, 0.10000000000000003)
    """
    return float(Decimal(str(a)) - Decimal(str(b)))


class BNScale(Criterion):
    """The absolute scale |gamma| of a channel's batch norm."""

    summary = "one-shot, smallest |gamma| of batch norm (Liu et al.)"

    combine: Combine = "first"  # the producer's own, not that of a depthwise layer behind it
    by_fan_in: bool = Field(
        False,
        description="Divide by the number of weights of a filter, as OrthoReg's code does in VGG.",
    )

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return |gamma| of each unit; TrainingError if a group has no batch norm."""
        found = {}
        for name, group in groups.items():
            rows = [member_rows(run.params, m) for m in scale_members(run.model, group)]
            scores = combined(rows, self.combine, lambda gamma: gamma.abs().sum(dim=1))
            if self.by_fan_in:
                scores = scores / member_rows(run.params, producers(group)[0]).shape[1]
            found[name] = scores
        return found
