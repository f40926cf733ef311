"""The state of a run on a given network and the user's loader."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import UninitializedParameter
from torch.utils._pytree import tree_leaves

from prunebench.channels.costs import costs_of
from prunebench.channels.examples import Example, arguments, noise_like, on_device
from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.core.errors import TrainingError
from prunebench.data.dataset import Dataset
from prunebench.data.info import DatasetInfo
from prunebench.experiments.phases import Phase
from prunebench.experiments.recipe import Recipe
from prunebench.own_network.loaded_batches import Loader, Loss, OwnBatches
from prunebench.own_network.own_task import OwnSplit, OwnTask
from prunebench.own_network.own_trace import trace_own
from prunebench.training.run import RunState
from prunebench.training.shared import Shared

PLAIN = Recipe(epochs=1, batch_size=2, lr=0.01, weight_decay=0.0)  # until a phase trains
Evaluate = Callable[[nn.Module], float]


@dataclass
class OwnRun(RunState):
    """A run that starts from a copy of the user's network and reads the user's loader.

    Attributes
    ----------
    given
        The example that the network is traced with, on the network's device.
    whole
        Group name to reason, for groups that keep all units.
    loss_of
        The user's loss; None: cross-entropy.
    evaluator
        The user's evaluation, for methods that decide by an accuracy; None: there is none.
    """

    given: Example = ()
    whole: Mapping[str, str] = field(default_factory=dict)
    loss_of: Loss | None = None
    evaluator: Evaluate | None = None
    traced: ChannelGraph | None = None  # of the network that the run starts from
    first_graph: ChannelGraph = field(init=False)  # of the given network

    def __post_init__(self) -> None:
        self.task = OwnTask(self.loss_of)
        self.go_to(self.index)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        example: Example,
        *,
        data: Loader | None = None,
        batch_size: int = 0,
        loss: Loss | None = None,
        evaluate: Evaluate | None = None,
        seed: int = 0,
        grouped: Grouping = "auto",
        whole: Mapping[str, str] | None = None,
        shared: Shared | None = None,
        graph: ChannelGraph | None = None,
    ) -> Self:
        """Return a run at its beginning, over a copy of `model`.

        All parameters of the copy require a gradient, so that they can be scored and counted.
        `graph` is what `trace` returns for such a copy, if that is known already.
        """
        own = scorable_copy(model)
        device, placed = device_of(own), placed_beside(own, example)
        batches = OwnBatches(data, len(arguments(placed)), device) if data is not None else None
        run = cls(
            seed=seed,
            device=device,
            dataset=described(placed, OwnSplit(batches, batch_size=batch_size)),
            build=partial(scorable_copy, model),
            phases=(Phase(name="select"),),
            base_recipe=PLAIN,
            grouped=grouped,
            shared=shared,
            given=placed,
            whole=dict(whole or {}),
            loss_of=loss,
            evaluator=evaluate,
            traced=graph,
        )
        run.start_from(own)
        run.first_graph, run.traced = run.graph, None
        return run

    def adopt(self, model: nn.Module) -> None:
        """Make `model` the current network, in its own memory format, and trace its groups."""
        self.memory_format = torch.contiguous_format
        self.model = model
        graph = self.traced or trace_own(model, self.given, grouped=self.grouped).graph
        whole = {name: why for name, why in self.whole.items() if name in graph.groups}
        self.graph = graph.with_frozen(whole)
        self.costs = costs_of(self.graph)
        self.params = dict(self.model.named_parameters())

    @property
    def given_split(self) -> OwnSplit:
        """Return the images of the user's loader."""
        split: Any = self.dataset.train
        assert isinstance(split, OwnSplit)
        return split

    @property
    def example(self) -> Example:
        """Return the user's example."""
        return self.given

    @property
    def probe(self) -> Example:
        """Return the example with noise in place of its floating-point numbers."""
        return noise_like(self.given)

    def accuracies(self) -> tuple[float | None, float | None]:
        """Return nothing: the user's evaluation is called at the end alone."""
        return None, None

    def validate(self) -> float:
        """Return the accuracy by the user's evaluation; TrainingError without one."""
        if self.evaluator is None:
            raise TrainingError(
                f"phase {self.phase.name!r}: the method decides by an accuracy; pass evaluate=, a "
                "function from the network to a fraction"
            )
        return float(self.evaluator(self.model))


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's first parameter; the CPU without one."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def placed_beside(model: nn.Module, example: Example) -> Example:
    """Return an example on the network's device."""
    return on_device(example, device_of(model))  # type: ignore[no-any-return]


def scorable_copy(model: nn.Module) -> nn.Module:
    """Return a copy in which all parameters require a gradient."""
    own = copy.deepcopy(model)
    for parameter in own.parameters():
        # One without a shape stays as it is: `trace` names it.
        if parameter.is_floating_point() and not isinstance(parameter, UninitializedParameter):
            parameter.requires_grad_(True)
    return own


def described(example: Example, train: OwnSplit) -> Dataset:
    """Return the loader as a data set whose images are used as they are."""
    first = next((leaf for leaf in tree_leaves(example) if isinstance(leaf, Tensor)), None)
    shape: Any = (1, 1, 1) if first is None or first.ndim < 2 else tuple(first.shape[1:])
    info = DatasetInfo(
        name="your data",
        title="Your data",
        num_classes=1,
        shape=shape,
        mean=(0.0,) * shape[0],
        std=(1.0,) * shape[0],
        validation=0.0,
        source="a loader",
        split="none",
        read=lambda folder: NotImplemented,
    )
    nothing: Any = OwnSplit(None)
    split: Any = train
    return Dataset(info=info, train=split, val=nothing, test=nothing, sha256="")
