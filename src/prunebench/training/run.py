"""The state of a run: its network, its position in the phases, its records and random numbers.

There are no running random generators. The order of an epoch is a function of (seed, phase, epoch),
initial weights of (seed, "init"), and so on: a run resumes anywhere, and one user of random numbers
never disturbs another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunebench.channels.costs import Costs, costs_of
from prunebench.channels.examples import Example
from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.channels.predicted_latency import PredictedLatency
from prunebench.channels.removal import kept_units, remove
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import TrainingError
from prunebench.criteria.base import Needs
from prunebench.data.dataset import Dataset, content_hash
from prunebench.data.normalization import Normalization, normalization
from prunebench.data.random_state import seeded
from prunebench.experiments.metric import Metric
from prunebench.experiments.phases import CostKind, Phase
from prunebench.experiments.recipe import Augment, Recipe
from prunebench.experiments.results import (
    DiagnosticRow,
    HistoryRow,
    PlanResult,
    TrainingResult,
    write_diagnostics,
    write_history,
)
from prunebench.models.base import initialize
from prunebench.training.batches import Portion, portion
from prunebench.training.memory import memory_format
from prunebench.training.processes import ALONE, Alone
from prunebench.training.shared import Scores, Shared
from prunebench.training.task import Evaluation, Reading, Report, Task, silent, task_of


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


def noise(image: tuple[int, ...]) -> Tensor:
    """Return two images of noise of a shape, the same at each call."""
    return torch.rand((2, *image), generator=torch.Generator().manual_seed(0))


@dataclass
class Records:
    """Rows and sums of a run; all of it goes into checkpoints."""

    history: list[HistoryRow] = field(default_factory=list)
    diagnostics: list[DiagnosticRow] = field(default_factory=list)
    plans: list[PlanResult] = field(default_factory=list)  # one per applied plan
    capped: list[str] = field(default_factory=list)  # phases that reached their cap unfinished
    seconds: dict[str, float] = field(default_factory=dict)  # by phase, measured
    epochs_trained: float = 0.0
    epochs_before: float = 0.0  # trained before the last phase that trains or has trained
    resumed_at: list[tuple[str, int]] = field(default_factory=list)  # phase and step of each
    pending: list[tuple[int, str, str, Tensor]] = field(default_factory=list)

    def note(self, step: int, layer: str, quantity: str, value: Tensor) -> None:
        """Keep a diagnostic on its device until `flush`."""
        self.pending.append((step, layer, quantity, value.detach().clone()))

    def flush(self, phase: str) -> None:
        """Turn the pending diagnostics into rows, with one copy from the device."""
        if not self.pending:
            return
        values = torch.stack([v.reshape(()).double() for *_, v in self.pending]).tolist()
        self.diagnostics += [
            DiagnosticRow(phase, step, layer, quantity, value)
            for (step, layer, quantity, _), value in zip(self.pending, values, strict=True)
        ]
        self.pending.clear()

    def spend(self, phase: str, seconds: float) -> None:
        """Add to the time of a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def write(self, folder: Path, metric: Metric) -> None:
        """Write history.csv and diagnostics.csv."""
        write_history(folder, self.history, metric)
        write_diagnostics(folder, self.diagnostics)

    def packed(self) -> dict[str, Any]:
        """Return everything as plain containers and tensors, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "history": [row._asdict() for row in self.history],
            "diagnostics": [row._asdict() for row in self.diagnostics],
            "plans": [plan.model_dump() for plan in self.plans],
        }

    @classmethod
    def unpacked(cls, content: dict[str, Any]) -> Records:
        """Return the records that `packed` returned."""
        return cls(
            **content
            | {
                "history": [HistoryRow(**row) for row in content["history"]],
                "diagnostics": [DiagnosticRow(**row) for row in content["diagnostics"]],
                "plans": [PlanResult(**plan) for plan in content["plans"]],
            }
        )


Slot = Literal["best", "accepted"]
Evaluated = Literal["val", "test"]


@dataclass
class RunState:
    """The state of a run: what methods see of it (`Run`), and what the loop adds.

    Attributes
    ----------
    build
        Builds the whole network with fresh weights, the same at each call.
    base_recipe
        Recipe that trained the network from which the run starts.
    source_kept
        Kept units, by group, of the run whose widths are taken (`widths_from`).
    grouped
        Units of grouped convolutions.
    latency
        Prediction of latencies, for ratios of latency.
    slots
        Snapshots that a later phase may start from.
    index
        Number of the phase.
    begun
        Whether the beginning of the phase is done; a resume must not repeat it.
    clock, epoch
        Steps done and epochs begun in the phase.
    epochs
        Length of the phase.
    parallel
        The processes that train this run together.
    portion
        The images of the step's batch that this process trains on.
    evaluations
        Known accuracies, by split, normalization and hash of the weights.
    shared
        What earlier runs of this process have computed; None: nothing is shared.
    saved_seconds
        Seconds that shared scores have saved this run.
    recipe
        Recipe of the last phase that trained; its normalization holds until another one trains.
    """

    seed: int
    device: torch.device
    dataset: Dataset
    build: Callable[[], nn.Module]
    phases: tuple[Phase, ...]
    base_recipe: Recipe
    source_kept: dict[str, Tensor] | None = None
    grouped: Grouping = "auto"
    latency: PredictedLatency | None = None
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
    evaluations: dict[tuple[Evaluated, Normalization, str], Evaluation] = field(
        default_factory=dict
    )
    shared: Shared | None = None
    saved_seconds: float = 0.0

    model: nn.Module = field(init=False)
    memory_format: torch.memory_format = field(init=False)  # of weights and images in training
    graph: ChannelGraph = field(init=False)
    costs: Costs = field(init=False)
    params: dict[str, nn.Parameter] = field(init=False)
    sizes: dict[str, int] = field(init=False)
    kept: dict[str, Tensor] = field(init=False)
    base_costs: Costs = field(init=False)  # of the network that the run started from
    base_macs: int = field(init=False)
    base_params: int = field(init=False)
    base_layer_macs: dict[str, int] = field(init=False)  # by weight
    base_entries: dict[str, int] = field(init=False)  # by parameter
    phase: Phase = field(init=False)
    recipe: Recipe = field(init=False)

    def __post_init__(self) -> None:
        self.task: Task = task_of(self.dataset.info)
        self.go_to(self.index)

    def start_from(self, model: nn.Module) -> None:
        """Start the run from a whole network."""
        self.adopt(model)
        self.sizes = {name: group.n_units for name, group in self.graph.groups.items()}
        self.kept = {name: torch.arange(n) for name, n in self.sizes.items()}
        self.base_costs = self.costs
        self.base_macs, self.base_params = self.costs.macs(), self.costs.params()
        self.base_layer_macs = self.costs.layer_macs()
        self.base_entries = {name: parameter.numel() for name, parameter in self.params.items()}

    def adopt(self, model: nn.Module) -> None:
        """Make `model` the current network, and trace its groups."""
        self.memory_format = memory_format(model)
        self.model = model.to(self.device).to(memory_format=self.memory_format).train()
        self.graph = trace(self.model, self.example, grouped=self.grouped)
        self.costs = costs_of(self.graph)
        self.params = dict(self.model.named_parameters())

    def cost(self, kind: CostKind, left: Mapping[str, int] | None = None) -> float:
        """Return a cost of the present network if some groups keep `left` units."""
        return self._cost(self.costs, kind, left)

    def base_cost(self, kind: CostKind) -> float:
        """Return a cost of the network that the run started from."""
        return self._cost(self.base_costs, kind, None)

    def _cost(self, costs: Costs, kind: CostKind, left: Mapping[str, int] | None) -> float:
        match kind:
            case "macs":
                return costs.macs(left)
            case "params":
                return costs.params(left)
            case "activations":
                return costs.activations(left)
            case "latency":
                if self.latency is None:
                    raise TrainingError("ratio_kind 'latency' needs a latency table")
                return self.latency.ms(costs, left)

    @property
    def example(self) -> Example:
        """Return one black image."""
        return torch.zeros(1, *self.dataset.info.shape, device=self.device)

    @property
    def probe(self) -> Example:
        """Return two images of noise, on which the masked and the smaller network are compared."""
        return noise(self.dataset.info.shape).to(self.device)

    def go_to(self, index: int) -> None:
        """Make phase `index` the current one; one past the last ends the run."""
        self.index = index
        if index < len(self.phases):
            self.phase = self.phases[index]
        recipes = [phase.recipe for phase in self.phases[: index + 1] if phase.recipe]
        self.recipe = recipes[-1] if recipes else self.base_recipe

    def samples(self, needs: Needs) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images of the training split, normalized as in training, and their targets."""
        augment = self.recipe.augment if needs.augment else Augment()
        return self.task.samples(self.dataset.train, needs, augment, self.reading("samples"))

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of the current network over some images."""
        return self.task.loss(self.model, inputs, targets)[0]

    def reading(self, *purpose: str | int) -> Reading:
        """Return how images become inputs, with the order that a purpose has in this phase."""
        return Reading(
            own=self.normalization,
            memory_format=self.memory_format,
            generator=self.generator(*purpose),
        )

    @property
    def epochs_before(self) -> float:
        """Return the epochs trained in the phases before this one."""
        return self.records.epochs_before

    def scored(self, what: str, compute: Callable[[], Scores]) -> Scores:
        """Return scores, computed or taken over from a run of this process; see `methods.base.Run`.

        What is taken over is equal bit for bit: the key holds everything that scores depend on.
        """
        if self.shared is None:
            return compute()
        images = self.dataset.sha256, len(self.dataset.train), self.recipe.model_dump_json()
        machine = str(self.device), torch.get_num_threads()
        key = what, self.weights_hash(), self.seed, self.index, images, machine
        is_known = key in self.shared.computed
        scores, seconds = self.shared.scores(key, compute)
        self.saved_seconds += seconds if is_known else 0.0
        return {name: values.clone() for name, values in scores.items()}

    def generator(self, *purpose: str | int) -> torch.Generator:
        """Return a CPU generator that depends on seed, phase and purpose alone."""
        return generator(self.seed, self.index, *purpose)

    def log(self, layer: str, quantity: str, value: Tensor) -> None:
        """Log a diagnostic, a device tensor of one element; it is read once per epoch."""
        self.records.note(self.clock, layer, quantity, value)

    @property
    def divisor(self) -> float:
        """Return the divisor of an image's loss within the loss that a step differentiates."""
        return self.portion.divisor

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum over the processes that share the step's batch."""
        return self.parallel.total(tensor) if self.portion.processes > 1 else tensor

    def validate(self) -> float:
        """Return the accuracy on the validation split, a fraction; TrainingError without one."""
        if not len(self.dataset.val):
            raise TrainingError(
                f"phase {self.phase.name!r}: the data set has no validation split to decide by"
            )
        return self.evaluated("val", self.normalization).fraction

    def accuracies(self) -> tuple[float | None, float | None]:
        """Return the percentages on the validation split (None without one) and the test split.

        All processes call it together.
        """
        val, test = self.evaluations_now()
        return val, test.percent

    def evaluations_now(self) -> tuple[float | None, Evaluation]:
        """Return the percentage on the validation split (None without one) and the test evaluation.

        All processes call it together.
        """
        own = self.normalization
        val = self.evaluated("val", own).percent if len(self.dataset.val) else None
        return val, self.evaluated("test", own)

    def evaluated(
        self, split: Evaluated, own: Normalization, report: Report = silent
    ) -> Evaluation:
        """Evaluate the network on a split, once for as long as it does not change.

        The same weights have the same accuracy, so it is looked up by a hash of the weights: it
        notices every change, whoever made it. All processes call it together. `report` is called
        with the number of images done.
        """
        self.parallel.spread_buffers(self.model)  # equal hashes in all processes
        key = split, own, self.weights_hash()
        if key not in self.evaluations:
            found = self.task.evaluate(self.model, self.images(split), own, self.parallel, report)
            self.evaluations[key] = found
        return self.evaluations[key]

    def is_known(self, split: Evaluated, own: Normalization) -> bool:
        """Whether the accuracy of the current network on a split is known."""
        self.parallel.spread_buffers(self.model)
        return (split, own, self.weights_hash()) in self.evaluations

    def know(self, split: Evaluated, own: Normalization, found: Evaluation) -> None:
        """Take over the accuracy of the current network."""
        self.evaluations[split, own, self.weights_hash()] = found

    def remember(
        self,
        split: Evaluated,
        own: Normalization,
        percent: float,
        stored: TrainingResult | None = None,
    ) -> None:
        """Take over the accuracy of the current network, evaluated in another run.

        `stored` is that run's result, if its further figures belong to this split.
        """
        self.know(split, own, self.task.known(self.images(split), percent, stored))

    def images(self, split: Evaluated) -> Any:
        """Return the images of a split."""
        return self.dataset.val if split == "val" else self.dataset.test

    def weights_hash(self) -> str:
        """Return a hash of the current parameters and buffers."""
        return content_hash({name: t.cpu() for name, t in self.model.state_dict().items()})

    @property
    def normalization(self) -> Normalization:
        """Return the normalization of the current recipe."""
        return normalization(self.recipe.normalize, self.dataset.info)

    def initialize(self) -> None:
        """Initialize every parameter of the current network again, as its architecture does."""
        with seeded(derived_seed(self.seed, self.index, "initialize")):
            initialize(self.model)

    def restart(self) -> None:
        """Go back to the whole network with fresh weights."""
        whole = {name: torch.arange(n) for name, n in self.sizes.items()}
        self.restore({"kept": whole, "masks": {}, "weights": self.build().state_dict()})

    def keep(self, slot: Slot) -> None:
        """Keep the current structure, masks and weights for a later phase's `start`."""
        self.slots[slot] = self.snapshot()

    def snapshot(self) -> dict[str, Any]:
        """Return a copy of structure, masks and weights."""
        return {
            "kept": {name: units.clone() for name, units in self.kept.items()},
            "masks": _copies(self.masks),
            "weights": _copies(self.model.state_dict()),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Rebuild the network of a snapshot."""
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
