"""Classification as a task: cross-entropy on labels, and the share of correct predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench.criteria.base import Needs, at_least_single
from prunebench.data.images import LabeledImages, evaluation_batches
from prunebench.data.info import DatasetInfo
from prunebench.data.normalization import Normalization
from prunebench.experiments.metric import METRICS
from prunebench.experiments.recipe import Augment
from prunebench.experiments.results import TrainingResult
from prunebench.measure.accuracy import Correct, count_correct
from prunebench.training.batches import Batching, EpochBatches, draw_epoch, sampled
from prunebench.training.processes import ALONE, Alone
from prunebench.training.task import Evaluation, Reading, Report, reported, silent


class Classification:
    """Images with one label each."""

    metric = METRICS["classification"]
    is_captured = True
    counts_correct = True

    def __init__(self, info: DatasetInfo) -> None:
        self.info = info

    def batches(
        self, split: LabeledImages, augment: Augment, reading: Reading, batching: Batching
    ) -> EpochBatches:
        """Draw the order and the augmentation of an epoch."""
        return draw_epoch(split, augment, batching=batching, **reading.arguments)

    def samples(
        self, split: LabeledImages, needs: Needs, augment: Augment, reading: Reading
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels at random."""
        return sampled(split, needs, augment, **reading.arguments)

    def loss(
        self, forward: Callable[..., Any], inputs: Tensor, targets: Tensor, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean cross-entropy, and the number of correct predictions."""
        logits = forward(inputs)
        loss = F.cross_entropy(at_least_single(logits), targets, label_smoothing=smoothing)
        with torch.no_grad():
            correct = (logits.argmax(dim=1) == targets).sum()
        return loss, correct

    def rehearsal(self, forward: Callable[..., Any], inputs: Tensor) -> Tensor:
        """Return the sum of the logits."""
        total: Tensor = forward(inputs).sum()
        return total

    def evaluate(
        self,
        model: nn.Module,
        split: LabeledImages,
        own: Normalization,
        parallel: Alone,
        report: Report = silent,
    ) -> Evaluation:
        """Count the correct predictions on a split."""
        return evaluation(count_split(model, split, own, parallel, report))

    def known(
        self, split: LabeledImages, percent: float, stored: TrainingResult | None
    ) -> Evaluation:
        """Return the evaluation of a network whose accuracy is known."""
        return evaluation(Correct(round(percent * len(split) / 100), len(split)))


def evaluation(counts: Correct) -> Evaluation:
    """Return counts as an evaluation."""
    return Evaluation(
        fraction=counts.correct / counts.total,
        percent=counts.percent,
        words=f"{counts.correct} of {counts.total}",
        figures={},
        by_class={},
    )


def count_split(
    model: nn.Module,
    split: LabeledImages,
    own: Normalization,
    parallel: Alone = ALONE,
    report: Report = silent,
) -> Correct:
    """Count correct predictions on a split whose images are normalized by `own`.

    All processes call it together. Each image is counted once, with the running statistics of the
    first process.
    """
    parallel.spread_buffers(model)
    batches = evaluation_batches(
        split, mean=own.mean, std=own.std, rank=parallel.rank, world=parallel.world
    )
    found = count_correct(model, reported(batches, report, parallel.world))
    counts = torch.tensor([found.correct, found.total], device=next(model.parameters()).device)
    return Correct(*parallel.total(counts).tolist())
