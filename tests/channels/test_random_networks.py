"""Masked equals removed on random networks; the mask is written here, from the groups alone."""

from __future__ import annotations

import copy
import random
from statistics import median
from typing import Literal, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import remove
from prunebench.channels.roles import layer_roles
from prunebench.channels.trace.tracer import trace
from tests.channels.random_networks import SIZE, networks

TOLERANCE = 1e-9
Grouped = Literal["auto", "whole", "local"]
GROUPED: tuple[Grouped, ...] = get_args(Grouped)
SEEDS = st.integers(0, 2**32 - 1)

fast = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
slow = settings(fast, max_examples=1000, derandomize=False, print_blob=True)


def filled(net: nn.Module, seed: int) -> nn.Module:
    """Give all weights and statistics values that differ in every channel."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = max(parameter[0].numel() if parameter.ndim > 1 else 1, 1)
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise / fan_in**0.5)
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):  # variances stay positive
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return net


def some_units(graph: ChannelGraph, seed: int) -> dict[str, Tensor]:
    """Choose units of most groups; at least one unit of each group stays."""
    draw = random.Random(seed)
    counts = {
        name: draw.randrange(group.n_units) if draw.random() < 0.8 else 0
        for name, group in graph.groups.items()
    }
    return {
        name: torch.tensor(draw.sample(range(graph.groups[name].n_units), count))
        for name, count in counts.items()
        if count
    }


def masked(net: nn.Module, graph: ChannelGraph, units: dict[str, Tensor]) -> nn.Module:
    """Zero the columns that read the units, in every consumer."""
    silent = copy.deepcopy(net)
    tensors = dict(silent.named_parameters())
    with torch.no_grad():
        for name, gone in units.items():
            for member in graph.groups[name].members:
                if member.role == "in":
                    for column in member.index[gone].flatten().tolist():
                        tensors[member.parameters[0]].select(member.dim, column).zero_()
    return silent


def difference(a: nn.Module, b: nn.Module, example: Tensor) -> float:
    with torch.no_grad():
        expected, found = a(example), b(example)
    assert expected.isfinite().all()
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-30))


def images(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)


def check_removal(net: nn.Module, grouped: Grouped, seed: int) -> ChannelGraph:
    """Check that masked equals removed in both modes, and that all chosen units are removed."""
    graph = trace(net, images(seed)[:1], grouped=grouped)
    units = some_units(graph, seed)
    silent, smaller = masked(net, graph, units), remove(net, graph, units)
    for training in (False, True):
        found = difference(silent.train(training), smaller.train(training), images(seed))
        assert found < TOLERANCE, f"{units} in training {training}: {found}"
    for name in units:
        for weight in graph.groups[name].producers:
            assert smaller.get_parameter(weight).numel() < net.get_parameter(weight).numel()
    return graph


def check_training(net: nn.Module, graph: ChannelGraph, seed: int) -> None:
    """Check that a step on the smaller network works and does not change the original."""
    smaller = remove(net, graph, some_units(graph, seed)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    start = {name: tensor.clone() for name, tensor in smaller.named_parameters()}
    smaller(images(seed)).square().sum().backward()
    torch.optim.SGD(smaller.parameters(), lr=0.1).step()
    assert any(not torch.equal(tensor, start[name]) for name, tensor in smaller.named_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def check(net: nn.Module, seed: int) -> float:
    """Check one network with each kind of units; return the share of its layers that can shrink."""
    filled(net, seed)
    for grouped in GROUPED:
        graph = check_removal(net, grouped, seed)
    check_training(net, graph, seed)
    produced = {weight for group in graph.groups.values() for weight in group.producers}
    layers = [weight for weight, role in layer_roles(graph).items() if role.place != "head"]
    return len(produced.intersection(layers)) / len(layers)


def test_masked_equals_removed_and_training_goes_on() -> None:
    shares = []

    @fast
    @given(net=networks, seed=SEEDS)
    def run(net: nn.Module, seed: int) -> None:
        shares.append(check(net, seed))

    run()
    assert len(shares) >= 50
    # nothing is proven about what is frozen: most layers must not be
    assert median(shares) >= 0.6


@pytest.mark.slow
@slow
@given(net=networks, seed=SEEDS)
def test_a_thousand_networks(net: nn.Module, seed: int) -> None:
    check(net, seed)
