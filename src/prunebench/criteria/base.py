"""What a method sees of a run.

What a criterion is: settings that give each unit of a coupled group a number.

The same criterion ranks units for any method: one-shot pruning, OrthoReg's rounds, Early-Bird
tickets. A criterion leaves the network as it was: modes, buffers, gradients, requires_grad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from prunebench.channels.costs import Costs
from prunebench.channels.groups import ChannelGraph, ChannelGroup
from prunebench.experiments.phases import Phase
from prunebench.experiments.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Images of the training split that a criterion asks for.

    Attributes
    ----------
    samples
        How many; all where there are fewer.
    batch
        How many at once.
    augment
        Whether they are augmented as in training.
    by_class
        `samples` of each class, and no batch with images of two classes.
    """

    samples: int
    batch: int = 128
    augment: bool = False
    by_class: bool = False


class Run(Protocol):
    """What a method sees of the run it takes part in."""

    model: nn.Module
    graph: ChannelGraph
    costs: Costs
    params: dict[str, nn.Parameter]  # by name; new objects after a removal
    masks: dict[str, Tensor]  # parameter -> bool, True is kept: what is zero but still there
    sizes: dict[str, int]  # group -> units at the start of the run
    kept: dict[str, Tensor]  # group -> units still there, numbered as at the start
    source_kept: dict[str, Tensor] | None  # the same of the run that `widths_from` names
    phases: tuple[Phase, ...]  # all of them, as the method listed them
    phase: Phase
    clock: int  # steps done in this phase
    epoch: int  # epochs begun in this phase, from 0
    epochs: float  # length of this phase
    base_macs: int  # of the network the run started from
    base_params: int
    device: torch.device

    @property
    def example(self) -> Tensor:
        """Return the input that the network was traced with, a batch of one."""

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a CPU generator that depends on seed, phase and purpose alone."""

    def samples(self, needs: Needs) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (n, C, h, w), normalized as in training, and labels (n,), at random.

        The same ones whenever they are asked for in a phase; training does not notice.
        """

    def log(self, layer: str, quantity: str, value: Tensor) -> None:
        """Note a diagnostic, a device tensor of one element; read once an epoch."""

    @property
    def divisor(self) -> float:
        """Return what an image's own loss is divided by in the loss that a step differentiates.

        In this process: the images of the batch over the processes that share it.
        """

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum over the processes that share the step's batch."""

    def keep(self, slot: Literal["best", "accepted"]) -> None:
        """Keep the present structure, masks and weights for a later phase's `start`."""

    def validate(self) -> float:
        """Return the accuracy on the validation split, a fraction; TrainingError without one."""

    def initialize(self) -> None:
        """Give every parameter of the present network a fresh start, as its architecture does."""


Combine = Literal["joint", "sum", "mean", "first"]


class Criterion(Settings):
    """Options that every criterion has; each criterion's own class adds its own."""

    # How a unit's score is made where several layers produce it. joint: of all their weights as
    # if they were one filter's (sums before squares); sum, mean: of the layers' scores;
    # first: of the first layer alone
    combine: Combine = "joint"

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit by group, shape (units,); higher is kept."""
        raise NotImplementedError


class RandomScore(Criterion):
    """Uniform random numbers; `combine` means nothing here."""

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return numbers in [0, 1), a function of seed, phase and group."""
        return {
            name: torch.rand(g.n_units, generator=run.generator("score", name))
            for name, g in groups.items()
        }


def combined(rows: Sequence[Tensor], combine: Combine, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Return one score per unit, shape (units,), from one (units, entries) per layer.

    `score` takes (units, entries) to (units,).

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
