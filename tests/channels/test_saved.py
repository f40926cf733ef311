"""What units save, one after the other, against counts of the network that is left."""

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


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_savings_add_up_to_what_is_counted_after_removal(name):
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
