from __future__ import annotations

import subprocess
import sys
from collections import UserDict, deque
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ModelError
from prunebench.models import registry
from tests.channels.conftest import Between, named


def sizes(groups):
    return {name: group.n_units for name, group in groups.items()}


def members(group):
    return {(m.parameters[0], m.dim, m.role) for m in group.members}


def written_into_part(x):
    out = torch.zeros(1, 8, 4, 4)
    out[:, :4] = x
    return out


def written_through_view(x):
    out = torch.zeros(4, 4, 4)
    out.unsqueeze(0).copy_(x)
    return out.unsqueeze(0)


def test_group_lists_the_slices_that_are_removed_together(two_layer_net):
    group = trace(two_layer_net, torch.ones(1, 1, 1, 1)).groups["first"]
    assert members(group) == {
        ("first.weight", 0, "out"),
        ("first.bias", 0, "vector"),
        ("second.weight", 1, "in"),
    }
    assert [m.index.tolist() for m in group.members] == [[[0], [1], [2]]] * 3
    assert group.producers == ("first.weight",)


def test_flattened_channel_has_a_column_per_pixel(flatten_net):
    group = trace(flatten_net, torch.ones(1, 1, 2, 2)).groups["conv"]
    columns = next(m for m in group.members if m.parameters == ("fc.weight",))
    assert columns.index.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_sum_couples_its_producers_and_roles_follow(residual_net):
    graph = trace(residual_net, torch.ones(1, 3, 4, 4))
    assert sizes(graph.groups) == {"stem": 4, "first": 6}
    assert graph.groups["stem"].producers == ("stem.weight", "second.weight")
    assert {name: g.role for name, g in graph.groups.items()} == {
        "stem": "stream",
        "first": "inside",
    }


def test_statistics_are_members_and_the_counter_is_not(residual_net):
    group = trace(residual_net, torch.ones(1, 3, 4, 4)).groups["first"]
    vectors = {m.parameters[0] for m in group.members if m.role == "vector"}
    assert vectors == {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}


def test_single_producer_that_reads_the_input_is_a_stem(depthwise_net):
    graph = trace(depthwise_net, torch.ones(1, 3, 6, 6))
    assert {name: g.role for name, g in graph.groups.items()} == {"stem": "stem", "point": "inside"}


def test_depthwise_convolution_passes_channels_on(depthwise_net):
    group = trace(depthwise_net, torch.ones(1, 3, 6, 6)).groups["stem"]
    assert ("depthwise.weight", 0, "pass") in members(group)
    assert ("point.weight", 1, "in") in members(group)
    assert group.producers == ("stem.weight",)


def test_convolution_of_one_input_channel_is_not_depthwise():
    net = named(stem=nn.Conv2d(1, 4, 1), head=nn.Conv2d(4, 2, 1))
    graph = trace(net, torch.ones(1, 1, 3, 3))
    assert sizes(graph.groups) == {"stem": 4}
    assert graph.frozen["stem:in"].frozen == "reads the network's input"


def test_dimensions_of_equal_size_are_told_apart():
    net = named(a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1), flat=nn.Flatten(), c=nn.Linear(64, 4))
    graph = trace(net, torch.ones(4, 4, 4, 4))
    assert sizes(graph.groups) == {"a": 4, "b": 4}
    assert graph.groups["b"].members[-1].index.shape == (4, 16)


def test_shortcut_with_added_zeros_splits_the_stream_by_stage(option_a_net):
    graph = trace(option_a_net, torch.ones(1, 3, 8, 8))
    # 16 = 4 of all stages + 4 of the last two + 8 of the last
    assert sizes(graph.groups) == {"stem": 4, "conv1": 4, "conv2": 8}
    rows = {m.parameters[0]: m.index[:, 0].tolist() for m in graph.groups["conv1"].members}
    assert rows["conv1.weight"] == [0, 1, 6, 7]
    assert rows["conv2.bias"] == [4, 5, 10, 11]
    assert graph.pads[0].index["conv1"].tolist() == [[0], [1], [2], [3]]


def test_concatenated_branches_stay_separate(concat_net):
    graph = trace(concat_net, torch.ones(1, 3, 2, 2))
    assert sizes(graph.groups) == {"left": 2, "right": 3}
    columns = [m.index.tolist() for m in graph.groups["right"].members if m.role == "in"]
    assert columns == [[[2], [3], [4]]]


def test_output_channels_are_frozen(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    assert graph.frozen["second"].frozen == "is an output of the network"
    assert list(graph.groups) == ["first"]


@pytest.mark.parametrize(
    ("function", "c_in", "reason"),
    [
        (lambda x: F.pad(x, (0, 0, 0, 0, -1, 1)), 4, "padded along its channels"),
        (lambda x: x.cumprod(1), 4, "aten.cumprod, an operation unknown to the tracer"),
        (lambda x: x[:, :3], 3, "cut along its channels"),
        (lambda x: x[:, [3, 0]], 2, "positions that are not in a buffer"),
        (lambda x: x[:, 0:1] + 0 * x[:, 1:2], 1, "cut along its channels"),
        (lambda x: x.split(2, 1)[0], 2, "cut along its channels"),
        (lambda x: x.mean(1, keepdim=True), 1, "reduced over its channels by aten.mean"),
        (lambda x: x.softmax(1), 4, "mixed across its channels by aten._softmax"),
        (lambda x: F.layer_norm(x, x.shape[1:]), 4, "normalized over its channels"),
        (lambda x: x + torch.ones(1, 4, 1, 1), 4, "combined with a constant, whose size is fixed"),
        (lambda x: x.reshape(len(x), 2, -1, 2).sum(3, keepdim=True), 2, "another dimension"),
        (lambda x: x.transpose(1, 2), 4, "reads its channels as another dimension"),
        (lambda x: F.group_norm(x, 2), 4, "hard-coded number of groups"),
        (lambda x: torch.cat([x.new_zeros(len(x), 4, 2, 4), x], 2), 4, "joined with a constant"),
        (lambda x: torch.zeros(1, 8, 4, 4).index_copy_(1, torch.arange(4), x), 8, "unknown"),
        (written_into_part, 8, "combined with a constant, whose size is fixed"),
        (written_through_view, 4, "combined with a constant, whose size is fixed"),
    ],
)
def test_channels_that_cannot_be_followed_are_frozen_with_the_reason(function, c_in, reason):
    graph = trace(Between(function, c_in), torch.ones(1, 3, 4, 4))
    assert graph.groups == {}
    assert reason in graph.frozen["conv"].frozen


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
        lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
        lambda x: F.pad(x, (1, 1, 1, 1)),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: x.flatten(2).unsqueeze(3),
        lambda x: x[:, :, 1:, ::2],
        lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
        lambda x: F.instance_norm(x),
        lambda x: torch.stack([x, x.relu()]).amax(0),
        lambda x: torch.cat([x, -x], 3),
        lambda x: x.clone().clamp_(0, 1).mul_(2),
        lambda x: F.hardswish(x, inplace=True),
        lambda x: torch.empty_like(x).copy_(x),
    ],
)
def test_what_keeps_channels_apart_is_followed(function):
    graph = trace(Between(function), torch.ones(2, 3, 4, 4))
    assert sizes(graph.groups) == {"conv": 4}


def test_chunks_lose_the_same_places_together():
    net = Between(lambda x: torch.mul(*x.chunk(2, 1)), c_in=2)
    group = trace(net, torch.ones(1, 3, 4, 4)).groups["conv"]
    assert group.members[0].index.tolist() == [[0, 2], [1, 3]]


def test_pixel_shuffle_makes_units_of_its_square():
    net = named(conv=nn.Conv2d(3, 8, 1), up=nn.PixelShuffle(2), head=nn.Conv2d(2, 2, 1))
    group = trace(net, torch.ones(1, 3, 4, 4)).groups["conv"]
    assert group.members[0].index.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_channel_shuffle_ties_the_same_place_of_all_groups():
    net = named(conv=nn.Conv2d(3, 6, 1), shuffle=nn.ChannelShuffle(2), head=nn.Conv2d(6, 2, 1))
    group = trace(net, torch.ones(1, 3, 4, 4)).groups["conv"]
    assert [m.index.tolist() for m in group.members if m.role != "vector"] == [
        [[0, 3], [1, 4], [2, 5]],
        [[0, 1], [2, 3], [4, 5]],
    ]


@pytest.mark.parametrize(
    ("grouped", "expected"),
    [
        ("whole", {"stem": 4}),  # four groups of 2 inputs and 3 outputs
        ("auto", {"stem": 4}),
        ("local", {"stem": 2, "grouped": 3}),
    ],
)
def test_units_of_a_grouped_convolution(grouped_net, grouped, expected):
    graph = trace(grouped_net, torch.ones(1, 3, 4, 4), grouped=grouped)
    assert sizes(graph.groups) == expected


def test_channels_normalized_together_are_one_unit(group_norm_net):
    group = trace(group_norm_net, torch.ones(1, 3, 4, 4)).groups["conv"]
    assert group.members[0].index.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_partly_used_channels_make_two_groups():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.other = nn.Conv2d(3, 2, 1)
            self.a = nn.Conv2d(6, 2, 1)
            self.pad = nn.ZeroPad3d((0, 0, 0, 0, 2, 0))

        def forward(self, x):
            return self.a(
                torch.cat(
                    [self.conv(x) + self.pad(self.other(x)), x.mean(1, True).repeat(1, 2, 1, 1)], 1
                )
            )

    graph = trace(Net(), torch.ones(1, 3, 4, 4))
    assert sizes(graph.groups) == {"conv": 2, "conv#1": 2}
    assert graph.groups["conv"].members[0].index[:, 0].tolist() == [2, 3]


def test_shared_layer_lists_both_its_names():
    net = named(a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 4, 1), head=nn.Conv2d(4, 2, 1))
    net.again = net.b
    net.forward = lambda x: net.head(net.b(net.a(x)) + net.again(net.a(x)))
    group = trace(net, torch.ones(1, 3, 4, 4)).groups["b"]
    assert group.producers == ("b.weight",)
    assert group.members[0].parameters == ("b.weight", "again.weight")


def test_computed_weight_freezes_what_it_touches():
    net = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 2, 1)
    )
    graph = trace(net, torch.ones(1, 3, 4, 4))
    assert graph.groups == {}


def test_scalar_parameter_leaves_channels_free():
    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.gain * x

    net = named(conv=nn.Conv2d(3, 4, 4), gain=Gain(), flat=nn.Flatten(), fc=nn.Linear(4, 2))
    group = trace(net, torch.ones(1, 3, 4, 4)).groups["conv"]
    assert members(group) >= {("conv.weight", 0, "out"), ("fc.weight", 1, "in")}


def test_model_is_left_as_it_was(residual_net):
    residual_net.train()
    residual_net.norm.eval()
    before = {k: v.clone() for k, v in residual_net.state_dict().items()}
    trace(residual_net, torch.ones(2, 3, 4, 4))
    assert residual_net.training
    assert not residual_net.norm.training
    assert all(p.requires_grad and p.grad is None for p in residual_net.parameters())
    assert not residual_net._forward_hooks
    assert all(torch.equal(v, before[k]) for k, v in residual_net.state_dict().items())


def test_buffer_that_changes_in_forward_is_put_back():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x

    net = named(conv=nn.Conv2d(3, 4, 1), counter=Counter(), head=nn.Conv2d(4, 2, 1))
    trace(net, torch.ones(1, 3, 2, 2))
    assert net.counter.calls.item() == 0


def test_input_that_does_not_fit_is_named(two_layer_net):
    with pytest.raises(ModelError, match=r"does not run on an input of \[\(1, 5, 2, 2\)\]"):
        trace(two_layer_net, torch.ones(1, 5, 2, 2))


class Restrided(nn.Module):
    """A convolution of three channels on 3x3 pixels whose output is given other strides."""

    def __init__(self, strides):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.strides = strides
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        x = self.conv(x)
        return self.head(x.as_strided_(x.shape, self.strides))


@pytest.mark.parametrize(
    ("strides", "is_followed"),
    [((27, 9, 3, 1), True), ((5, 9, 3, 1), True), ((27, 3, 9, 1), False)],
    ids=["the same", "of one example", "height and channels exchanged"],
)
def test_new_strides_are_followed_where_no_element_moves(strides, is_followed):
    graph = trace(Restrided(strides), torch.rand(1, 3, 3, 3))
    assert ("conv" in graph.groups) is is_followed


@pytest.mark.parametrize("name", ["resnet20", "vgg19_x0_25", "mobilenet_v1_x0_25"])
def test_channels_last_has_the_same_groups(name):
    model = registry.build(name, num_classes=4)
    plain = trace(model, torch.rand(1, 3, 8, 8))
    last = trace(model.to(memory_format=torch.channels_last), torch.rand(1, 3, 8, 8))
    assert list(last.groups) == list(plain.groups)


def test_tracing_does_not_load_the_compiler():
    code = (
        "import sys, torch; from prunebench.channels.trace.tracer import trace; "
        "trace(torch.nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 2, 2)); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@dataclass
class Scores:
    scores: torch.Tensor
    name: str = "scores"


@dataclass(slots=True)
class Slotted:
    scores: torch.Tensor


RETURNED = {
    "data class": Scores,
    "data class with slots": Slotted,
    "object": lambda x: SimpleNamespace(scores=x),
    "object in a list in a dictionary": lambda x: {"all": [SimpleNamespace(own=Scores(x))]},
    "mapping of its own": lambda x: UserDict(scores=x),
    "queue": lambda x: deque([x]),
}


class Returning(nn.Module):
    def __init__(self, returned):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.returned = returned

    def forward(self, x):
        return self.returned(self.last(self.first(x)))


@pytest.mark.parametrize("returned", RETURNED.values(), ids=RETURNED.keys())
def test_outputs_are_found_wherever_they_are(returned):
    graph = trace(Returning(returned), torch.rand(1, 3, 8, 8))
    assert list(graph.groups) == ["first"]
    assert graph.frozen["last"].frozen == "is an output of the network"


def test_a_network_that_returns_no_tensor_is_an_error():
    with pytest.raises(ModelError, match="no tensor is found in what the network returns, a list"):
        trace(Returning(lambda x: x.sum().tolist() and []), torch.rand(1, 3, 8, 8))


def test_a_shape_is_no_example():
    message = r"does not run on \(1, 3, 8, 8\), without any tensor: "
    with pytest.raises(ModelError, match=message):
        trace(Returning(Scores), (1, 3, 8, 8))
