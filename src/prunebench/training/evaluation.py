"""How good a network is on a split, counted by all processes together."""

from __future__ import annotations

import torch
from torch import nn

from prunebench.data.images import LabeledImages, evaluation_batches
from prunebench.data.normalization import Normalization
from prunebench.measure.accuracy import Correct, count_correct
from prunebench.training.parallel import ALONE, Alone


def count_split(
    model: nn.Module, split: LabeledImages, own: Normalization, parallel: Alone = ALONE
) -> Correct:
    """Count right answers on a split, whose images are normalized by `own`.

    All processes call it together; each image is counted once, with the running statistics of the
    first process.
    """
    parallel.spread_buffers(model)
    batches = evaluation_batches(
        split, mean=own.mean, std=own.std, rank=parallel.rank, world=parallel.world
    )
    found = count_correct(model, batches)
    counts = torch.tensor([found.correct, found.total], device=next(model.parameters()).device)
    return Correct(*parallel.total(counts).tolist())
