"""This project's networks and torchvision's: masked equals removed."""

from __future__ import annotations

import pytest
import torch
import torchvision

from prunebench.channels.costs import costs_of
from prunebench.channels.removal import mask, remove
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import largest_difference, randomized, verify
from prunebench.models import registry

FROZEN = {"reads the network's input", "is an output of the network"}


def random_plan(graph, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randperm(group.n_units, generator=generator)[: group.n_units // 2]
        for name, group in graph.groups.items()
    }


def build(name, in_channels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return registry.build(name, num_classes=7, in_channels=in_channels)


@pytest.mark.parametrize(("in_channels", "size"), [(1, 8), (3, 32), (3, 40)])
@pytest.mark.parametrize(
    "name", ["resnet20", "resnet56", "vgg16_x0_25", "vgg19_x0_25", "mobilenet_v1_x0_25"]
)
def test_masked_equals_removed(name, in_channels, size):
    net, example = randomized(build(name, in_channels), 0), torch.rand(2, in_channels, size, size)
    example = example.double()
    graph = trace(net, example)
    plan = random_plan(graph, seed=1)
    smaller = remove(net, graph, plan)
    assert {group.frozen for group in graph.frozen.values()} == FROZEN
    assert largest_difference(mask(net, graph, plan), smaller, example) < 1e-9
    assert list(trace(smaller, example).groups) == list(graph.groups)


@pytest.mark.parametrize(
    "name",
    [
        "googlenet_x0_1",
        "mobilenet_v2_x0_1",
        "regnetx_0_2gf_x0_5",
        "resnet18_x0_1",
        "resnet20_projection",
        "resnet34_cifar_x0_1",
        "resnet50_caffe_x0_1",
        "resnext50_32x4d_x0_5",
        "vgg16_imagenet_x0_0625",
    ],
)
def test_masked_equals_removed_in_the_larger_networks(name):
    net, example = randomized(build(name, 3), 0), torch.rand(2, 3, 64, 64).double()
    graph = trace(net, example)
    plan = random_plan(graph, seed=1)
    assert {group.frozen for group in graph.frozen.values()} == FROZEN
    assert largest_difference(mask(net, graph, plan), remove(net, graph, plan), example) < 1e-9


@pytest.mark.parametrize(
    ("name", "frozen"),
    [("convnet", FROZEN), ("lenet5", FROZEN)],
)
def test_masked_equals_removed_in_caffe_s_networks(name, frozen):
    net, example = randomized(build(name, 3), 0), torch.rand(2, 3, 32, 32).double()
    graph = trace(net, example)
    plan = random_plan(graph, seed=1)
    assert {group.frozen for group in graph.frozen.values()} == frozen
    assert largest_difference(mask(net, graph, plan), remove(net, graph, plan), example) < 1e-9


def test_response_norm_across_channels_freezes_what_it_reads():
    graph = trace(build("alexnet_x0_1", 3), torch.rand(1, 3, 67, 67))
    assert "stages.0.0.conv" not in graph.groups
    assert "stages.2.0.conv" in graph.groups


@pytest.mark.parametrize("name", ["retinanet_r50_fpn", "atss_r50_fpn", "faster_rcnn_r50_fpn"])
def test_detectors_have_group_fisher_s_groups(name):
    graph = trace(build(name, 3), torch.rand(1, 3, 64, 64))
    streams = {g.n_units for g in graph.groups.values() if g.role == "stream"}
    assert {256, 512, 1024, 2048} <= streams
    outputs = {f"pyramid.outputs.{level}.weight" for level in range(3)}
    (laterals,) = (g for g in graph.groups.values() if "pyramid.laterals.0.weight" in g.producers)
    read = {n for m in laterals.members if m.role == "in" for n in m.parameters}
    assert outputs <= read


@pytest.mark.parametrize("name", ["resnet20_x0_0625", "mobilenet_v1_x0_03125"])
def test_networks_of_one_channel_are_traced(name):
    report = verify(build(name, 1), torch.rand(1, 1, 8, 8))
    assert report.broken == {}


def test_resnet56_macs_are_as_printed():
    graph = trace(registry.build("resnet56", num_classes=10), torch.rand(1, 3, 32, 32))
    assert costs_of(graph).macs() == 125_485_696


def test_streams_of_a_resnet_are_one_group_per_stage():
    graph = trace(build("resnet20", 3), torch.rand(1, 3, 8, 8))
    streams = {name: g.n_units for name, g in graph.groups.items() if g.role == "stream"}
    assert streams == {"conv1": 16, "stages.1.0.conv2": 16, "stages.2.0.conv2": 32}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet18", "vgg11_bn", "mobilenet_v2", "densenet121", "squeezenet1_1", "googlenet"],
)
def test_torchvision_networks_are_followed_exactly(name):
    # Auxiliary heads run in training alone, which a trace of evaluation does not see.
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    net, example = getattr(torchvision.models, name)(**options), torch.rand(1, 3, 64, 64)
    graph = trace(net, example)
    report = verify(net, example)
    assert {group.frozen for group in graph.frozen.values()} == FROZEN
    assert report.broken == {}
    assert report.largest < 1e-12
