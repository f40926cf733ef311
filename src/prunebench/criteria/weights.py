"""Criteria that look at weights alone.

`l1`: Li et al., Pruning Filters for Efficient ConvNets, arXiv 1608.08710. GReg's control takes the
mean |w|, OrthoReg's the sum, which in a global ranking favors layers of many inputs. `l2` is
OrthoReg's baseline "sfp". `bn_scale`: Liu et al., Learning Efficient Convolutional Networks
through Network Slimming, arXiv 1708.06519; OrthoReg's code divides by the fan-in in VGG alone.
`fpgm`: He et al., Filter Pruning via Geometric Median, arXiv 1811.00250. No bias counts.
"""

from __future__ import annotations

from collections.abc import Mapping
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
)
from prunebench.criteria.base import Combine, Criterion, Run, combined


class FilterScore(Criterion):
    """A criterion that is a function of a unit's weights."""

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return one score per row of (units, weights), shape (units,)."""
        raise NotImplementedError

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the score of each unit's filters."""
        return self.scores_of(run, groups, "out")

    def scores_of(
        self, run: Run, groups: Mapping[str, ChannelGroup], role: MemberRole
    ) -> dict[str, Tensor]:
        """Return the score of each unit's filters, or with role "in" of its input channels."""
        return {
            name: combined(
                [member_rows(run.params, member) for member in members_with(group, role)],
                self.combine,
                self.of_rows,
            )
            for name, group in groups.items()
        }


class L1Score(FilterScore):
    """Small weights are unimportant."""

    norm: Literal["mean", "sum"] = "mean"  # of |w|; mean: GReg's control, sum: OrthoReg's baseline

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the mean or the sum of |w|."""
        return mean_magnitude(rows) if self.norm == "mean" else rows.abs().sum(dim=1)


class L2Score(FilterScore):
    """Short filters are unimportant."""

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the Euclidean norm."""
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
        return norms


class FPGMScore(FilterScore):
    """Filters near the geometric median are replaceable."""

    # Share of filters that stay when those with the smallest norms leave first. FPGM-mix 40 % of
    # the official scripts is ratio 0.4 with norm_rate 0.7: 30 % by norm, 10 % by distance; the
    # paper's text has the two shares the other way round
    norm_rate: Annotated[float, Field(gt=0, le=1)] = 1.0

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return `median_scores`."""
        return median_scores(rows, self.norm_rate)


def median_scores(rows: Tensor, norm_rate: float) -> Tensor:
    """Return the sum of distances to the other filters, as FPGM's official code ranks them.

    The int(units (1 - norm_rate)) filters with the smallest norms come before all others, below
    zero and ordered by norm; distances are taken among the others only.

    Parameters
    ----------
    rows
        (units, weights).
    norm_rate
        Fraction of the filters that is not pruned by norm.

    >>> median_scores(torch.tensor([[0.0], [1.0], [5.0]]), 1.0)
    tensor([6., 5., 9.])
    """
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    by_norm = int(len(rows) * (1 - norm_rate))
    rest = torch.argsort(norms, stable=True)[by_norm:].sort().values
    scores = norms - norms.max() - 1
    # The faster way of computing many distances loses half of the digits.
    distances = torch.cdist(rows[rest], rows[rest], compute_mode="donot_use_mm_for_euclid_dist")
    return scores.index_copy(0, rest, distances.sum(dim=1))


def median_count(n: int, ratio: float, norm_rate: float) -> int:
    """Return how many of n filters leave by norm and by distance; one always survives.

    Each part is rounded down, as in FPGM's code.

    >>> median_count(16, 0.4, 1.0), median_count(16, 0.4, 0.7)
    (6, 5)
    """
    by_norm = min(1 - norm_rate, ratio)
    # 1 - 0.7 and 0.4 - 0.3 are a little off in floating point
    shares = (round(by_norm, 12), round(ratio - by_norm, 12))
    return min(sum(int(n * share) for share in shares), n - 1)


class BNScaleScore(Criterion):
    """Channels that batch norm scales down are unimportant: |gamma|."""

    combine: Combine = "first"  # the producer's own: a depthwise layer behind it has none to say
    by_fan_in: bool = False  # divided by the weights of a filter: OrthoReg's VGG

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return |gamma| of each unit; TrainingError for a group without batch norm."""
        found = {}
        for name, group in groups.items():
            rows = [member_rows(run.params, m) for m in scale_members(run.model, group)]
            scores = combined(rows, self.combine, lambda gamma: gamma.abs().sum(dim=1))
            if self.by_fan_in:
                scores = scores / member_rows(run.params, producers(group)[0]).shape[1]
            found[name] = scores
        return found
