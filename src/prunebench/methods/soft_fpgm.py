"""FPGM as its authors train it: SFP's procedure, but filters near the geometric median leave.

Source: He et al., Filter Pruning via Geometric Median, arXiv 1811.00250, and its official code.
After each epoch the filters of a layer that are nearest to all others are set to zero, and unlike
in SFP they get no gradient until the next epoch chooses anew: with their momenta alone they seldom
come back, so that it prunes almost hard. FPGM-mix takes a share by norm first (`norm_rate`); the
paper says 30 % by distance and 10 % by norm, the scripts behind its tables the other way round.
The criterion by itself, once and with fine-tuning, is the method `fpgm`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.methods.run import Run
from prunebench.methods.soft import SoftOptions, SoftPruning, kept_filters
from prunebench.methods.weight_scores import FPGMScore, median_count


class SoftFPGMOptions(FPGMScore, SoftOptions):
    """FPGM's defaults; `norm_rate` is what the scripts call the norm's pruning rate."""

    scope: Literal["layer", "group"] = "layer"
    mask_gradients: bool = True


class SoftFPGM(SoftPruning):
    """Filters nearest to all others are set to zero after each epoch."""

    summary = "FPGM as trained by its authors: filters nearest to all others zeroed each epoch"
    Options = SoftFPGMOptions
    options: SoftFPGMOptions
    ratio_kinds = ("units_per_group",)

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return the count of FPGM's rounding."""
        return median_count(n_units, ratio, self.options.norm_rate)

    def kept(self, run: Run, layer: ChannelGroup, keep: float) -> Tensor:
        """Return which filters are not pruned, bool (filters,)."""
        with torch.no_grad():
            scores = self.options.scores(run, {layer.name: layer})[layer.name]
        return kept_filters(scores, self.pruned_count(layer.n_units, 1 - keep))
