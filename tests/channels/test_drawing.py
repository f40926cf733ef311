from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch
import torchvision

from prunebench.channels.drawing import (
    ALONE,
    COLORS,
    FROZEN,
    ROWS,
    colors_of,
    column_starts,
    draw,
    nodes_of,
)
from prunebench.channels.layout import lay_out
from prunebench.channels.trace.tracer import trace
from tests.channels.conftest import named

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def densenet():
    return trace(torchvision.models.densenet121(), torch.rand(1, 3, 32, 32))


def test_coupled_groups_have_colors_of_their_own(residual_net):
    graph = trace(residual_net, torch.ones(1, 3, 4, 4))
    assert colors_of(graph) == {
        "stem": COLORS[0],  # stem and second
        "first": ALONE,
        "head": FROZEN,
        "stem:in": FROZEN,
    }


def test_a_depthwise_convolution_is_coupled_with_what_it_reads(depthwise_net):
    colors = colors_of(trace(depthwise_net, torch.ones(1, 3, 6, 6)))
    assert (colors["stem"], colors["point"]) == (COLORS[0], ALONE)


def test_layers_and_joins_are_nodes(residual_net):
    shapes, edges = nodes_of(trace(residual_net, torch.ones(1, 3, 4, 4)))
    assert [shape.weight or shape.sign for shape in shapes] == [
        "input",
        "stem.weight",
        "first.weight",
        "second.weight",
        "+",
        "head.weight",
    ]
    assert sorted(edges) == [(0, 1), (1, 2), (1, 4), (2, 3), (3, 4), (4, 5)]


def test_every_layer_has_a_box_with_its_colors(option_a_net):
    graph = trace(option_a_net, torch.ones(1, 3, 8, 8))
    root = ElementTree.fromstring(draw(graph, "a < b"))
    assert root.find(f"{SVG}title").text == "a < b"
    boxes = {box.find(f"{SVG}title").text.split(":")[0]: box for box in root.iter(f"{SVG}g")}
    assert list(boxes) == ["stem", "conv1", "conv2", "fc"]
    fills = [rect.get("fill") for rect in boxes["conv2"].iter(f"{SVG}rect")]
    # 4 channels of each earlier stage, 8 of its own; then what it reads, 4 and 4
    assert fills == [COLORS[0], COLORS[1], ALONE, COLORS[0], COLORS[1], "none"]
    wide = [float(rect.get("width")) for rect in boxes["conv2"].iter(f"{SVG}rect")][:3]
    assert wide == pytest.approx([42, 42, 84])


def test_a_dense_block_has_few_lines(densenet):
    shapes, edges = nodes_of(densenet)
    assert len(shapes) == 1 + 121 + 58
    assert len(edges) < 2.2 * len(shapes)


def test_a_deep_network_goes_on_in_further_columns(densenet):
    root = ElementTree.fromstring(draw(densenet, "densenet121"))
    width, height = float(root.get("width")), float(root.get("height"))
    assert height < 40 * (ROWS + 6)
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("x"):
            assert 0 <= float(rect.get("x")) <= width - float(rect.get("width"))
            assert 0 <= float(rect.get("y")) <= height - float(rect.get("height"))


def test_columns_start_where_one_line_leads():
    branches = [(node, node + k) for node in range(0, 200, 5) for k in (1, 2, 3, 4)]
    joins = [(node + k, node + 5) for node in range(0, 200, 5) for k in (1, 2, 3, 4)]
    layout = lay_out(201, branches + joins)
    assert layout.rows == 81
    starts = column_starts(layout)
    assert len(starts) == 3
    # rows of joins are even; four lines lead into each, and one joint leads to all that follow
    assert all(start % 2 == 1 for start in starts[1:])
    assert all(abs(start - even) <= 5 for start, even in zip(starts, (0, 27, 54), strict=True))


def test_pictures_of_the_same_network_are_the_same(residual_net):
    first, second = (draw(trace(residual_net, torch.ones(1, 3, 4, 4)), "net") for _ in range(2))
    assert first == second


def test_a_layer_that_is_not_followed_is_grey():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1),
        torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(4, 4, 1)),
        torch.nn.Conv2d(4, 2, 1),
    )
    root = ElementTree.fromstring(draw(trace(net, torch.ones(1, 3, 4, 4)), "net"))
    box = next(b for b in root.iter(f"{SVG}g") if "not followed" in b.find(f"{SVG}title").text)
    assert {rect.get("fill") for rect in box.iter(f"{SVG}rect")} == {FROZEN, "none"}


def test_a_network_of_one_layer_can_be_drawn():
    net = named(only=torch.nn.Conv2d(3, 4, 1))
    root = ElementTree.fromstring(draw(trace(net, torch.ones(1, 3, 4, 4)), "net"))
    assert len(list(root.iter(f"{SVG}g"))) == 1
