"""The interface of a task to training: batches, loss and evaluation.

The loop calls a task through it and knows no task by name. Targets are a tensor whose first
dimension is the image, so that a batch can be divided: labels (N,) of classification, boxes
(N, M, 5) of detection.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from prunebench.criteria.base import Needs
from prunebench.data.info import DatasetInfo
from prunebench.data.normalization import Normalization
from prunebench.experiments.metric import Metric
from prunebench.experiments.recipe import Augment
from prunebench.experiments.results import TrainingResult
from prunebench.training.batches import Batching
from prunebench.training.processes import Alone

B = TypeVar("B", bound=tuple[Tensor, ...])
Report = Callable[[int], None]  # takes the number of images done


def silent(images: int) -> None:
    """Report nothing."""


def reported(batches: Iterable[B], report: Report, world: int) -> Iterator[B]:
    """Yield the batches of an evaluation in `world` processes, and report the images done."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch[0]) * world
        report(done)


class Batches(Protocol):
    """The batches of an epoch."""

    def chunk(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the inputs (n, C, h, w), float32, and targets (n, ...) of chunk k."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images become inputs: normalization, memory format, and the generator of an order."""

    own: Normalization
    memory_format: torch.memory_format
    generator: torch.Generator

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the functions that draw batches."""
        return {
            "mean": self.own.mean,
            "std": self.own.std,
            "generator": self.generator,
            "memory_format": self.memory_format,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The accuracy of a network on a split.

    Attributes
    ----------
    fraction
        The accuracy, from 0 to 1.
    percent
        The accuracy in percent.
    words
        The counts behind it, for people.
    figures
        Further numbers by the name of their column in runs.csv.
    by_class
        Accuracy of each class in percent, None for a class without an object; empty if the task
        has none.
    """

    fraction: float
    percent: float
    words: str = ""
    figures: Mapping[str, float]
    by_class: Mapping[str, float | None]


TASKS = {
    "classification": "prunebench.training.classification:Classification",
    "detection": "prunebench.training.detection:Detection",
}


class Task(Protocol):
    """What training needs to know of a task."""

    metric: Metric
    # Whether a step can be captured: its shapes depend on the batch size alone, and the CPU reads
    # nothing from the device
    is_captured: bool
    counts_correct: bool  # whether `loss` counts correct predictions

    def batches(
        self, split: Any, augment: Augment, reading: Reading, batching: Batching
    ) -> Batches:
        """Draw the order and the augmentation of an epoch."""

    def samples(
        self, split: Any, needs: Needs, augment: Augment, reading: Reading
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the inputs and targets that a criterion asks for, in batches, at random."""

    def loss(
        self, forward: Callable[..., Any], inputs: Tensor, targets: Tensor, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor | None]:
        """Return the mean loss over the images, and the number of correct predictions.

        `forward` is the network, or what stands for it in several processes.
        """

    def rehearsal(self, forward: Callable[..., Any], inputs: Tensor) -> Tensor:
        """Return a scalar through which a backward pass reaches all weights, as in a step."""

    def evaluate(
        self,
        model: nn.Module,
        split: Any,
        own: Normalization,
        parallel: Alone,
        report: Report = silent,
    ) -> Evaluation:
        """Evaluate a network on a split; all processes call it together."""

    def known(self, split: Any, percent: float, stored: TrainingResult | None) -> Evaluation:
        """Return the evaluation of a network whose accuracy is known.

        `stored` is the result that holds the figures behind it, None if they are not known.
        """


def task_of(info: DatasetInfo) -> Task:
    """Return the task of a data set."""
    found: Callable[[DatasetInfo], Task] = pkgutil.resolve_name(TASKS[info.task])
    return found(info)
