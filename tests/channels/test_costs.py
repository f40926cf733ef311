from __future__ import annotations

import pytest
import torch

from prunebench.channels.costs import costs_of
from prunebench.channels.removal import remove
from prunebench.channels.trace import trace


def test_macs_count_each_weight_once_per_position(two_layer_net):
    costs = costs_of(trace(two_layer_net, torch.ones(4, 1, 5, 5)))
    # 25 positions, 3 and 6 weights; the batch of 4 does not count
    assert costs.layer_macs() == {"first.weight": 75, "second.weight": 150}
    assert costs.macs() == 225


def test_macs_follow_the_units_kept(two_layer_net):
    costs = costs_of(trace(two_layer_net, torch.ones(1, 1, 5, 5)))
    assert costs.macs({"first": 2}) == 150


def test_macs_of_a_linear_layer_count_its_weights(flatten_net):
    costs = costs_of(trace(flatten_net, torch.ones(2, 1, 2, 2)))
    assert costs.layer_macs({"conv": 2}) == {"conv.weight": 8, "fc.weight": 16}


def test_params_count_trainable_ones_and_shared_ones_once(two_layer_net):
    two_layer_net.first.bias.requires_grad_(False)
    two_layer_net.twin = torch.nn.Module()
    two_layer_net.twin.weight = two_layer_net.second.weight
    two_layer_net.forward = lambda x: two_layer_net.second(two_layer_net.first(x))
    costs = costs_of(trace(two_layer_net, torch.ones(1, 1, 1, 1)))
    assert costs.params() == 3 + 6
    assert costs.params({"first": 1}) == 1 + 2


@pytest.mark.parametrize(
    "name", ["option_a_net", "depthwise_net", "relu_before_norm_net", "transposed_net"]
)
def test_forecast_equals_the_count_after_removal(request, name):
    net, example = request.getfixturevalue(name), torch.rand(2, 3, 8, 8)
    graph = trace(net, example)
    removed = {name: torch.arange(1, group.n_units, 2) for name, group in graph.groups.items()}
    kept = {name: group.n_units - len(removed[name]) for name, group in graph.groups.items()}
    smaller = remove(net, graph, removed)
    after = costs_of(trace(smaller, example))
    assert costs_of(graph).layer_macs(kept) == after.layer_macs()
    assert costs_of(graph).params(kept) == sum(p.numel() for p in smaller.parameters())


def test_unknown_group_is_refused(two_layer_net):
    costs = costs_of(trace(two_layer_net, torch.ones(1, 1, 1, 1)))
    with pytest.raises(ValueError, match="unknown group 'frist'"):
        costs.macs({"frist": 1})
