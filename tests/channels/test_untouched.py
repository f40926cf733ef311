"""Tracing, checking and counting leave a network as it was, whatever its `forward` writes to."""

from __future__ import annotations

import hashlib
import random
from collections import deque

import numpy as np
import pytest
import torch
import torchvision
from benchmarks import zoo
from torch import nn

from prunebench.channels.trace.tracer import trace
from prunebench.channels.untouched import untouched
from prunebench.channels.verify import largest_difference, verify
from prunebench.measure.layer_counts import count_layers
from prunebench.measure.macs import count_macs
from tests.channels.conftest import named


class AssignedBuffer(nn.Module):
    """A running average that is assigned to its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.full((4, 1, 1), 2.0))

    def forward(self, x):
        self.average = 0.9 * self.average + 0.1 * x.detach().mean((0, 2, 3))[:, None, None]
        return x - self.average


class WrittenBuffer(AssignedBuffer):
    """A running average that is written in place, below autograd."""

    def forward(self, x):
        self.average.data.mul_(0.9).add_(0.1 * x.mean((0, 2, 3))[:, None, None])
        return x - self.average


class PlainTensor(nn.Module):
    """A running average in a tensor that is no buffer, and one in an array."""

    def __init__(self):
        super().__init__()
        self.average = torch.full((1,), 2.0)
        self.array = np.full(1, 2.0)

    def forward(self, x):
        self.average.mul_(0.9).add_(0.1)
        self.array *= 0.9
        return x


class FirstBatch(nn.Module):
    """An initialization of parameters from the first batch, as in ActNorm."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.register_buffer("is_ready", torch.tensor(0))
        self.was_ready = False

    def forward(self, x):
        if not self.was_ready:
            self.shift.data.copy_(-x.mean((0, 2, 3), keepdim=True))
            self.scale.data = 1 / (x.std((0, 2, 3), keepdim=True) + 1e-6)
            self.is_ready.fill_(1)
            self.was_ready = True
        return self.scale * (x + self.shift)


class Merged(nn.Module):
    """Two weights that are merged and cached at first use; the branches are deleted."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.last = nn.Identity()

    def forward(self, x):
        if not hasattr(self, "merged"):
            self.merged = nn.Conv2d(4, 4, 1)
            self.merged.weight = nn.Parameter(self.one.weight + self.other.weight)
            self.merged.bias = nn.Parameter(self.one.bias + self.other.bias)
            del self.one, self.other
        return self.last(self.merged(x))


class MergedByMode(nn.Module):
    """A weight that `eval` merges and `train` separates again, as in LoRA."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1, 1))
        self.delta = nn.Parameter(torch.full((4, 1, 1), 0.5))
        self.merged = False

    def train(self, mode=True):
        if mode == self.merged:
            self.weight.data += -self.delta if mode else self.delta
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return x * (self.weight if self.merged else self.weight + self.delta)


class Average:
    def __init__(self):
        self.value = torch.zeros(1)
        self.count = 0

    def update(self, x):
        self.value = self.value + x.detach().mean()
        self.count += 1


class Notes(nn.Module):
    """Counters, containers and an object that remember the calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.shapes, self.recent, self.kinds = [], deque(maxlen=2), {"a"}
        self.cache = {"inner": {}}
        self.average = Average()

    def forward(self, x):
        self.calls += 1
        self.shapes.append(x.shape)
        self.recent.append(self.calls)
        self.kinds.add(x.dtype)
        self.cache["inner"][self.calls] = x
        self.cache["last"] = x
        self.average.update(x)
        self.register_forward_hook(lambda *_: None)
        return x


class Noise(nn.Module):
    """Draws from every source of random numbers, also in eval mode."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)
        self.python, self.numpy = random.Random(3), np.random.default_rng(3)

    def forward(self, x):
        numbers = [random.random(), np.random.rand(), self.python.random(), self.numpy.random()]  # noqa: NPY002
        return x + 0 * (torch.rand(1) + torch.rand(1, generator=self.generator) + sum(numbers))


STATEFUL = [AssignedBuffer, WrittenBuffer, PlainTensor, FirstBatch, Merged, MergedByMode, Notes,
            Noise]  # fmt: skip
RUNS = {
    "trace": trace,
    "trace in both modes": lambda net, x: trace(net, x, modes=("train", "eval")),
    "verify": lambda net, x: verify(net, x, modes=("eval", "train")),
    "largest difference": lambda net, x: largest_difference(net, net, x),
    "count layers": count_layers,
    "count MACs": count_macs,
}


def described(value):
    """Describe an object by its values and, for tensors and modules, by its identity too."""
    if isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        flags = (value.requires_grad, value.grad is None)
        return id(value), value.data_ptr(), hashlib.sha256(raw.tobytes()).hexdigest(), flags
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return [(key, described(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return [described(item) for item in value]
    if isinstance(value, set):
        return set(value)
    if isinstance(value, nn.Module | Average):
        return [type(value), id(value), described(vars(value))]
    return value


def everything(net, x):
    numpy = np.random.get_state()  # noqa: NPY002
    return (
        described(net),
        described(x),
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(numpy),
    )


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("stateful", STATEFUL, ids=lambda kind: kind.__name__)
def test_network_and_random_states_are_left_as_they_were(stateful, run, training):
    net = named(conv=nn.Conv2d(3, 4, 1), stateful=stateful(), head=nn.Conv2d(4, 2, 1))
    net.train(training)
    x = torch.rand(2, 3, 4, 4)
    before = everything(net, x)
    run(net, x)
    assert everything(net, x) == before


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_input_is_left_as_it_was(run):
    net = named(act=nn.ReLU(inplace=True), conv=nn.Conv2d(3, 4, 1), head=nn.Conv2d(4, 2, 1))
    x = torch.randn(2, 3, 4, 4)
    before = x.clone()
    run(net, x)
    assert torch.equal(x, before)


def test_statistics_of_batch_norm_are_left_alone_when_train_mode_is_traced():
    net, x = torchvision.models.mobilenet_v3_small().train(), torch.rand(2, 3, 32, 32)
    before = everything(net, x)
    trace(net, x, modes=("train", "eval"))
    assert everything(net, x) == before


ZOO = ["mobilenet_v3_small", "timm/ghostnet_050", "timm/resnest14d", "lraspp_mobilenet_v3_large"]


@pytest.mark.parametrize(
    "name",
    [*ZOO, *(pytest.param(n, marks=pytest.mark.slow) for n in zoo.ALL if n not in ZOO)],
)
def test_networks_of_other_libraries_are_left_as_they_were(name):
    net, inputs = zoo.build(name).double(), zoo.example(name)
    before = everything(net, inputs)
    trace(net, inputs)
    assert everything(net, inputs) == before


def test_gradients_are_left_alone():
    class Differentiates(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            with torch.enable_grad():
                self.conv(x).sum().backward()
            return self.conv(x)

    net = Differentiates()
    net(torch.rand(1, 3, 2, 2))
    before = described(net)
    gradient = net.conv.weight.grad.clone()
    trace(net, torch.rand(1, 3, 2, 2))
    assert described(net) == before
    assert torch.equal(net.conv.weight.grad, gradient)


def test_results_that_hooks_collect_are_kept():
    class Collector:
        def __init__(self):
            self.outputs = []

        def __call__(self, module, args, out):
            self.outputs.append(out)

    net, collector = nn.Conv2d(3, 4, 1), Collector()
    net.register_forward_hook(collector)
    with untouched(net):
        net(torch.rand(1, 3, 2, 2))
    assert len(collector.outputs) == 1
