"""Coupled channels of detectors: masked equals removed, in raw outputs and in found boxes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import mask, remove
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import randomized, verify
from prunebench.models.registry import build

SMALL = [
    "retinanet_r18_fpn_x0_0625",
    "fsaf_r18_fpn_x0_0625",
    "atss_r18_fpn_x0_0625",
    "paa_r18_fpn_x0_0625",
    "faster_rcnn_r18_fpn_x0_0625",
]
TORCHVISION = [
    "ssdlite320_mobilenet_v3_large",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("retinanet_resnet50_fpn", "fcos_resnet50_fpn", "fasterrcnn_resnet50_fpn")
    ),
]
FROZEN = {"reads the network's input", "is an output of the network"}
RESHAPED = "reshaped to hard-coded sizes"  # torchvision's outputs


def built(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(name, num_classes=3)


def half_of(graph: ChannelGraph) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randperm(group.n_units, generator=generator)[: group.n_units // 2]
        for name, group in graph.groups.items()
    }


def images(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 3, 64, 64, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", SMALL)
def test_every_group_can_be_removed(name: str) -> None:
    report = verify(built(name), images(1).float())
    assert report.broken == {}
    assert report.largest < 1e-12


@pytest.mark.parametrize("name", [*SMALL, *TORCHVISION])
def test_a_smaller_detector_computes_and_finds_what_the_masked_one_does(name: str) -> None:
    model, x = randomized(built(name), 0), images(2)
    if name.startswith("fsaf"):  # distances to the sides of a box are positive
        nn.init.constant_(model.get_submodule("head.boxes").bias, 0.5)
    graph = trace(model, x[:1])
    assert {group.frozen for group in graph.frozen.values()} - {RESHAPED} == FROZEN
    assert sum(group.n_units for group in graph.frozen.values()) < 200  # outputs, input
    assert graph.unused == ()
    plan = half_of(graph)
    masked, smaller = (cut(model, graph, plan).eval() for cut in (mask, remove))
    with torch.no_grad():
        for expected, found in zip(*map(tree_leaves, (masked(x), smaller(x))), strict=True):
            assert torch.allclose(expected, found, rtol=1e-9, atol=1e-9)
        sizes = torch.tensor([[64, 64], [50, 40]])
        for own, other in zip(masked.detect(x, sizes), smaller.detect(x, sizes), strict=True):
            assert len(own["boxes"]) > 0
            assert torch.equal(own["labels"], other["labels"])
            assert torch.allclose(own["scores"], other["scores"], rtol=0, atol=1e-9)
            assert torch.allclose(own["boxes"], other["boxes"], rtol=0, atol=1e-9)


def members(graph: ChannelGraph, layer: str) -> set[str]:
    """Return the layers that read the units which `layer` reads."""
    (group,) = (
        group
        for group in graph.groups.values()
        if any(m.role == "in" and f"{layer}.weight" in m.parameters for m in group.members)
    )
    read = {n for m in group.members if m.role == "in" for n in m.parameters}
    return {n.removesuffix(".weight") for n in read}


@pytest.fixture(scope="module", params=["retinanet", "fsaf", "atss", "paa", "faster_rcnn"])
def r50(request: Any) -> tuple[str, ChannelGraph]:
    """A detector's name and groups, with ResNet-50."""
    model = built(f"{request.param}_r50_fpn_x0_0625")
    return request.param, trace(model, torch.zeros(1, 3, 64, 64))


def test_a_lateral_shares_its_mask_with_the_readers_of_its_stage(
    r50: tuple[str, ChannelGraph],
) -> None:
    name, graph = r50
    first = 0 if name == "faster_rcnn" else 1  # of the stages that the pyramid reads
    for stage, blocks in ((1, 4), (2, 6)):
        expected = {f"pyramid.laterals.{stage - first}"}
        expected |= {f"backbone.stages.{stage}.{block}.conv1" for block in range(1, blocks)}
        next_block = f"backbone.stages.{stage + 1}.0"
        expected |= {f"{next_block}.conv1", f"{next_block}.shortcut.0"}
        assert members(graph, f"pyramid.laterals.{stage - first}") == expected


def test_the_last_stage_is_read_by_its_lateral_and_by_p6(r50: tuple[str, ChannelGraph]) -> None:
    name, graph = r50
    expected = {"backbone.stages.3.1.conv1", "backbone.stages.3.2.conv1"}
    expected |= {"pyramid.laterals.3" if name == "faster_rcnn" else "pyramid.laterals.2"}
    if name in ("retinanet", "fsaf"):
        expected.add("pyramid.extras.0")
    assert members(graph, "backbone.stages.3.1.conv1") == expected


def test_the_outputs_of_the_pyramid_are_one_group(r50: tuple[str, ChannelGraph]) -> None:
    name, graph = r50
    count = 4 if name == "faster_rcnn" else 3
    assert members(graph, "pyramid.outputs.0") == {f"pyramid.outputs.{i}" for i in range(count)}


def test_the_first_layers_of_the_heads_are_one_group(r50: tuple[str, ChannelGraph]) -> None:
    name, graph = r50
    if name == "faster_rcnn":
        assert members(graph, "proposals.0") == {"proposals.0", "head.hidden.0"}
        return
    expected = {"head.class_convs.0", "head.box_convs.0", "pyramid.extras.1"}
    if name in ("atss", "paa"):
        expected.add("pyramid.extras.0")
    assert members(graph, "head.class_convs.0") == expected


def test_later_convolutions_of_a_head_are_isolated_and_run_at_five_levels(
    r50: tuple[str, ChannelGraph],
) -> None:
    name, graph = r50
    layers = ["objectness"]
    if name != "faster_rcnn":
        layers = [f"head.{kind}_convs.{i}" for kind in ("class", "box") for i in (2, 4, 6)]
    for layer in layers:
        others = {"objectness", "proposed"} if name == "faster_rcnn" else {layer}
        assert members(graph, layer) == others
        calls = [call for call in graph.calls if call.weight == f"{layer}.weight"]
        assert len(calls) == 5
