"""Networks of other libraries: masked equals removed for 30 % and 70 % of all units."""

from __future__ import annotations

import pytest
from benchmarks import zoo
from benchmarks.coverage import measure

from prunebench.channels.trace.tracer import passed, trace
from prunebench.channels.trace.units import graph_of

# Small ones of different kinds: fire modules, inverted residuals and gates, shuffles, dense and
# aggregated concatenations, splits, multi-branch, layer norm, 3-D, segmentation, detectors.
FAST = {
    "mobilenet_v3_small": 0.98,
    "shufflenet_v2_x0_5": 0.98,
    "squeezenet1_1": 0.96,
    "lraspp_mobilenet_v3_large": 0.96,
    "timm/dla46x_c": 0.97,
    "timm/fasternet_t0": 0.6,
    "timm/ghostnet_050": 0.98,
    "timm/resnest14d": 0.96,
    "timm/convnext_atto": 0.29,
}


@pytest.mark.parametrize(("name", "layers"), FAST.items())
def test_small_networks(name, layers):
    row = measure(name, also_torch_pruning=False)
    assert row.error < 1e-9
    assert row.layers >= layers
    assert row.macs < 0.9


def spelled(graph):
    groups = [*graph.groups.values(), *graph.frozen.values()]
    members = [
        (group.name, member.parameters, member.dim, member.role, member.index.tolist())
        for group in groups
        for member in group.members
    ]
    return [(g.name, g.role, g.frozen) for g in groups], members, graph.calls, graph.flow


@pytest.mark.parametrize("name", FAST)
def test_shapes_alone_say_the_same_as_values(name):
    model, inputs = zoo.build(name).double(), zoo.example(name)
    by_shape, computed = (
        graph_of(passed(model, inputs, "auto", ("eval",), computing=computing), batch=2)
        for computing in (False, True)
    )
    assert spelled(by_shape) == spelled(computed)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.ALL if name not in FAST])
def test_all_networks(name):
    row = measure(name, also_torch_pruning=False)
    assert row.error < 1e-9
    assert row.groups > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.TORCHVISION)
def test_only_layer_norm_freezes_channels_of_classifiers(name):
    model, inputs = zoo.build(name).double(), zoo.example(name)
    ends = {"reads the network's input", "is an output of the network"}
    others = {g.frozen for g in trace(model, inputs).frozen.values()} - ends
    assert all("layer norm" in reason for reason in others)
