"""A run without data sets or files, driven by the places that the training loop gives to hooks."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunebench.channels.costs import costs_of
from prunebench.channels.plan import Plan
from prunebench.channels.removal import kept_units, remove, slicing
from prunebench.channels.trace.tracer import trace
from prunebench.channels.untouched import untouched
from prunebench.criteria.base import Needs
from prunebench.experiments.phases import Epochs, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Before, Method
from prunebench.models.registry import build


class FakeRun:
    """What a method sees of a run (`methods.run.Run`), on the CPU."""

    def __init__(self, model: nn.Module, example: Tensor, *, per_epoch: int = 3) -> None:
        self.seed, self.per_epoch, self.device = 0, per_epoch, torch.device("cpu")
        self.example = example
        self.adopt(model)
        self.sizes = {name: group.n_units for name, group in self.graph.groups.items()}
        self.kept = {name: torch.arange(n) for name, n in self.sizes.items()}
        self.base_macs, self.base_params = self.costs.macs(), self.costs.params()
        self.source_kept: dict[str, Tensor] | None = None
        self.masks: dict[str, Tensor] = {}
        self.divisor = 4.0  # images of a batch, `backward`
        self.phase, self.phases = Phase(name="select"), ()
        self.clock, self.epoch, self.epochs = 0, 0, 0.0
        self.steps = 0  # over all phases
        self.logged: list[tuple[int, str, str, float]] = []
        self.ended: list[str] = []  # phases that met their cap before they were finished

    def adopt(self, model: nn.Module) -> None:
        self.model = model.train()
        self.graph = trace(model, self.example)
        self.costs = costs_of(self.graph)
        self.params = dict(model.named_parameters())

    def generator(self, *purpose: str | int) -> torch.Generator:
        words = repr((self.seed, self.phase.name, purpose)).encode()
        return torch.Generator().manual_seed(zlib.crc32(words))

    def samples(self, needs: Needs) -> Iterator[tuple[Tensor, Tensor]]:
        """Noise, with as many labels as the network has outputs."""
        generator = self.generator("samples")
        with untouched(self.model), torch.no_grad():
            classes = self.model(self.example).flatten(1).shape[1]
        groups: list[int | None] = list(range(classes)) if needs.by_class else [None]
        for label in groups:
            for start in range(0, needs.samples, needs.batch):
                shape = (min(needs.batch, needs.samples - start), *self.example.shape[1:])
                labels = torch.randint(classes, shape[:1], generator=generator)
                images = torch.randn(shape, generator=generator, dtype=self.example.dtype)
                yield images, labels if label is None else torch.full(shape[:1], label)

    def log(self, layer: str, quantity: str, value: Tensor) -> None:
        assert value.numel() == 1
        self.logged.append((self.epoch, layer, quantity, float(value)))

    def summed(self, tensor: Tensor) -> Tensor:
        return tensor

    def keep(self, slot: str) -> None:
        raise NotImplementedError

    def validate(self) -> float:
        raise NotImplementedError

    def initialize(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for module in self.model.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()

    def train(
        self,
        method: Method[Any],
        phases: list[Phase],
        *,
        spy: Callable[[FakeRun], None] = lambda run: None,
    ) -> None:
        """Run all phases; `spy` looks just before each optimizer step."""
        self.phases = tuple(phases)
        for phase in phases:
            self.begin(method, phase)
            if phase.recipe is not None:
                self.train_phase(method, phase.recipe, spy)
            if phase.then is not None:
                self.apply(method, method.select(self, phase.then))

    def begin(self, method: Method[Any], phase: Phase) -> None:
        self.phase, self.clock, self.epoch = phase, 0, 0
        self.phases = self.phases or (phase,)
        if phase.length is not None:
            length = method.phase_length(self, phase)
            steps = length.steps(self.per_epoch)
            self.epochs = length.n if isinstance(length, Epochs) else steps / self.per_epoch
        method.before_phase(self)

    def train_phase(
        self, method: Method[Any], recipe: Recipe, spy: Callable[[FakeRun], None]
    ) -> None:
        phase, hooks = self.phase, self.phase.hooks
        assert phase.length is not None
        end = method.phase_length(self, phase).steps(self.per_epoch)
        interval = method.interval.steps(self.per_epoch) if method.interval else 1
        optimizer = torch.optim.SGD(self.params.values(), lr=recipe.lr, momentum=recipe.momentum)
        handles = method.attach(self) if "attach" in hooks else []
        while self.clock < end:
            if "decide" in hooks and self.clock % interval == 0:
                method.decide(self)
                if phase.until_finished and method.finished(self):
                    break
            self.epoch = self.clock // self.per_epoch
            self.backward()
            if "before_optimizer_step" in hooks:
                method.before_optimizer_step(self)
            spy(self)
            optimizer.step()
            if "after_optimizer_step" in hooks:
                method.after_optimizer_step(self)
            self.clock, self.steps = self.clock + 1, self.steps + 1
            if "after_epoch" in hooks and (self.clock % self.per_epoch == 0 or self.clock == end):
                method.after_epoch(self)
        else:
            if phase.until_finished:
                self.ended.append(phase.name)
        for handle in handles:
            handle.remove()

    def backward(self) -> None:
        generator = torch.Generator().manual_seed(self.steps)
        shape, dtype = (4, *self.example.shape[1:]), self.example.dtype
        images = torch.randn(shape, generator=generator, dtype=dtype)
        self.model.zero_grad()
        out = self.model(images).flatten(1)
        labels = torch.randint(out.shape[1], (len(out),), generator=generator)
        F.cross_entropy(out, labels).backward()

    def apply(self, method: Method[Any], plan: Plan) -> None:
        with torch.no_grad():
            for name, mask in plan.zeroed.items():
                self.masks[name] = mask
                self.params[name].mul_(mask)
        cuts = slicing(self.graph, plan.removed)
        tensors = {**self.params, **dict(self.model.named_buffers())}
        before = Before(self.graph, tensors, cuts)
        for name, units in plan.removed.items():
            self.kept[name] = self.kept[name][kept_units(len(self.kept[name]), units)]
        if plan.removed:
            self.adopt(remove(self.model, self.graph, plan.removed))
        method.after_removal(self, plan, before)


def named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def small_resnet(dtype: torch.dtype = torch.float32) -> FakeRun:
    torch.manual_seed(0)
    model = build("resnet20", num_classes=10, in_channels=1).to(dtype)
    return FakeRun(model, torch.zeros(1, 1, 8, 8, dtype=dtype))


@pytest.fixture
def resnet_run() -> FakeRun:
    """ResNet-20 on 8x8 images, epochs of three steps."""
    return small_resnet()


@pytest.fixture
def resnet_run_float64() -> FakeRun:
    """The same in double precision."""
    return small_resnet(torch.float64)


@pytest.fixture
def recipe() -> Recipe:
    """A recipe that leaves the number of epochs to the method."""
    return Recipe(batch_size=4, lr=0.01, weight_decay=0.0)


@pytest.fixture
def bank_run() -> FakeRun:
    """Stem 1 -> 2, convolution 2 -> 8 of 1x2, batch norm, head 8 -> 2: EPruner's example E4."""
    torch.manual_seed(0)
    model = named(
        stem=nn.Conv2d(1, 2, 1),
        conv=nn.Conv2d(2, 8, (1, 2)),
        norm=nn.BatchNorm2d(8),
        head=nn.Conv2d(8, 2, 1),
    )
    return FakeRun(model, torch.zeros(1, 1, 1, 3))


HOST_READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select")


class Operations(TorchDispatchMode):
    """The operations of a block with their plain numbers; reading a tensor on the host raises."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in HOST_READS:
            raise AssertionError(f"{name} reads the device")
        numbers = [arg for arg in args if isinstance(arg, int | float)]
        named = {k: repr(v) for k, v in (kwargs or {}).items() if not isinstance(v, Tensor)}
        self.found.append((name, repr((numbers, named))))
        return func(*args, **(kwargs or {}))


@contextmanager
def recorded() -> Iterator[list[tuple[str, str]]]:
    with Operations() as operations:
        yield operations.found
