"""Random numbers as functions of a purpose: there are no running generators.

The order of an epoch depends on (seed, phase, epoch), initial weights on (seed, "init"), and so
on: a run resumes anywhere, and one user of random numbers never disturbs another.

What a run writes down while it trains: a row per epoch and per removal, diagnostics, times.

How good a network is on a split, counted by all processes together.

The state of a run: its network, what has left it, where in its phases it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunebench.channels.costs import Costs, costs_of
from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.channels.removal import kept_units, remove
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import TrainingError
from prunebench.core.files import write_csv
from prunebench.criteria.base import Needs
from prunebench.data.dataset import Dataset
from prunebench.data.images import LabeledImages, evaluation_batches
from prunebench.data.normalization import Normalization, normalization
from prunebench.data.random_state import seeded
from prunebench.experiments.phases import Phase
from prunebench.experiments.recipe import Augment, Recipe
from prunebench.measure.accuracy import Correct, count_correct
from prunebench.models.base import initialize
from prunebench.training.batches import Portion, portion, sampled
from prunebench.training.processes import ALONE, Alone


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a number below 2**63 that depends on the seed and the whole purpose.

    >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(0, "1")
    (True, False)
    """
    content = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator for a purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


HISTORY = (
    "phase",
    "epoch",  # 1 is a phase's first; a part of one at its end counts
    "step",  # of the phase
    "lr",
    "train_loss",
    "train_top1",  # percent, as all accuracies; of augmented images in training mode
    "val_top1",
    "test_top1",
    "macs",
    "seconds",  # since the row before
    "event",  # "pruned": just after a removal; otherwise empty
    "reportable",  # whether the network after this epoch may be a result
)
DIAGNOSTICS = ("phase", "step", "layer", "quantity", "value")
Row = dict[str, Any]


@dataclass
class Records:
    """Rows and sums of a run; all of it goes into checkpoints."""

    history: list[Row] = field(default_factory=list)
    diagnostics: list[Row] = field(default_factory=list)
    plans: list[Row] = field(default_factory=list)  # one per applied plan
    capped: list[str] = field(default_factory=list)  # phases that reached their cap unfinished
    seconds: dict[str, float] = field(default_factory=dict)  # by phase, measured
    epochs_trained: float = 0.0
    resumed_at: list[list[str | int]] = field(default_factory=list)  # [phase, step] of each time
    pending: list[tuple[int, str, str, Tensor]] = field(default_factory=list)

    def note(self, step: int, layer: str, quantity: str, value: Tensor) -> None:
        """Keep a diagnostic on its device until `flush`."""
        self.pending.append((step, layer, quantity, value.detach().clone()))

    def flush(self, phase: str) -> None:
        """Turn the pending diagnostics into rows, with one copy from the device."""
        if not self.pending:
            return
        values = torch.stack([v.reshape(()).double() for *_, v in self.pending]).tolist()
        for (step, layer, quantity, _), value in zip(self.pending, values, strict=True):
            self.diagnostics.append(
                dict(zip(DIAGNOSTICS, (phase, step, layer, quantity, value), strict=True))
            )
        self.pending.clear()

    def spend(self, phase: str, seconds: float) -> None:
        """Add to a phase's time."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def write(self, folder: Path) -> None:
        """Write history.csv and diagnostics.csv."""
        write_csv(folder / "history.csv", HISTORY, self.history)
        write_csv(folder / "diagnostics.csv", DIAGNOSTICS, self.diagnostics)


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
