from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch
import torchvision
from torch import nn

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import remove
from prunebench.channels.roles import LayerRole, layer_roles
from prunebench.channels.trace.tracer import trace
from prunebench.models import registry
from tests.channels.conftest import named


@cache
def graph_of(name: str) -> ChannelGraph:
    if not hasattr(torchvision.models, name):
        return trace(registry.build(name, num_classes=5), torch.rand(1, 3, 16, 16))
    options = {"init_weights": False} if name == "googlenet" else {}
    return trace(getattr(torchvision.models, name)(**options), torch.rand(1, 3, 64, 64))


def places(graph: ChannelGraph) -> dict[str, str]:
    return {w.removesuffix(".weight"): role.place for w, role in layer_roles(graph).items()}


def kinds(graph: ChannelGraph) -> dict[str, str]:
    return {w.removesuffix(".weight"): role.kind for w, role in layer_roles(graph).items()}


def test_a_block_has_a_first_and_a_last_layer(residual_net):
    roles = layer_roles(trace(residual_net, torch.ones(1, 3, 4, 4)))
    assert roles == {
        "stem.weight": LayerRole("stem", "pointwise", None, ()),
        "first.weight": LayerRole("first", "full", 0, ("stem.weight",)),
        "second.weight": LayerRole("last", "full", 0, ("first.weight",)),
        "head.weight": LayerRole("head", "linear", None, ("stem.weight", "second.weight")),
    }


def test_shortcuts_without_layers_make_no_difference_to_places(option_a_net):
    # each sum has one convolution beside its shortcut
    assert places(trace(option_a_net, torch.ones(1, 3, 8, 8))) == {
        "stem": "stem",
        "conv1": "last",
        "conv2": "last",
        "fc": "head",
    }


def test_basic_blocks_of_a_resnet():
    found = places(graph_of("resnet20"))
    assert Counter(found.values()) == {"stem": 1, "first": 9, "last": 9, "head": 1}
    assert {name for name, place in found.items() if place == "first"} == {
        f"stages.{stage}.{block}.conv1" for stage in range(3) for block in range(3)
    }


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_bottlenecks_and_their_shortcuts(name):
    graph = graph_of(name)
    found, kind = places(graph), kinds(graph)
    place = {"conv1": "first", "conv2": "middle", "conv3": "last", "downsample.0": "shortcut"}
    inside = {path: role for path, role in found.items() if path.startswith("layer")}
    assert inside == {path: place[path.split(".", 2)[2]] for path in inside}
    assert Counter(found.values())["shortcut"] == 4
    assert (found["conv1"], found["fc"]) == ("stem", "head")
    assert kind["layer1.0.conv1"] == kind["layer1.0.downsample.0"] == "pointwise"
    assert kind["layer1.0.conv2"] == ("grouped" if name.startswith("resnext") else "full")


def test_a_shortcut_is_of_the_block_of_the_path_beside_it():
    roles = layer_roles(graph_of("resnet50"))
    block = {
        roles[f"layer2.0.{layer}.weight"].block for layer in ("conv1", "conv3", "downsample.0")
    }
    assert block == {3}  # three blocks of layer1 come before
    assert {role.block for role in roles.values()} == {None, *range(16)}


def test_inverted_bottlenecks_with_and_without_a_shortcut():
    graph = graph_of("mobilenet_v2")
    found, kind = places(graph), kinds(graph)
    assert Counter(found.values()) == {"stem": 1, "chain": 21, "head": 1} | dict.fromkeys(
        ("first", "middle", "last"), 10
    )
    block = "features.3.conv"
    assert [found[f"{block}.{n}"] for n in ("0.0", "1.0", "2")] == ["first", "middle", "last"]
    assert kind[f"{block}.1.0"] == "depthwise"
    assert Counter(kind.values()) == {"full": 1, "depthwise": 17, "pointwise": 34, "linear": 1}


@pytest.mark.parametrize("name", ["vgg13", "mobilenet_v1"])
def test_without_sums_all_between_stem_and_head_is_a_chain(name):
    found = list(places(graph_of(name)).values())
    assert found == ["stem", *["chain"] * (len(found) - 2), "head"]


def test_separable_blocks_alternate_depthwise_and_pointwise():
    found = list(kinds(graph_of("mobilenet_v1")).values())
    assert found == ["full", *["depthwise", "pointwise"] * 13, "linear"]


def test_layers_that_write_into_a_concatenation_are_last():
    found = places(graph_of("densenet121"))
    layer = "features.denseblock2.denselayer7"
    assert (found[f"{layer}.conv1"], found[f"{layer}.conv2"]) == ("first", "last")
    assert found["features.transition1.conv"] == "chain"
    assert Counter(found.values()) == {"stem": 1, "first": 58, "last": 58, "chain": 3, "head": 1}


def test_branches_of_an_inception_block():
    found = places(graph_of("googlenet"))
    block = {path: place for path, place in found.items() if path.startswith("inception3a")}
    assert {path for path, place in block.items() if place == "first"} == {
        "inception3a.branch2.0.conv",
        "inception3a.branch3.0.conv",
    }
    assert set(block.values()) == {"first", "last"}


def test_a_gate_is_no_layer_of_its_block():
    graph = graph_of("mobilenet_v3_small")
    roles = layer_roles(graph)
    block = "features.5.block"
    assert {path: roles[f"{block}.{path}.weight"].place for path in ("0.0", "1.0", "3.0")} == {
        "0.0": "first",
        "1.0": "middle",
        "3.0": "last",
    }
    excitation = [roles[f"{block}.2.fc{n}.weight"] for n in (1, 2)]
    assert {role.place for role in excitation} == {"gate"}
    assert {role.block for role in excitation} == {roles[f"{block}.0.0.weight"].block}
    assert sum(role.place == "gate" for role in roles.values()) == 18  # nine blocks have one


def test_a_gate_makes_no_stream_of_what_it_multiplies():
    graph = graph_of("mobilenet_v3_small")
    assert graph.groups["features.5.block.0.0"].role == "inside"
    assert len(graph.groups["features.5.block.0.0"].producers) == 2


def test_parents_of_a_two_block_network_are_as_group_fisher_lists_them():
    class Net(nn.Module):
        """A stem, a block with an identity, one with a convolution in its shortcut."""

        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.b1c1, self.b1c2 = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
            self.b2c1 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
            self.b2c2 = nn.Conv2d(8, 10, 3, padding=1)
            self.down = nn.Conv2d(4, 10, 1, stride=2)
            self.fc = nn.Linear(10, 5)

        def forward(self, x):
            x = self.stem(x).relu()
            x = (x + self.b1c2(self.b1c1(x).relu())).relu()
            x = (self.down(x) + self.b2c2(self.b2c1(x).relu())).relu()
            return self.fc(x.mean((2, 3)))

    roles = layer_roles(trace(Net(), torch.ones(1, 3, 8, 8)))
    found = {
        weight.split(".")[0]: [parent.split(".")[0] for parent in role.parents]
        for weight, role in roles.items()
    }
    assert found == {
        "stem": [],
        "b1c1": ["stem"],
        "b1c2": ["b1c1"],
        "b2c1": ["stem", "b1c2"],
        "down": ["stem", "b1c2"],
        "b2c2": ["b2c1"],
        "fc": ["down", "b2c2"],
    }
    assert roles["down.weight"].place == "shortcut"


class Paths(nn.Module):
    """A stem, a function of the layers a, b, c (4 -> 4 each), a head."""

    def __init__(self, function):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.head = nn.LazyConv2d(2, 1)
        self.function = function

    def forward(self, x):
        return self.head(self.function(self, self.stem(x)))


def places_of_three(function):
    net, example = Paths(function), torch.rand(1, 3, 4, 4)
    net(example)
    found = places(trace(net, example))
    return found["a"], found["b"], found["c"]


def written_in_place(net, x):
    out = torch.zeros_like(x)
    out[:, :, :2] = net.a(x)[:, :, :2]
    return net.b(out) + net.c(x)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda n, x: n.c(n.b(n.a(x))), ("chain", "chain", "chain")),
        (lambda n, x: x + n.c(n.b(n.a(x))), ("first", "middle", "last")),
        (lambda n, x: n.c(x) + n.b(n.a(x)), ("first", "last", "shortcut")),
        (lambda n, x: n.b(n.a(x)) - n.c(x), ("first", "last", "shortcut")),
        # paths of equal length: no shortcut
        (lambda n, x: n.a(x) + n.b(x) + n.c(x), ("last", "last", "last")),
        (lambda n, x: torch.cat([n.c(x), n.b(n.a(x))], 1), ("first", "last", "last")),
        (lambda n, x: torch.cat([x, n.c(n.b(n.a(x)))], 1), ("first", "middle", "last")),
        (lambda n, x: n.c((y := n.a(x)) * n.b(y).sigmoid()), ("chain", "gate", "chain")),
        (lambda n, x: x + n.c((y := n.a(x)) * n.b(y).sigmoid()), ("first", "gate", "last")),
        (lambda n, x: n.c(n.a(x) * n.b(x).sigmoid()), ("last", "last", "chain")),  # two equals
        # a block in a block; both end in the same sum
        (lambda n, x: x + n.c((y := n.a(x)) + n.b(y)), ("first", "last", "last")),
        # paths joined along the width, not side by side in channels
        (lambda n, x: n.c(torch.cat([x, n.b(n.a(x))], 3)), ("chain", "chain", "chain")),
        (written_in_place, ("first", "last", "shortcut")),
    ],
)
def test_places_follow_from_the_paths(function, expected):
    assert places_of_three(function) == expected


def test_a_layer_called_twice_has_the_place_of_its_first_call_and_all_parents():
    net = named(stem=nn.Conv2d(3, 4, 1), a=nn.Conv2d(4, 4, 1), head=nn.Conv2d(4, 2, 1))
    net.forward = lambda x: net.head(net.a(net.a(net.stem(x)) + net.stem(x)))
    role = layer_roles(trace(net, torch.ones(1, 3, 4, 4)))["a.weight"]
    assert role.place == "last"
    assert role.parents == ("stem.weight", "a.weight")


def test_a_layer_without_a_parameter_of_its_own_is_not_listed():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        nn.Conv2d(4, 2, 1),
    )
    assert list(layer_roles(trace(net, torch.ones(1, 3, 4, 4)))) == ["0.weight", "2.weight"]


def test_kinds_survive_a_removal_that_leaves_one_group(depthwise_net):
    example = torch.ones(1, 3, 6, 6)
    graph = trace(depthwise_net, example)
    smaller = remove(depthwise_net, graph, {"stem": torch.tensor([0, 1, 3])})
    assert kinds(trace(smaller, example)) == kinds(graph)


def test_a_gate_that_is_only_computed_from_the_input_is_an_equal():
    net = named(a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1), head=nn.Conv2d(4, 2, 1))
    net.forward = lambda x: net.head(net.a(x) * net.b(x).sigmoid())
    assert trace(net, torch.ones(1, 3, 4, 4)).groups["a"].role == "stream"
