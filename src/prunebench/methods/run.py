"""What a method sees of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from prunebench.channels.costs import Costs
from prunebench.channels.groups import ChannelGraph
from prunebench.core.phases import Phase


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
