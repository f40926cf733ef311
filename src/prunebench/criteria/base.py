"""A criterion: options, and a function from a network to an importance score of each unit.

One-shot pruning, OrthoReg and Early-Bird tickets rank units with the same criteria. A criterion
leaves the network unchanged: its modes, buffers, gradients and `requires_grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from prunebench.channels.costs import Costs
from prunebench.channels.examples import Example
from prunebench.channels.groups import ChannelGraph, ChannelGroup
from prunebench.experiments.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The training images that a criterion asks for.

    Attributes
    ----------
    samples
        Number of images; all of them if the training split has fewer.
    batch
        Images per batch.
    augment
        Whether to augment them as in training.
    by_class
        Whether to take `samples` images of each class, in batches of a single class.
    """

    samples: int
    batch: int = 128
    augment: bool = False
    by_class: bool = False


class ScoringRun(Protocol):
    """The part of a run that a criterion sees; a method sees more (`methods.base.Run`)."""

    model: nn.Module
    graph: ChannelGraph
    costs: Costs
    params: dict[str, nn.Parameter]  # by name; new objects after a removal
    device: torch.device

    @property
    def example(self) -> Example:
        """Return the input that the network was traced with."""

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a CPU generator that depends on seed, phase and purpose alone."""

    def samples(self, needs: Needs) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random images (n, C, h, w), normalized as in training, and their targets.

        Targets are labels (n,) or, of detection, boxes (n, M, 5). Every call during a phase yields
        the same images. Training is not affected.
        """

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the task's mean loss of the network over some images."""


Combine = Annotated[
    Literal["joint", "sum", "mean", "first"],
    Field(
        description="Score of a unit that several layers produce. joint: the score of all their "
        "weights together, as if they were one filter's (sums before squares); sum, mean: the sum "
        "or mean of the layers' scores; first: the score of the first layer."
    ),
]


class Criterion(Settings):
    """A criterion. Subclasses add their options as fields, and define `scores`."""

    summary: ClassVar[str]  # one line for `prunebench list methods`
    revision: ClassVar[int] = 1  # of its one-shot method; raise it when the scores change
    needs_labels: ClassVar[bool] = False  # whether each image must belong to one class
    # Default of the option `allocation` of its one-shot method. "global": the scores are made to be
    # compared between groups or layers
    default_allocation: ClassVar[Literal["uniform", "global"]] = "uniform"

    combine: Combine = "joint"

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit by group, shape (units,); higher is kept."""
        raise NotImplementedError

    def removed_count(self, n_units: int, ratio: float) -> int | None:
        """Return how many of `n_units` its one-shot method removes; None: the usual rounding.

        The usual rounding is `methods.allocation.pruned_count`.
        """
        return None


class AnyUnitCriterion(Criterion):
    """A criterion that can also score input channels and single weights.

    Its one-shot method has the option `unit` and the ratio_kind weights.
    """

    def channel_scores(
        self, run: ScoringRun, groups: Mapping[str, ChannelGroup]
    ) -> dict[str, Tensor]:
        """Return the importance of each unit as input channels of the layers that read it."""
        raise NotImplementedError

    def weight_scores(self, run: ScoringRun, weights: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the importance of each weight by layer, of the weight's shape.

        `weights` maps each layer to the name of its weight.
        """
        raise NotImplementedError


def at_least_single(logits: Tensor) -> Tensor:
    """Return bfloat16 and float16 logits in float32, for the loss; others as they are.

    >>> [at_least_single(torch.ones(2, dtype=d)).dtype for d in (torch.bfloat16, torch.float64)]
    [torch.float32, torch.float64]
    """
    return logits.float() if logits.dtype.itemsize < 4 else logits


def combined(rows: Sequence[Tensor], combine: Combine, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Return one score per unit, shape (units,), from one (units, entries) per layer.

    `score` maps (units, entries) to (units,).

    >>> rows = [torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, 3.0]])]
    >>> [float(combined(rows, how, lambda r: r.sum(1) ** 2)) for how in ("joint", "sum", "mean")]
    [25.0, 13.0, 6.5]
    """
    match combine:
        case "joint":
            return score(torch.cat(list(rows), dim=1))
        case "first":
            return score(rows[0])
        case "sum":
            return torch.stack([score(layer) for layer in rows]).sum(dim=0)
        case "mean":
            return torch.stack([score(layer) for layer in rows]).mean(dim=0)
