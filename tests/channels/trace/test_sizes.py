"""Sizes that the code reads from a tensor are followed, hard-coded ones are not."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench.channels.removal import remove
from prunebench.channels.trace.sizes import ChannelCount
from prunebench.channels.trace.tracer import trace
from tests.channels.conftest import Between, Wired, named, units_of

EXAMPLE = torch.rand(2, 3, 4, 4)


def shuffle(x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffle_with_rows_inside(x):
    n, c, h, w = x.shape
    return x.view(n, c // 2, 2, h, w).transpose(1, 2).flatten(1, 2)


def halves_swapped(x):
    c = x.shape[1]
    return torch.cat([x[:, c // 2 :], x[:, : c // 2]], 1)


def gated_by_split(x):
    a, b = torch.split(x, x.size(1) // 2, 1)
    return a * b.sigmoid()


def gated_by_narrow(x):
    half = x.shape[1] // 2
    return x.narrow(1, 0, half) * x.narrow(1, half, half)


def gated_by_split_sizes(x):
    half = x.shape[1] // 2
    a, b = x.split([half, half], 1)
    return a + b


def maxout(x):
    n, c, h, w = x.shape
    return x.view(n, c // 2, 2, h, w).amax(2)


def split_attention(x):
    n, c, h, w = x.shape
    x = x.reshape(n, 2, c // 2, h, w)
    weight = x.sum(1).mean((2, 3)).view(n, 1, -1).repeat(1, 2, 1).softmax(1)
    return (x * weight.view(n, 2, c // 2, 1, 1)).sum(1)


PAIRS = [[0, 2], [1, 3]]
NEIGHBORS = [[0, 1], [2, 3]]
SINGLE = [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ("function", "c_in", "rows"),
    [
        (shuffle, 4, PAIRS),
        (shuffle_with_rows_inside, 4, NEIGHBORS),
        (halves_swapped, 4, PAIRS),
        (gated_by_split, 2, PAIRS),
        (gated_by_narrow, 2, PAIRS),
        (gated_by_split_sizes, 2, PAIRS),
        (maxout, 2, NEIGHBORS),
        (split_attention, 2, PAIRS),
        (lambda x: torch.mul(*x.chunk(2, 1)), 2, PAIRS),
        (lambda x: F.glu(x, 1), 2, PAIRS),
        (lambda x: F.channel_shuffle(x, 2), 4, PAIRS),
        (lambda x: torch.native_channel_shuffle(x, 2), 4, PAIRS),
        (lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), 4, [[0, 1, 2, 3]]),
        (lambda x: x.reshape(len(x), 2, -1).mean(1).reshape(len(x), 2, 4, 4), 2, None),
        (lambda x: x.view(x.shape[0], x.shape[1], -1).unsqueeze(3), 4, SINGLE),
        (lambda x: x.view(x.shape[0], x.shape[1] * 16).view(*x.shape), 4, SINGLE),
        (lambda x: x.flatten(0, 1).view(x.shape), 4, SINGLE),
        (lambda x: x + torch.ones(x.shape[1], 1, 1), 4, SINGLE),
        (lambda x: torch.cat([x, x.new_zeros(x.shape)], 2), 4, SINGLE),
        (lambda x: x.roll(1, 2), 4, SINGLE),
        (lambda x: x.expand(x.shape), 4, SINGLE),
        (lambda x: x.repeat_interleave(2, 1), 8, SINGLE),
        (lambda x: x.expand(3, -1, -1, -1, -1)[1], 4, SINGLE),
        (lambda x: x.data * 2 + x.detach(), 4, SINGLE),
    ],
)
def test_sizes_read_from_tensors_are_followed(function, c_in, rows):
    found = units_of(Between(function, c_in), EXAMPLE)
    assert found == ({"conv": rows} if rows else {})


@pytest.mark.parametrize(
    ("function", "c_in", "reason"),
    [
        (lambda x: x.view(-1, 2, 2, 4, 4).transpose(1, 2).flatten(1, 2), 4, "hard-coded sizes"),
        (lambda x: x.reshape(-1, 4, 4, 4), 4, "hard-coded sizes"),
        (lambda x: x.unflatten(1, (2, 2)).sum(1), 2, "divided along its channels"),
        (lambda x: x[:, : x.shape[1] // 4].repeat(1, 4, 1, 1) + x[:, 1:2], 4, "cut along"),
        (lambda x: x[:, : x.shape[1] - 1], 3, "cut along"),
        (lambda x: x.split(2, 1)[1], 2, "cut along"),
        (lambda x: x.split([x.shape[1] // 4, x.shape[1] * 3 // 4], 1)[1], 3, "cut along"),
        (lambda x: x.roll(1, 1), 4, "rolled along its channels, which moves others after"),
        (lambda x: x.roll(1), 4, "rolled along its channels, which moves others after a removal"),
        (lambda x: x.roll((1, 2), (2, -3)), 4, "rolled along its channels"),
        (lambda x: x.expand(len(x), 4, 4, 4), 4, "hard-coded sizes"),
        (lambda x: x.tensor_split(2, 1)[0], 2, "cut along"),
        (lambda x: x + torch.ones(4, 1, 1), 4, "combined with a constant"),
        (lambda x: torch.cat([x, x.new_zeros(len(x), 4, 4, 4)], 2), 4, "joined with a constant"),
        (lambda x: x.unbind(1)[0].unsqueeze(1) + x.unbind(1)[3].unsqueeze(1), 1, "cut along"),
    ],
)
def test_hard_coded_sizes_freeze(function, c_in, reason):
    graph = trace(Between(function, c_in), EXAMPLE)
    assert graph.groups == {}
    assert reason in graph.frozen["conv"].frozen


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x / x.norm(dim=1, keepdim=True), "reduced over its channels"),
        (lambda x: F.normalize(x, dim=1), "reduced over its channels"),
        (lambda x: x / x.norm(p=2, dim=(1, 2, 3), keepdim=True), "reduced over its channels"),
        (lambda x: x / x.mean(1, keepdim=True), "reduced over its channels by aten.mean"),
        (lambda x: x / torch.linalg.vector_norm(x, 3, dim=1, keepdim=True), "reduced over"),
    ],
)
def test_norms_over_channels_freeze(function, reason):
    graph = trace(Between(function), EXAMPLE)
    assert graph.groups == {}
    assert reason in graph.frozen["conv"].frozen


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x / x.norm(p=1, dim=(2, 3), keepdim=True),  # 1 is an order, not a dimension
        lambda x: x / torch.linalg.vector_norm(x, 1, dim=(2, 3), keepdim=True),
        lambda x: F.normalize(x, p=1.0, dim=2),
        lambda x: x - x.amax(dim=(2, 3), keepdim=True),
        lambda x: x.max(3, keepdim=True).values + x.std((2, 3), keepdim=True),
    ],
)
def test_norms_over_pixels_are_followed(function):
    assert units_of(Between(function), EXAMPLE) == {"conv": SINGLE}


def test_relative_norm_of_channels_freezes_and_leaves_the_rest():
    def response(x):  # global response normalization: the mean runs over channels
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x * (norm / (norm.mean(1, keepdim=True) + 1e-6)) + x

    net = named(first=nn.Conv2d(3, 6, 1), last=Between(response))
    net.last.conv = nn.Conv2d(6, 4, 1)
    assert units_of(net, EXAMPLE) == {"first": [[n] for n in range(6)]}


def test_dimensions_of_equal_size_are_told_apart_by_their_ids():
    net = named(
        a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1, groups=2), flat=nn.Flatten(), c=nn.Linear(64, 4)
    )
    found = units_of(net, torch.rand(4, 4, 4, 4))
    assert found == {"a": NEIGHBORS}
    net = Between(lambda x: x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2).view_as(x))
    net.conv = nn.Conv2d(4, 4, 1)
    assert units_of(net, torch.rand(4, 4, 4, 4)) == {"conv": SINGLE}


def test_channels_divided_by_the_number_of_others_keep_their_share():
    def by_others(m, x):
        a, b = m.a(x), m.b(x)
        n, c, h, w = a.shape
        return m.head(b.view(n, 2, c // 2, h, w).sum(1)) + m.other(a)

    net = Wired(
        by_others,
        a=nn.Conv2d(3, 8, 1),
        b=nn.Conv2d(3, 8, 1),
        head=nn.Conv2d(4, 2, 1),
        other=nn.Conv2d(8, 2, 1),
    )
    graph = trace(net, EXAMPLE)
    assert {graph.frozen[name].frozen for name in ("a", "b")} == {
        "divided by the number of other channels"
    }
    assert units_of(net, EXAMPLE) == {}


def test_channel_counts_are_ordinary_numbers_elsewhere():
    count = ChannelCount(8, np.arange(8))
    assert type(count // 2 * 3 + count - count // 4) is ChannelCount
    assert type(sum([count, count])) is ChannelCount
    assert {type(count + 1), type(count / 2), type(count % 3), type(count * count)} == {int, float}
    assert {8: "a"}[count] == "a"
    assert pickle.loads(pickle.dumps(copy.deepcopy(count))) == 8
    assert torch.zeros(count, count // 4).shape == (8, 2)


def compared(x):
    assert x.shape[1] == 4
    return x


def compared_in_a_function(x):
    torch._assert(x.size(1) == 4, "four channels")
    return x


def chosen(x):
    return x * 2 if x.shape[1] >= 4 else x


def numpy_root(x):
    return x / np.sqrt(x.shape[1])


def numpy_product(x):
    return x / float(np.prod(x.shape[1:]))


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (compared, "=="),
        (compared_in_a_function, "=="),
        (chosen, ">="),
        (lambda x: x * 2 if x.shape == (2, 4, 4, 4) else x, "=="),
        (lambda x: x * 2 if x.shape[1] in (3, 4) else x, "=="),
        (lambda x: x * min(x.shape[1], 64), ">"),
        (lambda x: x / x.shape[1], "div"),
        (lambda x: x.shape[1] * x, "*"),
        (lambda x: x + 2 * x.size(1), "add"),
        (lambda x: x.div(x.shape[1] // 2), "div"),
        (lambda x: x * x.shape[1] ** -0.5, "**"),
        (lambda x: x * (1 / x.shape[1]), "/"),
        (lambda x: x * 2 ** x.shape[1], "**"),
        (lambda x: x * math.sqrt(x.shape[1]), "float"),
        (lambda x: x * int(x.shape[1]), "int"),
        (lambda x: x * -x.shape[1], "-"),
        (lambda x: x * (x.shape[1] + 1), "+"),
        (lambda x: x * (8 - x.shape[1]), "-"),
        (lambda x: x * (x.shape[1] * 0.5), "*"),
        (lambda x: x * (x.shape[1] * x.shape[1]), "*"),
        (lambda x: x * (x.shape[1] >> 1), ">>"),
        (lambda x: x * torch.tensor(x.shape[1]), "tensor"),
        (lambda x: x * torch.full((), x.shape[1], dtype=x.dtype), "full"),
        (lambda x: x.clamp(max=x.shape[1] / 8), "/"),
        (lambda x: x / x[0].numel(), "div"),
        (lambda x: x / math.prod(x.shape[1:]), "div"),
        (lambda x: x / len(x[0]), "len"),
        (lambda x: x * abs(x.shape[1]), "abs"),
        (lambda x: x * +x.shape[1], "+"),
        (lambda x: x * math.trunc(x.shape[1]), "trunc"),
        (lambda x: x * x.shape[1].numerator, "mul"),
        (lambda x: x * x.shape[1].bit_count(), "bit_count"),
        (lambda x: x * len([0] * x.shape[1]), "*"),
        (lambda x: x * x.stride(0), "stride"),
        (lambda x: x * x.stride()[0], "stride"),
        (lambda x: x * torch.arange(x.shape[1]).to(x).max(), "arange"),
        (lambda x: x * torch.eye(x.shape[1]).to(x).sum(), "eye"),
        (lambda x: x * F.one_hot(torch.tensor(0), x.shape[1]).to(x).mean(), "one_hot"),
        (lambda x: x * torch.ones(x.shape[1] * 2).to(x).sum(), "ones"),
        (numpy_root, "sqrt"),
        (numpy_product, "int"),
    ],
)
def test_numbers_of_channels_used_in_the_code_freeze(function, operation):
    assert units_of(Between(function), EXAMPLE) == {}
    frozen = trace(Between(function), EXAMPLE).frozen["conv"].frozen
    assert frozen == f"their number is used in the code ({operation})"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x * len(x[0].tolist()), "tolist"),
        (lambda x: x * x.numpy().shape[1], "numpy"),
        (lambda x: x * float(np.asarray(x).sum()), "array"),
    ],
)
def test_channels_that_are_read_outside_of_torch_freeze(function, name):
    assert units_of(Between(function), EXAMPLE) == {}
    assert trace(Between(function), EXAMPLE).frozen["conv"].frozen == (
        f"read outside of PyTorch by {name}"
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2 if x.shape[1] > 0 else x,
        lambda x: x * x.stride(2),
        lambda x: x * (x.shape[1] / x.relu().shape[1]),
        lambda x: x * 2 if x.shape == x.relu().shape else x,
        lambda x: x * 2 if x.numel() == x.relu().numel() else x,
        lambda x: x.view(len(x), -1, x[0].numel() // x.shape[1]).view(x.shape),
        lambda x: x / (x.shape[0] * x.shape[2]),
        lambda x: x + torch.zeros(x.shape, dtype=x.dtype),
    ],
)
def test_numbers_that_do_not_change_with_the_channels_are_followed(function):
    assert units_of(Between(function), EXAMPLE) == {"conv": [[0], [1], [2], [3]]}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flatten(1).unflatten(1, (-1, 4, 4)),
        lambda x: torch.unflatten(x.flatten(1), -1, (-1, *x.shape[2:])),
        lambda x: x.flatten(1).unflatten(dim=1, sizes=(x.shape[1], 4, 4)),
        nn.Sequential(nn.Flatten(), nn.Unflatten(1, (-1, 4, 4))),
        lambda x: x.unflatten(1, (-1, 1)).squeeze(2),
        lambda x: x.flatten(2).unflatten(2, (4, 4)),
    ],
)
def test_unflatten_is_followed_like_view(function):
    assert units_of(Between(function), EXAMPLE) == {"conv": [[0], [1], [2], [3]]}


def test_unflatten_to_a_number_of_groups_keeps_them_equal():
    net = Between(lambda x: x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2))
    assert units_of(net, EXAMPLE) == {"conv": [[0, 2], [1, 3]]}


class Checked(nn.Module):
    """A module that compares the number of its channels with an attribute."""

    def __init__(self, check):
        super().__init__()
        self.channels, self.half, self.check = 4, 2, check

    def forward(self, x):
        self.check(self, x)
        return x * 2


def asserted(m, x):
    assert x.shape[1] == m.channels


def raised(m, x):
    if m.channels != x.size(1):
        raise ValueError("wrong number of channels")


def asserted_shape(m, x):
    assert x.shape[1:] == (m.channels, 4, 4)


def asserted_by_torch(m, x):
    torch._assert(x.shape[1] == m.channels, "wrong number of channels")


@pytest.mark.parametrize("check", [asserted, raised, asserted_shape, asserted_by_torch])
def test_attribute_that_a_number_of_channels_is_compared_with_is_corrected(check):
    net = named(conv=nn.Conv2d(3, 4, 1), checked=Checked(check), head=nn.Conv2d(4, 2, 1))
    assert units_of(net, EXAMPLE) == {"conv": SINGLE}
    smaller = remove(net, trace(net, EXAMPLE), {"conv": torch.tensor([0])})
    assert (smaller.checked.channels, net.checked.channels) == (3, 4)


@pytest.mark.parametrize(
    "check",
    [
        lambda m, x: x.shape[1] == m.half,
        lambda m, x: x.shape[1] // 2 == m.half,
        lambda m, x: m.channels <= x.shape[1],
    ],
)
def test_other_comparisons_with_attributes_freeze(check):
    net = named(conv=nn.Conv2d(3, 4, 1), checked=Checked(check), head=nn.Conv2d(4, 2, 1))
    assert units_of(net, EXAMPLE) == {}


def test_divisibility_is_kept_by_units_of_several_channels():
    def shuffled(x):
        n, c, h, w = x.shape
        assert c % 2 == 0
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)

    def even(x):
        return x * 2 if x.shape[1] % 2 == 0 else x

    assert units_of(Between(shuffled), EXAMPLE) == {"conv": [[0, 2], [1, 3]]}
    assert units_of(Between(even), EXAMPLE) == {}
    assert "divides their number by 2" in trace(Between(even), EXAMPLE).frozen["conv"].frozen


def test_numbers_of_two_layers_that_are_compared_freeze():
    net = Wired(
        lambda m, x: m.head(torch.cat([m.a(x), m.b(x)], 1)) * (m.a(x).shape[1] == m.b(x).shape[1]),
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(3, 4, 1),
        head=nn.Conv2d(8, 2, 1),
    )
    assert units_of(net, EXAMPLE) == {}


@pytest.mark.parametrize("function", [Tensor.view, Tensor.reshape, torch.reshape])
def test_numbers_of_channels_that_other_values_are_reshaped_to_freeze(function):
    """As in timm's lambda layer, which reshapes its result to the channels of its input."""

    def forward(m, x):
        x = m.conv(x)
        own = m.other(x).reshape(1, 2, 2, 16).sum(1, keepdim=True).expand(1, 2, 2, 16)
        return m.head(function(own.contiguous(), x.shape))

    parts = {"conv": nn.Conv2d(3, 4, 1), "other": nn.Conv2d(4, 4, 1), "head": nn.Conv2d(4, 2, 1)}
    graph = trace(Wired(forward, **parts), torch.rand(1, 3, 4, 4))
    assert not graph.groups
    assert "of other values" in graph.frozen["conv"].frozen


class Scaled(nn.Module):
    """A convolution whose weight is divided by the number of its inputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.last(self.first(x))
        return x * self.last.weight[0].numel() ** -0.5


def test_number_of_entries_of_a_weight_is_a_number_of_channels():
    assert units_of(Scaled(), EXAMPLE) == {}
    assert "number is used in the code" in trace(Scaled(), EXAMPLE).frozen["first"].frozen
