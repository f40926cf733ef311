"""The state of a run: its network, what has left it, where in its phases it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunebench.channels.costs import Costs, costs_of
from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.channels.removal import kept_units, remove
from prunebench.channels.trace import trace
from prunebench.core.errors import TrainingError
from prunebench.core.phases import Phase
from prunebench.core.recipe import Augment, Recipe
from prunebench.data.normalization import normalization
from prunebench.data.random_state import seeded
from prunebench.data.stage import Dataset
from prunebench.methods.run import Needs
from prunebench.models.initialize import initialize
from prunebench.training.batches import sampled
from prunebench.training.evaluation import count_split
from prunebench.training.parallel import ALONE, Alone
from prunebench.training.portions import Portion, portion
from prunebench.training.records import Records
from prunebench.training.seeds import derived_seed, generator

Slot = Literal["best", "accepted"]


@dataclass
class RunState:
    """What methods see of a run (`methods.run.Run`), and what the loop keeps beside it.

    Attributes
    ----------
    build
        Builds the whole network with fresh weights; the same ones at each call.
    base_recipe
        How the network was trained that the run started from.
    grouped
        What units of grouped convolutions are.
    index
        The number of the phase.
    begun
        Whether the phase's beginning is done, so that a resume does not repeat it.
    parallel
        The processes that train this run together.
    portion
        What this process does of the step's batch.
    """

    seed: int
    device: torch.device
    dataset: Dataset
    build: Callable[[], nn.Module]
    phases: tuple[Phase, ...]
    base_recipe: Recipe
    source_kept: dict[str, Tensor] | None = None
    grouped: Grouping = "auto"
    masks: dict[str, Tensor] = field(default_factory=dict)
    slots: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: Records = field(default_factory=Records)
    index: int = 0
    begun: bool = False
    clock: int = 0
    epoch: int = 0
    epochs: float = 0.0
    parallel: Alone = ALONE
    portion: Portion = field(default_factory=lambda: portion(1))

    model: nn.Module = field(init=False)
    graph: ChannelGraph = field(init=False)
    costs: Costs = field(init=False)
    params: dict[str, nn.Parameter] = field(init=False)
    sizes: dict[str, int] = field(init=False)
    kept: dict[str, Tensor] = field(init=False)
    base_macs: int = field(init=False)
    base_params: int = field(init=False)
    phase: Phase = field(init=False)

    def __post_init__(self) -> None:
        self.go_to(self.index)

    def start_from(self, model: nn.Module) -> None:
        """Take a whole network as the run's beginning."""
        self.adopt(model)
        self.sizes = {name: group.n_units for name, group in self.graph.groups.items()}
        self.kept = {name: torch.arange(n) for name, n in self.sizes.items()}
        self.base_macs, self.base_params = self.costs.macs(), self.costs.params()

    def adopt(self, model: nn.Module) -> None:
        """Take `model` as the present network, and find its groups again."""
        self.model = model.to(self.device).to(memory_format=torch.channels_last).train()
        self.graph = trace(self.model, self.example, grouped=self.grouped)
        self.costs = costs_of(self.graph)
        self.params = dict(self.model.named_parameters())

    @property
    def example(self) -> Tensor:
        """Return one black image."""
        return torch.zeros(1, *self.dataset.info.shape, device=self.device)

    def go_to(self, index: int) -> None:
        """Make phase `index` the present one; one past the last ends the run."""
        self.index = index
        if index < len(self.phases):
            self.phase = self.phases[index]

    @property
    def recipe(self) -> Recipe:
        """Return the recipe of the last phase that trained: how images are made ready now."""
        trained = [phase.recipe for phase in self.phases[: self.index + 1] if phase.recipe]
        return trained[-1] if trained else self.base_recipe

    def samples(self, needs: Needs) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images of the training split, normalized as in training, and their labels."""
        split, recipe = self.dataset.train, self.recipe
        own = normalization(recipe.normalize, self.dataset.info)
        return sampled(
            split,
            needs,
            recipe.augment if needs.augment else Augment(),
            mean=own.mean,
            std=own.std,
            generator=self.generator("samples"),
        )

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a CPU generator that depends on seed, phase and purpose alone."""
        return generator(self.seed, self.index, *purpose)

    def log(self, layer: str, quantity: str, value: Tensor) -> None:
        """Note a diagnostic, a device tensor of one element; read once an epoch."""
        self.records.note(self.clock, layer, quantity, value)

    @property
    def divisor(self) -> float:
        """Return what an image's own loss is divided by in the loss that a step differentiates."""
        return self.portion.divisor

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum over the processes that share the step's batch."""
        return self.parallel.total(tensor) if self.portion.processes > 1 else tensor

    def validate(self) -> float:
        """Return the accuracy on the validation split, a fraction; TrainingError without one."""
        split, own = self.dataset.val, normalization(self.recipe.normalize, self.dataset.info)
        if not len(split):
            raise TrainingError(
                f"phase {self.phase.name!r}: the data set has no validation split to decide by"
            )
        counts = count_split(self.model, split, own, self.parallel)
        return counts.correct / counts.total

    def initialize(self) -> None:
        """Give every parameter of the present network a fresh start, as its architecture does."""
        with seeded(derived_seed(self.seed, self.index, "initialize")):
            initialize(self.model)

    def restart(self) -> None:
        """Make the whole network with fresh weights again."""
        whole = {name: torch.arange(n) for name, n in self.sizes.items()}
        self.restore({"kept": whole, "masks": {}, "weights": self.build().state_dict()})

    def keep(self, slot: Slot) -> None:
        """Keep the present structure, masks and weights for a later phase's `start`."""
        self.slots[slot] = self.snapshot()

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of structure, masks and weights."""
        return {
            "kept": {name: units.clone() for name, units in self.kept.items()},
            "masks": _copies(self.masks),
            "weights": _copies(self.model.state_dict()),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Make the network that a snapshot describes."""
        whole = self.build().to(self.device)
        graph = trace(whole, self.example, grouped=self.grouped)
        kept: dict[str, Tensor] = {name: units.cpu() for name, units in snapshot["kept"].items()}
        removed = {
            name: kept_units(self.sizes[name], units)
            for name, units in kept.items()
            if len(units) < self.sizes[name]
        }
        model = remove(whole, graph, removed)
        model.load_state_dict(snapshot["weights"])
        self.kept = kept
        self.masks = {name: mask.to(self.device) for name, mask in snapshot["masks"].items()}
        self.adopt(model)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
