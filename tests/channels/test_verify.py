from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from prunebench.channels.removal import mask, remove
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import in_float64, largest_difference, verify
from prunebench.core.errors import ModelError
from tests.channels.conftest import Between


class Counted(nn.Module):
    """The number of channels is hard-coded in a loop, which the tracer cannot see."""

    def __init__(self):
        super().__init__()
        self.free = nn.Conv2d(3, 6, 1)
        self.conv = nn.Conv2d(6, 4, 1)
        self.fc = nn.Linear(16, 2)

    def forward(self, x):
        x = self.conv(self.free(x))
        if list(range(x.shape[1])) != [0, 1, 2, 3]:
            raise ValueError("expected 4 channels")
        return self.fc(x.flatten(1))


@pytest.mark.parametrize("name", ["residual_net", "option_a_net", "relu_before_norm_net"])
def test_networks_that_are_followed_hold(request, name):
    report = verify(request.getfixturevalue(name), torch.rand(2, 3, 8, 8))
    assert report.broken == {}
    assert report.largest < 1e-12


def test_group_that_breaks_is_named_and_can_be_frozen():
    net, example = Counted(), torch.rand(2, 3, 2, 2)
    report = verify(net, example)
    assert list(report.broken) == ["conv"]
    graph = trace(net, example).with_frozen(report.broken)
    assert list(graph.groups) == ["free"]
    assert "stops the network" in graph.frozen["conv"].frozen


@pytest.mark.parametrize(
    "factor",
    [
        lambda c: 1.0 / c,
        lambda c: 2.0 * c,
        lambda c: 0.5 + c - 9.5,
        lambda c: 2.0**c,
        lambda c: 7.0 // c,
        lambda c: 2 if 3.5 < c else 1,  # noqa: SIM300
        lambda c: len(range(c)),
        lambda c: len([1, 2, 3, 4, 5][:c]),
        lambda c: math.log(c),
        lambda c: math.isqrt(c) + math.gcd(c, 4),
        lambda c: len(bytes(c)),
        lambda c: int(f"{c}"),
    ],
)
def test_uses_of_a_number_of_channels_that_python_does_not_tell_of_are_found(factor):
    net, example = Between(lambda x: x * factor(x.shape[1])), torch.rand(2, 3, 4, 4)
    broken = verify(net, example).broken
    assert list(broken) == ["conv"]
    assert broken["conv"].startswith("removing [0] changes the output by ")
    frozen = trace(net, example).with_frozen(broken).frozen["conv"].frozen
    assert frozen == broken["conv"]


def test_verify_leaves_the_model_alone(residual_net):
    before = {k: v.clone() for k, v in residual_net.state_dict().items()}
    verify(residual_net, torch.rand(1, 3, 4, 4))
    assert residual_net.training
    assert all(torch.equal(v, before[k]) for k, v in residual_net.state_dict().items())


def test_network_that_does_not_run_is_an_error(residual_net):
    with pytest.raises(ModelError, match="does not run"):
        verify(residual_net, torch.rand(1, 2, 4, 4))


def test_largest_difference_is_relative_to_the_largest_output(two_layer_net):
    doubled = copy.deepcopy(two_layer_net)
    doubled.second.weight.data *= 2
    assert largest_difference(two_layer_net, two_layer_net, torch.ones(1, 1, 1, 1)) == 0
    assert largest_difference(two_layer_net, doubled, torch.ones(1, 1, 1, 1)) == 1


class Silent(nn.Module):
    """Layers before an output that tells nothing: zeros of a new head, or no box at all."""

    def __init__(self, selects: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.head, self.selects = nn.Conv2d(4, 2, 1), selects
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x):
        scores = self.head(self.second(self.first(x).relu()))
        return scores[scores > 0.5] if self.selects else scores


@pytest.mark.parametrize("selects", [False, True], ids=["zeros", "nothing"])
def test_layers_are_compared_if_the_output_tells_nothing(selects):
    model, example = Silent(selects), torch.rand(2, 3, 8, 8)
    graph = trace(model, example)
    units = {"first": torch.tensor([0, 3])}
    masked, other = mask(model, graph, units), {"first": torch.tensor([1, 2])}
    assert largest_difference(masked, remove(model, graph, units), example) < 1e-12
    assert largest_difference(masked, remove(model, graph, other), example) > 1e-3


def test_a_wrong_group_behind_an_output_that_tells_nothing_is_named():
    class Counting(Silent):
        def forward(self, x):
            x = self.first(x)
            return self.head(self.second(x * (1.0 / x.shape[1])))

    assert list(verify(Counting(False), torch.rand(1, 3, 8, 8)).broken) == ["first"]


def test_a_network_without_groups_that_does_not_repeat_is_an_error():
    class Counting(nn.Linear):
        calls = itertools.count(1)  # shared by all copies

        def forward(self, x):
            return super().forward(x) * next(self.calls)

    with pytest.raises(
        ModelError, match=r"removing nothing changes the output by .* same output twice"
    ):
        verify(Counting(3, 2), torch.rand(2, 3))


class Shared(nn.Module):
    """Parameters that are shared, computed from others, packed in lists, or already in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(4, 8, batch_first=True)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.normed.parametrizations.weight.original1
        self.exact = nn.Linear(8, 8, dtype=torch.float64)
        self.register_buffer("mean", torch.rand(8))

    def forward(self, x):
        own = self.tied(self.normed(self.recurrent(x)[0])) - self.mean
        return self.exact(own.double())


def test_a_copy_in_float64_is_that_of_pytorch():
    model = Shared()
    copied, expected = in_float64(model), copy.deepcopy(model).double()
    x = torch.rand(2, 3, 4, dtype=torch.float64)
    assert torch.equal(copied(x), expected(x))
    assert copied.tied.weight is copied.normed.parametrizations.weight.original1
    assert copied.exact.weight is not model.exact.weight
    assert model.tied.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.view(2, 4, 2, 2), "does not run on 3 examples; its batch size must not be"),
        (lambda x: x @ torch.ones(2, 2), "does not run in float64, in which networks are compared"),
    ],
)
def test_network_that_cannot_be_compared_is_an_error(function, message):
    with pytest.raises(ModelError, match=message):
        verify(Between(function), torch.rand(2, 3, 2, 2))


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
def test_torchscript_is_refused_by_name():
    net, example = Between(nn.Identity()), torch.rand(2, 3, 2, 2)
    net.conv = torch.jit.script(net.conv)
    with pytest.raises(ModelError, match="module 'conv' is in TorchScript"):
        trace(net, example)
    whole = Between(nn.Identity()).eval()
    for script in (torch.jit.script(whole), torch.jit.trace(whole, example)):
        for network in (script, torch.jit.freeze(script)):
            with pytest.raises(ModelError, match="the network is in TorchScript"):
                verify(network, example)


def divided(x):
    return x / x.size(1)


class Hidden(list):
    """A list of modules that PyTorch does not see as such."""

    def __call__(self, x):
        return self[0](x)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_functions_are_refused_by_name_and_work_afterwards():
    example, channels = torch.rand(2, 3, 2, 2), torch.rand(2, 4, 2, 2)
    in_script, in_trace = torch.jit.script(divided), torch.jit.trace(divided, channels)
    forked = lambda x: torch.jit.wait(torch.jit.fork(in_script, x))  # noqa: E731
    module = Hidden([torch.jit.script(nn.Conv2d(4, 4, 1))])
    for function, name in ((in_script, "divided"), (forked, "divided"), (module, "forward")):
        with pytest.raises(ModelError, match=f"function '{name}' is in TorchScript"):
            trace(Between(function), example)
    with pytest.raises(ModelError, match="function 'divided' is in TorchScript"):
        verify(Between(in_trace), example)
    for function in (in_script, in_trace, forked):
        assert torch.equal(function(channels), divided(channels))
    assert module(channels).shape == channels.shape
