"""How good a run's network is now, counted by all processes together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from prunebench.core.recipe import Recipe
from prunebench.data.images import evaluation_batches
from prunebench.data.normalization import normalization
from prunebench.measure.accuracy import Correct, count_correct
from prunebench.training.parallel import Alone
from prunebench.training.run import RunState


def accuracies(
    run: RunState, parallel: Alone, recipe: Recipe | None = None
) -> tuple[float | None, float]:
    """Return the percentages on the validation split (None without one) and the test split.

    Images are normalized as `recipe` says; without one, as in the last phase that trained, or as
    for the base network. All processes call it together; each image is counted once.
    """
    own = normalization((recipe or run.recipe).normalize, run.dataset.info)
    parallel.spread_buffers(run.model)
    val, test = (
        _percent(
            run,
            parallel,
            evaluation_batches(
                split, mean=own.mean, std=own.std, rank=parallel.rank, world=parallel.world
            ),
        )
        if len(split)
        else None
        for split in (run.dataset.val, run.dataset.test)
    )
    assert test is not None
    return val, test


def _percent(run: RunState, parallel: Alone, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    own = count_correct(run.model, batches)
    counts = torch.tensor([own.correct, own.total], device=run.device)
    return Correct(*parallel.total(counts).tolist()).percent
