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
    Style,
    as_dot,
    as_svg,
    color_of,
    column_starts,
    nodes_of,
    styles_of,
)
from prunebench.channels.drawing_layout import layout_of
from prunebench.channels.trace.tracer import trace
from tests.channels.conftest import named

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def densenet():
    return trace(torchvision.models.densenet121(), torch.rand(1, 3, 32, 32))


def test_coupled_groups_have_colors_of_their_own(residual_net):
    graph = trace(residual_net, torch.ones(1, 3, 4, 4))
    assert styles_of(graph) == {
        "stem": Style(COLORS[0]),  # stem and second
        "first": Style(ALONE),
        "head": Style(FROZEN),
        "stem:in": Style(FROZEN),
    }


def test_a_depthwise_convolution_is_coupled_with_what_it_reads(depthwise_net):
    styles = styles_of(trace(depthwise_net, torch.ones(1, 3, 6, 6)))
    assert (styles["stem"].color, styles["point"].color) == (COLORS[0], ALONE)


def test_layers_and_joins_are_nodes(residual_net):
    nodes, edges = nodes_of(trace(residual_net, torch.ones(1, 3, 4, 4)))
    assert [node.weight or node.sign for node in nodes] == [
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
    root = ElementTree.fromstring(as_svg(graph, "a < b"))
    assert root.find(f"{SVG}title").text == "a < b"
    boxes = {box.find(f"{SVG}title").text.split(":")[0]: box for box in root.iter(f"{SVG}g")}
    assert list(boxes) == ["stem", "conv1", "conv2", "fc"]
    fills = [rect.get("fill") for rect in boxes["conv2"].iter(f"{SVG}rect")]
    # 4 channels of each earlier stage, 8 of its own; then what it reads, 4 and 4
    assert fills == [COLORS[0], COLORS[1], ALONE, COLORS[0], COLORS[1], "none"]
    wide = [float(rect.get("width")) for rect in boxes["conv2"].iter(f"{SVG}rect")][:3]
    assert wide == pytest.approx([42, 42, 84])


def test_a_dense_block_has_few_lines(densenet):
    nodes, edges = nodes_of(densenet)
    assert len(nodes) == 1 + 121 + 58
    assert len(edges) < 2.2 * len(nodes)


def test_a_deep_network_continues_in_further_columns(densenet):
    root = ElementTree.fromstring(as_svg(densenet, "densenet121"))
    width, height = float(root.get("width")), float(root.get("height"))
    assert height < 40 * (ROWS + 6)
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("x"):
            assert 0 <= float(rect.get("x")) <= width - float(rect.get("width"))
            assert 0 <= float(rect.get("y")) <= height - float(rect.get("height"))


def test_columns_start_where_one_line_leads():
    branches = [(node, node + k) for node in range(0, 200, 5) for k in (1, 2, 3, 4)]
    joins = [(node + k, node + 5) for node in range(0, 200, 5) for k in (1, 2, 3, 4)]
    layout = layout_of(201, branches + joins)
    assert layout.rows == 81
    starts = column_starts(layout)
    assert len(starts) == 3
    # rows of joins are even; four lines lead into each, and one joint leads to all that follow
    assert all(start % 2 == 1 for start in starts[1:])
    assert all(abs(start - even) <= 5 for start, even in zip(starts, (0, 27, 54), strict=True))


def test_pictures_of_the_same_network_are_the_same(residual_net):
    first, second = (as_svg(trace(residual_net, torch.ones(1, 3, 4, 4)), "net") for _ in range(2))
    assert first == second


def test_a_layer_that_is_not_traced_is_grey():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1),
        torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(4, 4, 1)),
        torch.nn.Conv2d(4, 2, 1),
    )
    root = ElementTree.fromstring(as_svg(trace(net, torch.ones(1, 3, 4, 4)), "net"))
    box = next(b for b in root.iter(f"{SVG}g") if "not traced" in b.find(f"{SVG}title").text)
    assert {rect.get("fill") for rect in box.iter(f"{SVG}rect")} == {FROZEN, "none"}


def test_a_network_of_one_layer_can_be_drawn():
    net = named(only=torch.nn.Conv2d(3, 4, 1))
    root = ElementTree.fromstring(as_svg(trace(net, torch.ones(1, 3, 4, 4)), "net"))
    assert len(list(root.iter(f"{SVG}g"))) == 1


def test_more_groups_than_colors_have_numbers():
    layers = [torch.nn.Conv2d(3, 4, 1)]
    for _ in range(9):
        layers += [torch.nn.Conv2d(4, 4, 1, groups=4), torch.nn.Conv2d(4, 4, 1)]
    graph = trace(torch.nn.Sequential(*layers), torch.ones(1, 3, 4, 4))
    styles = [style for style in styles_of(graph).values() if style.color not in (ALONE, FROZEN)]
    assert styles[0] == Style(COLORS[0], "#1")
    assert styles[8] == Style(color_of(8), "#9")
    root = ElementTree.fromstring(as_svg(graph, "net"))
    boxes = {box.find(f"{SVG}title").text.split(":")[0]: box for box in root.iter(f"{SVG}g")}
    assert [text.text for text in boxes["17"].iter(f"{SVG}text")] == ["17", "#9 4"]


def test_no_two_groups_have_the_same_color():
    colors = [color_of(n) for n in range(300)]
    assert len({*colors, ALONE, FROZEN}) == 302


def test_graphviz_gets_nodes_edges_and_colors(option_a_net):
    lines = as_dot(trace(option_a_net, torch.ones(1, 3, 8, 8)), 'a "b"').splitlines()
    assert lines[0] == r'digraph "a \"b\"" {'
    assert r'1 [label="stem\n4", style=filled, fillcolor="#56b4e9"]' in lines
    stripes = f"{COLORS[0]};0.2500:{COLORS[1]};0.2500:{ALONE};0.5000"
    assert rf'4 [label="conv2\n16", style=striped, fillcolor="{stripes}"]' in lines
    assert "0 -> 1" in lines
