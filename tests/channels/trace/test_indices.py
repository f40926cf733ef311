"""Channels picked by an index: followed if the index is a buffer, which removal corrects."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from prunebench.channels.description import describe
from prunebench.channels.removal import mask, remove
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import largest_difference, randomized
from prunebench.core.errors import ModelError
from tests.channels.conftest import Wired, units_of

EXAMPLE = torch.rand(2, 3, 4, 4)
SINGLE = [[0], [1], [2], [3]]
ORDER = (3, 1, 0, 2)


class Picking(nn.Module):
    """conv 3 -> 4, a function of the channels and an index in a buffer, conv `c_in` -> 2."""

    def __init__(self, function, c_in=4, order=ORDER):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.function = function
        self.register_buffer("order", torch.tensor(order))
        self.register_buffer("back", self.order.argsort())
        self.head = nn.Conv2d(c_in, 2, 1)

    def forward(self, x):
        return self.head(self.function(self, self.conv(x)))


def picked(m, x):
    return x[:, m.order]


@pytest.mark.parametrize(
    ("function", "c_in", "rows"),
    [
        (picked, 4, {"conv": SINGLE}),
        (lambda m, x: x[:, m.order, 1:, ::2], 4, {"conv": SINGLE}),
        (lambda m, x: x.index_select(-3, m.order), 4, {"conv": SINGLE}),
        (lambda m, x: x[:, m.order.int()], 4, {"conv": SINGLE}),
        (lambda m, x: x[:, m.order][:, m.order], 4, {"conv": [[1]], "conv#1": [[0, 2, 3]]}),
        (lambda m, x: x[:, m.order][:, m.back].sigmoid() + x, 4, {"conv": SINGLE}),
        (lambda m, x: torch.cat([x, x.flip(1)[:, m.order]], 1), 8, {"conv": SINGLE}),
        (lambda m, x: x + x[:, m.order], 4, {"conv": [[1]], "conv#1": [[0, 2, 3]]}),
        (lambda m, x: x.transpose(0, 1)[m.order].transpose(0, 1), 4, {"conv": SINGLE}),
        (lambda m, x: x.mean((2, 3))[:, m.order, None, None], 4, {"conv": SINGLE}),
        (lambda m, x: x.movedim(1, 3)[..., m.order].movedim(3, 1), 4, {"conv": SINGLE}),
    ],
)
def test_permutations_by_a_buffer_are_followed(function, c_in, rows):
    assert units_of(Picking(function, c_in), EXAMPLE) == rows


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        ((-1, 0, 2, 1), {"conv": SINGLE}),
        ((2, 0), {"conv": [[0], [2]], "conv#1": [[1], [3]]}),
        ((2, 0, 2, 1), {"conv": [[0], [1]], "conv#1": [[2]], "conv#2": [[3]]}),
        ((True, False, True, True), {"conv": [[1]], "conv#1": [[0], [2], [3]]}),
    ],
)
def test_selections_by_a_buffer_are_followed(order, rows):
    c_in = sum(order) if isinstance(order[0], bool) else len(order)
    assert units_of(Picking(picked, c_in, order), EXAMPLE) == rows


@pytest.mark.parametrize("in_place", [False, True])
def test_removal_renumbers_the_buffer(in_place):
    net = randomized(Picking(picked), 0)
    graph, removed = trace(net, EXAMPLE.double()), {"conv": torch.tensor([1])}
    before = copy.deepcopy(net)
    smaller = remove(net, graph, removed, in_place=in_place)
    assert smaller.order.tolist() == [2, 0, 1]  # 3, 0, 2 without 1
    assert smaller.order.dtype == torch.int64
    assert before.order.tolist() == list(ORDER)
    assert (net.order.tolist() == list(ORDER)) is not in_place
    assert largest_difference(mask(before, graph, removed), smaller, EXAMPLE) < 1e-12
    again = remove(smaller, trace(smaller, EXAMPLE.double()), {"conv": torch.tensor([0])})
    assert again.order.tolist() == [1, 0]


def test_channels_that_no_position_names_are_renumbered_too():
    net = Picking(picked, 2, (2, 0))
    smaller = remove(net, trace(net, EXAMPLE), {"conv#1": torch.tensor([0])})
    assert smaller.order.tolist() == [1, 0]
    assert torch.allclose(smaller(EXAMPLE), net(EXAMPLE), atol=1e-6)


def test_another_order_than_the_traced_one_is_refused():
    net = Picking(picked)
    graph = trace(net, EXAMPLE)
    net.order.copy_(net.back)
    with pytest.raises(ModelError, match="positions of channels in 'order' are not those"):
        remove(net, graph, {"conv": torch.tensor([0])})


def test_buffer_is_described_with_its_group():
    assert "  picked by     order" in list(describe(trace(Picking(picked), EXAMPLE)))


def test_one_order_for_two_layers_couples_them():
    net = Wired(
        lambda m, x: m.head(torch.cat([m.a(x)[:, m.order], m.b(x)[:, m.order]], 1)),
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(3, 4, 1),
        head=nn.Conv2d(8, 2, 1),
    )
    net.register_buffer("order", torch.tensor(ORDER))
    assert units_of(net, EXAMPLE) == {"a": SINGLE}
    assert trace(net, EXAMPLE).groups["a"].producers == ("a.weight", "b.weight")
    net.b, net.head = nn.Conv2d(3, 5, 1), nn.Conv2d(8, 2, 1)
    assert units_of(net, EXAMPLE) == {}
    assert "another number of channels" in trace(net, EXAMPLE).frozen["b"].frozen


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: x[:, list(ORDER)], "positions that are not in a buffer"),
        (lambda m, x: x[:, torch.tensor(ORDER)], "positions that are not in a buffer"),
        (lambda m, x: x.index_select(1, torch.tensor(ORDER)), "positions that are not in a buffer"),
        (lambda m, x: x[:, m.order.tolist()], "positions that are not in a buffer"),
        (lambda m, x: x[:, m.order + 0], "positions that are not in a buffer"),
        (lambda m, x: x[:, m.order] * m.order.view(-1, 1, 1), "used as 'index' and 'vector'"),
        (lambda m, x: x[:, m.order] / len(m.order), "number is used in the code (len)"),
        (lambda m, x: x.take_along_dim(m.order.view(1, -1, 1, 1), 1), "used by aten.gather"),
        (lambda m, x: x.roll(1, 1), "rolled along its channels"),
    ],
)
def test_other_positions_freeze(function, reason):
    assert units_of(Picking(function), EXAMPLE) == {}
    assert reason in trace(Picking(function), EXAMPLE).frozen["conv"].frozen


def test_order_that_each_pass_writes_freezes():
    def shuffled(m, x):
        m.order.copy_(torch.arange(3, -1, -1))
        return x[:, m.order]

    assert units_of(Picking(shuffled), EXAMPLE) == {}


def test_index_of_pixels_leaves_the_channels_free():
    net = Picking(lambda m, x: x[:, :, m.order].index_select(3, m.order))
    assert units_of(net, EXAMPLE) == {"conv": SINGLE}
