"""The task of the user's loader and loss, as criteria and the training loop call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench.core.errors import DataError, TrainingError, in_one_line
from prunebench.criteria.base import Needs, at_least_single
from prunebench.data.normalization import Normalization
from prunebench.experiments.metric import METRICS
from prunebench.experiments.recipe import Augment
from prunebench.experiments.results import TrainingResult
from prunebench.own_network.loaded_batches import Loss, OwnBatches, batches_in, content_of
from prunebench.training.batches import Batching
from prunebench.training.processes import Alone
from prunebench.training.task import Evaluation, Reading, Report, silent

ONE_IMAGE = "more than 1 value per channel"  # of PyTorch's error
NO_DATA = "the method needs images: pass data=, a loader that yields (inputs, targets)"


class OwnTask:
    """A loss on the outputs of a network, without an evaluation.

    Parameters
    ----------
    loss
        From the network's output and the targets to the mean loss over the images, a tensor of one
        element. None: the cross-entropy of outputs (n, classes, ...) and labels.
    """

    metric = METRICS["classification"]
    is_captured = False

    def __init__(self, loss: Loss | None) -> None:
        self.own_loss = loss
        self.counts_correct = loss is None

    def batches(
        self, split: OwnSplit, augment: Augment, reading: Reading, batching: Batching
    ) -> OwnEpoch:
        """Begin an epoch: the loader decides the order and the augmentation."""
        return OwnEpoch(split.given)

    def samples(
        self, split: OwnSplit, needs: Needs, augment: Augment, reading: Reading
    ) -> Iterator[tuple[Any, Any]]:
        """Yield the first images that the loader yields."""
        return split.given.samples(needs)

    def loss(
        self, forward: Callable[..., Any], inputs: Any, targets: Any, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean loss, and the number of correct predictions if it is cross-entropy."""
        given, wanted = content_of(inputs), content_of(targets)
        try:
            outputs = forward(*given) if isinstance(given, tuple) else forward(given)
        except ValueError as error:
            if len(inputs) == 1 and ONE_IMAGE in str(error):
                raise DataError(
                    "data: a batch has one image, over which batch norm cannot normalize; let the "
                    "loader drop the last batch (drop_last=True)"
                ) from error
            raise
        if self.own_loss is None:
            return cross_entropy(outputs, wanted, smoothing)
        loss = self.own_loss(outputs, wanted)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TrainingError(f"loss: it must return a tensor of one element, not {found}")
        return loss.reshape(()), None

    def rehearsal(self, forward: Callable[..., Any], inputs: Tensor) -> Tensor:
        """Do not run in several processes."""
        raise NotImplementedError

    def evaluate(
        self,
        model: nn.Module,
        split: OwnSplit,
        own: Normalization,
        parallel: Alone,
        report: Report = silent,
    ) -> Evaluation:
        """Do not evaluate: the loader has no split for it."""
        raise NotImplementedError

    def known(self, split: OwnSplit, percent: float, stored: TrainingResult | None) -> Evaluation:
        """Do not evaluate."""
        raise NotImplementedError


def cross_entropy(
    outputs: Any, targets: Any, smoothing: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """Return the mean cross-entropy, and the number of correct predictions of one label each.

    TrainingError if outputs and targets do not fit it.
    """
    try:
        loss = F.cross_entropy(at_least_single(outputs), targets, label_smoothing=smoothing)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise TrainingError(
            f"the cross-entropy of the network's outputs and the targets cannot be computed "
            f"({in_one_line(error)}); pass loss=, a function of both"
        ) from error
    if outputs.ndim != 2 or targets.ndim != 1:
        return loss, None
    with torch.no_grad():
        return loss, (outputs.argmax(dim=1) == targets).sum()


class OwnSplit:
    """The training images of a loader; without one, asking for images is an error.

    Its length is that of whole batches, so that an epoch has as many steps as the loader batches.
    """

    def __init__(self, data: OwnBatches | None, *, batch_size: int = 0) -> None:
        self.data, self.batch_size = data, batch_size

    @property
    def given(self) -> OwnBatches:
        """Return the batches; DataError if no loader was passed."""
        if self.data is None:
            raise DataError(NO_DATA)
        return self.data

    def __len__(self) -> int:
        if self.data is None or not self.batch_size:
            return 0
        return self.batch_size * batches_in(self.data.loader)


class OwnEpoch:
    """The batches of a pass over the loader, in its own order."""

    def __init__(self, batches: OwnBatches) -> None:
        self.batches, self.iterator = batches, iter(batches)

    def chunk(self, k: int) -> tuple[Any, Any]:
        """Return the loader's next batch; it begins again if it yields fewer than it says."""
        for batch in self.iterator:
            return batch
        self.iterator = iter(self.batches)
        for batch in self.iterator:
            return batch
        raise DataError("data: the loader has no batch")
