from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from benchmarks import zoo
from benchmarks.coverage import random_plan

from prunebench.channels.costs import costs_of
from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.measure.layer_counts import count_layers
from prunebench.measure.macs import count_macs

FAST = ["mobilenet_v3_small", "shufflenet_v2_x0_5", "timm/resnest14d"]
SLOW = [
    "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "mnasnet0_5",
    "mobilenet_v2", "prunebench/resnet20", "regnet_x_400mf", "regnet_y_400mf", "resnet50",
    "resnext50_32x4d", "squeezenet1_1", "timm/dla46x_c", "timm/ese_vovnet19b_dw",
    "timm/ghostnet_050", "timm/hrnet_w18_small", "timm/rexnet_100", "vgg11_bn",
]  # fmt: skip


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


def test_output_elements_count_every_call_of_convolutions_and_linear_layers(two_block_net):
    costs = costs_of(trace(two_block_net, torch.ones(2, 3, 8, 8)))
    assert costs.layer_activations() == {
        "stem.weight": 4 * 64,
        "b1c1.weight": 6 * 64,
        "b1c2.weight": 4 * 64,
        "b2c1.weight": 8 * 16,
        "b2c2.weight": 10 * 16,
        "down.weight": 10 * 16,
        "fc.weight": 5,
    }
    assert costs.activations() == 1349
    assert costs.macs() == 51_378


@pytest.mark.parametrize(
    ("group", "activations", "macs"),
    [
        # 64 in stem and b1c2; 27·64 + 9·6·64 in those, 9·6·64 + 9·8·16 + 10·16 in the readers
        ("stem", 128, 9952),
        ("b1c1", 64, 4608),  # 9·4·64 in itself, 9·4·64 in b1c2
        ("b2c1", 16, 2016),  # 9·4·16 in itself, 9·10·16 in b2c2
        ("b2c2", 32, 1221),  # 9·8·16 in itself, 4·16 in down, 5 in fc
    ],
)
def test_cost_of_a_unit(two_block_net, group, activations, macs):
    costs = costs_of(trace(two_block_net, torch.ones(2, 3, 8, 8)))
    found = costs.unit_cost(group)
    assert (found.activations, found.macs) == (activations, macs)


def test_cost_of_a_unit_shrinks_with_removed_units(two_block_net):
    costs = costs_of(trace(two_block_net, torch.ones(1, 3, 8, 8)))
    # 9·64 weights' products for each of stem's 3 left, in b1c1 itself and in b1c2
    assert costs.unit_cost("b1c1", {"stem": 3}).macs == 2 * 9 * 3 * 64
    assert costs.unit_cost("b1c1", {"stem": 3}).params == 2 * 9 * 3 + 2
    assert costs.unit_cost("b1c1", {"stem": 3}).activations == 64


@pytest.mark.parametrize("grouped", ["whole", "local"])
def test_units_of_a_grouped_convolution_cost_what_is_saved(grouped_net, grouped):
    example = torch.ones(1, 3, 4, 4)
    graph = trace(grouped_net, example, grouped=grouped)
    costs = costs_of(graph)
    smaller = costs_of(trace(remove(grouped_net, graph, {"stem": torch.tensor([1])}), example))
    saved = costs.unit_cost("stem")
    assert saved.macs == costs.macs() - smaller.macs()
    assert saved.params == costs.params() - smaller.params()
    assert saved.activations == costs.activations() - smaller.activations()


def test_cost_of_a_unit_of_an_empty_group_is_refused(two_block_net):
    costs = costs_of(trace(two_block_net, torch.ones(1, 3, 8, 8)))
    with pytest.raises(ValueError, match="'b1c1' has no unit left"):
        costs.unit_cost("b1c1", {"b1c1": 0})


@pytest.mark.parametrize(
    "name", ["option_a_net", "depthwise_net", "relu_before_norm_net", "transposed_net", "tied_net"]
)
def test_forecast_equals_the_count_after_removal(request, name):
    net, example = request.getfixturevalue(name), torch.rand(2, 3, 8, 8)
    graph = trace(net, example)
    removed = {name: torch.arange(1, group.n_units, 2) for name, group in graph.groups.items()}
    kept = {name: group.n_units - len(removed[name]) for name, group in graph.groups.items()}
    smaller = remove(net, graph, removed)
    after = costs_of(trace(smaller, example))
    assert costs_of(graph).layer_macs(kept) == after.layer_macs()
    assert costs_of(graph).layer_activations(kept) == after.layer_activations()
    assert costs_of(graph).params(kept) == sum(p.numel() for p in smaller.parameters())


def test_unknown_group_is_refused(two_layer_net):
    costs = costs_of(trace(two_layer_net, torch.ones(1, 1, 1, 1)))
    with pytest.raises(ValueError, match="unknown group 'frist'"):
        costs.macs({"frist": 1})


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_savings_add_up_to_the_counts_after_removal(name):
    model, (x,) = zoo.build(name), zoo.example(name)
    x = x.float()
    graph = trace(model, x)
    costs = costs_of(graph)
    plan = random_plan(graph, 0.3)
    left = {group: graph.groups[group].n_units for group in graph.groups}
    saved = Counter()
    leaving = [group for group, units in plan.items() for _ in units]
    for group in random.Random(0).sample(leaving, len(leaving)):
        one = costs.unit_cost(group, left)
        saved.update(macs=one.macs, params=one.params, activations=one.activations)
        left[group] -= 1
    smaller = remove(model, graph, plan)
    assert costs.macs() - saved["macs"] == costs.macs(left) == count_macs(smaller, x).total
    n_params = sum(parameter.numel() for parameter in smaller.parameters())
    assert costs.params() - saved["params"] == costs.params(left) == n_params
    layers = [layer for layer in count_layers(smaller, x) if layer.kind in ("conv", "linear")]
    outputs = sum(layer.outputs for layer in layers)
    assert costs.activations() - saved["activations"] == costs.activations(left) == outputs
    assert torch.isfinite(smaller(x)).all()
