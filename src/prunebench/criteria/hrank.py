"""HRank: the average rank of a unit's feature maps.

Source: Lin et al., HRank: Filter Pruning using High-Rank Feature Map, arXiv 2002.10179, and its
official code, which is followed in the images: five batches of 128 of the augmented training images
(the paper: 500 images). Differences:

- The official code takes the maps behind a ReLU. Here, ReLU is applied to the outputs of batch
  norm, or of the layer if there is none, whatever activation the network has. The maps are the same
  but for residual sums: the code takes those behind each sum, and prunes each layer of a sum by its
  own ranks. Here a sum's units are removed from all of its layers, and `combine` makes one score.
- The paper chooses the number of filters of each layer by hand; here the budget does.
- The official code prunes and fine-tunes one layer after the other, with ranks of the base network;
  here all layers are pruned at once, or in `rounds` with new ranks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.criteria.base import ScoringRun
from prunebench.criteria.feature_maps import unit_maps
from prunebench.criteria.gradients import DataCriterion
from prunebench.experiments.settings import Count


def ranks(maps: Tensor) -> Tensor:
    """Return the mean rank of the maps of each unit, (N, units, channels, ...) to (N, units).

    Each map is a matrix (h, w). A single number is a matrix of rank 1, or 0 if it is zero; the maps
    of a sequence are columns, and those of a volume one matrix for each slice. Singular values at
    most max(h, w) times the resolution of float32 below the largest one count as zero.

    >>> full, one, none = torch.eye(2), torch.ones(2, 2), torch.zeros(2, 2)
    >>> ranks(torch.stack([full, one, none])[None, :, None])
    tensor([[2., 1., 0.]])
    """
    matrices = maps.reshape(*maps.shape, *[1] * (5 - maps.ndim)).float()
    found: Tensor = torch.linalg.matrix_rank(matrices).float()
    return found.flatten(2).mean(dim=2)


class HRank(DataCriterion):
    """The mean rank of a unit's feature maps, over images, behind batch norm and ReLU."""

    summary = "one-shot, lowest average rank of feature maps (Lin et al.)"

    combine: Literal["mean", "sum", "first"] = Field(
        "mean",
        description="Score of a unit that several layers produce: the mean or the sum of the "
        "layers' scores, or the score of the first layer.",
    )
    samples: Count = Field(
        640,
        description="Number of training images; all of them if there are fewer (default: official "
        "code, 5 batches; the paper: 500).",
    )
    augment: bool = Field(
        True, description="Augment the images as in training (default: official code)."
    )

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the mean rank of each unit."""
        found: defaultdict[str, list[Tensor]] = defaultdict(list)
        for maps in unit_maps(run, groups, self.needs, normalized=True):
            for name, layers in maps.items():
                found[name].append(torch.stack([ranks(layer.relu()) for layer in layers]))
        # (layers, N, units) by group
        means = {name: torch.cat(batches, dim=1).mean(dim=1) for name, batches in found.items()}
        return {name: self._of_layers(own) for name, own in means.items()}

    def _of_layers(self, scores: Tensor) -> Tensor:
        """Return one score per unit from (layers, units)."""
        match self.combine:
            case "mean":
                return scores.mean(dim=0)
            case "sum":
                return scores.sum(dim=0)
            case "first":
                return scores[0]
