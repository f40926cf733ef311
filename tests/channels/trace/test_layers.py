"""Layers of every kind: dimensions, norms, pooling, padding, and attributes that store shapes."""

from __future__ import annotations

import enum

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunebench.channels.costs import costs_of
from prunebench.channels.removal import mask, remove
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import largest_difference, randomized
from prunebench.measure.macs import count_macs
from tests.channels.conftest import Between, Wired, named, units_of

SINGLE = [[n] for n in range(6)]
PIXELS = {1: (9,), 2: (9, 8), 3: (9, 8, 7)}


def around(layer, dims=2, c_out=6):
    """A convolution of 6 channels, the layer, and a convolution of `c_out` channels."""
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return named(first=conv(3, 6, 1), layer=layer, last=conv(c_out, 2, 1))


def example(dims=2, **options):
    return torch.rand(2, 3, *PIXELS[dims], **options)


FOLLOWED = [
    (1, nn.BatchNorm1d(6)),
    (1, nn.BatchNorm1d(6, affine=False)),
    (1, nn.BatchNorm1d(6, affine=False, track_running_stats=False)),
    (1, nn.InstanceNorm1d(6)),
    (1, nn.AvgPool1d(2)),
    (1, nn.MaxPool1d(2)),
    (1, nn.AdaptiveAvgPool1d(3)),
    (1, nn.AdaptiveMaxPool1d(3)),
    (1, nn.ReflectionPad1d(1)),
    (1, nn.ReplicationPad1d(1)),
    (1, nn.CircularPad1d(1)),
    (1, nn.ConstantPad1d(1, 0.5)),
    (1, nn.Upsample(scale_factor=2)),
    (1, nn.Upsample(scale_factor=2, mode="linear")),
    (1, nn.Conv1d(6, 6, 3, groups=6, padding="same", padding_mode="circular")),
    (2, nn.BatchNorm2d(6, affine=False)),
    (2, nn.BatchNorm2d(6, track_running_stats=False)),
    (2, nn.BatchNorm2d(6, affine=False, track_running_stats=False)),
    (2, nn.InstanceNorm2d(6)),
    (2, nn.InstanceNorm2d(6, affine=True)),
    (2, nn.InstanceNorm2d(6, affine=True, track_running_stats=True)),
    (2, nn.LayerNorm([9, 8][1:], elementwise_affine=False)),
    (2, nn.GroupNorm(6, 6)),
    (2, nn.AdaptiveAvgPool2d((3, 2))),
    (2, nn.AdaptiveMaxPool2d((3, 2))),
    (2, nn.LPPool2d(2, 2)),
    (2, nn.CircularPad2d(1)),
    (2, nn.ReflectionPad2d(1)),
    (2, nn.ReplicationPad2d(1)),
    (2, nn.Upsample(scale_factor=2, mode="bilinear")),
    (2, nn.Upsample(scale_factor=2, mode="bicubic")),
    (2, nn.Upsample(scale_factor=2, mode="nearest-exact")),
    (2, nn.PReLU()),
    (2, nn.PReLU(6)),
    (2, nn.Dropout2d()),
    (2, nn.AlphaDropout()),
    (2, nn.FeatureAlphaDropout()),
    (2, nn.RReLU()),
    (2, nn.Conv2d(6, 6, 3, groups=6, padding=1, padding_mode="reflect")),
    (3, nn.BatchNorm3d(6)),
    (3, nn.InstanceNorm3d(6, affine=True)),
    (3, nn.AvgPool3d(2)),
    (3, nn.MaxPool3d(2)),
    (3, nn.AdaptiveAvgPool3d(2)),
    (3, nn.AdaptiveMaxPool3d(2)),
    (3, nn.CircularPad3d(1)),
    (3, nn.ReplicationPad3d(1)),
    (3, nn.Upsample(scale_factor=2, mode="trilinear")),
    (3, nn.Dropout3d()),
    (3, nn.Conv3d(6, 6, 3, groups=6)),
] + [
    (2, act())
    for act in (
        nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
        nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid,
        nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
    )
] + [
    (2, act(inplace=True))
    for act in (
        nn.CELU, nn.ELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.ReLU,
        nn.ReLU6, nn.SELU, nn.SiLU,
    )
]  # fmt: skip


@pytest.mark.parametrize(("dims", "layer"), FOLLOWED, ids=lambda value: repr(value)[:40])
def test_layers_that_keep_channels_apart_are_followed(dims, layer):
    assert units_of(around(layer, dims), example(dims)) == {"first": SINGLE}


@pytest.mark.parametrize(
    ("layer", "c_out", "reason"),
    [
        (nn.LocalResponseNorm(3), 6, "padded along its channels"),
        (nn.LayerNorm([6, 9, 8]), 6, "normalized over its channels by a layer norm"),
        (nn.RMSNorm([6, 9, 8]), 6, ""),
        (nn.Softmax(1), 6, "mixed across its channels"),
        (nn.Softmax2d(), 6, "mixed across its channels"),
        (nn.CrossMapLRN2d(3), 6, ""),
        (nn.Unfold(1), None, ""),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_layers_that_mix_channels_freeze_them(layer, c_out, reason):
    last = nn.Conv2d(6, 2, 1) if c_out else nn.Conv1d(6, 2, 1)
    net = named(free=nn.Conv2d(3, 5, 1), first=nn.Conv2d(5, 6, 1), layer=layer, last=last)
    assert list(units_of(net, example())) == ["free"]
    assert reason in trace(net, example()).frozen["first"].frozen


@pytest.mark.parametrize("n_groups", [1, 2, 3, 6])
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_keeps_its_groups_whole(n_groups, affine):
    net = around(nn.GroupNorm(n_groups, 6, affine=affine))
    size = 6 // n_groups
    rows = [list(range(first, first + size)) for first in range(0, 6, size)]
    assert units_of(net, example()) == {"first": rows}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolutions(dims, stride):
    layer = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
    net = around(layer(6, 5, 3, stride=stride), dims, c_out=5)
    assert units_of(net, example(dims)) == {"first": SINGLE, "layer": [[n] for n in range(5)]}


def test_transposed_convolution_in_groups_is_refused_by_name():
    net = around(nn.ConvTranspose2d(6, 6, 3, groups=3))
    assert units_of(net, example()) == {}
    assert trace(net, example()).frozen["first"].frozen == (
        "used by a grouped transposed convolution"
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("grouped", "first", "layer"),
    [
        ("whole", [[0, 1], [2, 3], [4, 5]], None),
        ("auto", [[0, 1], [2, 3], [4, 5]], None),  # three groups of two
        ("local", [[0, 2, 4], [1, 3, 5]], [[0, 3, 6], [1, 4, 7], [2, 5, 8]]),
    ],
)
def test_grouped_convolutions_both_ways(dims, grouped, first, layer):
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    net = around(conv(6, 9, 3, groups=3), dims, c_out=9)
    expected = {"first": first} | ({"layer": layer} if layer else {})
    assert units_of(net, example(dims), grouped=grouped) == expected


@pytest.mark.parametrize("grouped", ["whole", "local", "auto"])
def test_depthwise_convolution_with_a_multiplier(grouped):
    net = around(nn.Conv2d(6, 12, 3, groups=6), c_out=12)
    assert units_of(net, example(), grouped=grouped) == {"first": SINGLE}


def test_depthwise_convolution_with_a_hard_coded_number_of_groups_is_refused():
    net = Wired(
        lambda m, x: m.last(F.conv2d(m.first(x), m.filters, groups=6)),
        first=nn.Conv2d(3, 6, 1),
        filters=nn.Parameter(torch.rand(6, 1, 3, 3)),
        last=nn.Conv2d(6, 2, 1),
    )
    assert units_of(net, example()) == {}
    assert "hard-coded number of groups" in trace(net, example()).frozen["first"].frozen


class Blur(nn.Module):
    """A fixed filter for each channel, as blur pooling applies it."""

    def __init__(self, channels, groups):
        super().__init__()
        self.register_buffer("filters", torch.rand(3, 3).repeat(channels, 1, 1, 1))
        self.groups = groups

    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.filters, stride=2, groups=self.groups(x))


@pytest.mark.parametrize(
    "groups",
    [lambda x: x.shape[1], lambda x: x.size(1) * 2 // 2],
)
def test_fixed_filters_of_each_channel_are_followed(groups):
    net = around(Blur(6, groups))
    assert units_of(net, example()) == {"first": SINGLE}
    smaller = remove(net, trace(net, example()), {"first": torch.tensor([1, 4])})
    assert smaller.layer.filters.shape == (4, 1, 3, 3)
    assert list(trace(smaller, example()).groups) == ["first"]


def test_fixed_filters_of_two_per_channel_are_followed():
    assert units_of(around(Blur(12, lambda x: x.shape[1]), c_out=12), example()) == {
        "first": SINGLE
    }


def test_fixed_filters_of_a_written_number_of_channels_freeze():
    net = around(Blur(6, lambda x: 6))
    assert units_of(net, example()) == {}
    assert "hard-coded number of groups" in trace(net, example()).frozen["first"].frozen


class OneFilter(nn.Module):
    """One fixed filter for all channels."""

    def __init__(self, filters, *shape):
        super().__init__()
        self.register_buffer("filter", torch.rand(shape))
        self.filters = filters

    def forward(self, x):
        return F.conv2d(x, self.filters(self.filter, x), stride=2, groups=x.shape[1])


@pytest.mark.parametrize(
    ("filters", "shape"),
    [
        (lambda f, x: f.expand(x.shape[1], 1, 3, 3), (1, 1, 3, 3)),
        (lambda f, x: f.expand(x.shape[1], -1, -1, -1), (1, 1, 3, 3)),
        (lambda f, x: f.expand(x.shape[1], 1, 3, 3), (3, 3)),
        (lambda f, x: f.to(x).repeat(x.shape[1], 1, 1, 1), (3, 3)),
        (lambda f, x: f[None, None].tile((x.size(1), 1, 1, 1)).contiguous(), (3, 3)),
        (lambda f, x: torch.broadcast_to(f, (x.shape[1], 1, 3, 3)), (1, 3, 3)),
        (lambda f, x: f[:, None].expand(-1, x.size(1), -1, -1).reshape(-1, 1, 3, 3), (1, 3, 3)),
        (lambda f, x: (f[:, None] * f).expand(x.shape[1], 1, 3, 3), (3,)),
        (lambda f, x: x.new_ones(x.shape[1], 1, 3, 3) / 9, (1,)),
        (lambda f, x: f.mean() * x.mean((0, 2, 3)).view(-1, 1, 1, 1), (1,)),
    ],
)
def test_one_filter_for_all_channels_is_followed(filters, shape):
    net = around(OneFilter(filters, *shape))
    assert units_of(net, example()) == {"first": SINGLE}
    graph = trace(net, example())
    smaller = remove(net, graph, {"first": torch.tensor([1, 4])})
    assert smaller.layer.filter.shape == shape
    assert costs_of(graph).macs({"first": 4}) == count_macs(smaller, example()).total
    assert costs_of(trace(smaller, example())).macs() == count_macs(smaller, example()).total


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        (lambda f, x: f.expand(6, 1, 3, 3), "a convolution with a computed weight"),
        (lambda f, x: f.repeat(6, 1, 1, 1), ""),  # a single unit, which cannot be removed
        (lambda f, x: torch.cat([f] * x.shape[1]), "a convolution with a computed weight"),
    ],
)
def test_one_filter_copied_by_a_written_number_freezes(filters, reason):
    net = around(OneFilter(filters, 1, 1, 3, 3))
    assert units_of(net, example()) in ({}, {"first": [list(range(6))]})
    frozen = trace(net, example()).frozen
    assert reason in (frozen["first"].frozen if "first" in frozen else "")


def test_one_filter_and_a_written_number_of_groups_freeze():
    net = around(nn.Identity())
    net.layer.forward = lambda x: F.conv2d(x, torch.ones(x.shape[1], 1, 3, 3), groups=6)
    assert "hard-coded number of groups" in trace(net, example()).frozen["first"].frozen


class Size(enum.IntEnum):
    """A number that is no plain integer."""

    SIX = 6


class StoredBlur(nn.Module):
    """Fixed filters whose number is an attribute, as in timm."""

    def __init__(self, apply, rows=6):
        super().__init__()
        self.register_buffer("filters", torch.rand(rows, 1, 3, 3))
        self.channels = self.twin = 6
        self.apply_filters = apply

    def forward(self, x):
        return self.apply_filters(self, x)


def stored(m, x):
    return F.conv2d(x, m.filters, groups=m.channels)


@pytest.mark.parametrize(
    ("function", "rows"),
    [
        (stored, 6),
        (lambda m, x: F.conv2d(x, m.filters, None, 1, 0, 1, m.channels), 6),
        (lambda m, x: F.conv2d(x, m.filters.expand(m.channels, 1, 3, 3), groups=m.channels), 1),
        (lambda m, x: F.conv2d(x, m.filters.repeat(m.channels, 1, 1, 1), groups=x.shape[1]), 1),
        (lambda m, x: F.conv2d(x, m.filters.expand(x.size(1), 1, 3, 3), groups=m.channels), 1),
        (lambda m, x: stored(m, x) if m.channels == x.shape[1] else x, 6),
    ],
)
def test_number_of_filters_in_an_attribute_is_corrected(function, rows):
    net = around(StoredBlur(function, rows))
    assert units_of(net, example()) == {"first": SINGLE}
    graph = trace(net, example())
    smaller = remove(net, graph, {"first": torch.tensor([1, 4])})
    assert (smaller.layer.channels, net.layer.channels, smaller.layer.twin) == (4, 6, 6)
    assert type(net.layer.channels) is type(smaller.layer.channels) is int
    assert costs_of(graph).macs({"first": 4}) == count_macs(smaller, example()).total
    assert list(trace(smaller, example()).groups) == ["first"]


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda m, x: stored(m, x) / m.channels, "div"),
        (lambda m, x: stored(m, x) * (m.channels * 2), "*"),
        (lambda m, x: stored(m, x) * m.channels**-0.5, "**"),
        (lambda m, x: stored(m, x) * (2 if m.channels == 6 else 1), "=="),
        (lambda m, x: stored(m, x) * (2 if m.twin == m.channels else 1), "=="),
        (lambda m, x: stored(m, x) * (2 if m.channels == Size.SIX else 1), "=="),
        (lambda m, x: stored(m, x) * (2 if 6 == m.channels else 1), "=="),  # noqa: SIM300
        (lambda m, x: stored(m, x) * (m.twin - m.channels), "-"),
        (lambda m, x: stored(m, x) * (x.transpose(1, 3).shape[1] / m.channels), "/"),
        (lambda m, x: stored(m, x) * torch.zeros(m.channels).numel(), "zeros"),
        (lambda m, x: F.conv2d(x, m.filters, padding=m.channels, groups=m.channels), "conv2d"),
        (lambda m, x: stored(m, x) * (m.channels * x.shape[1]), "mul"),
        (lambda m, x: stored(m, x) * (2 if m.channels <= x.shape[1] else 1), ">="),
    ],
)
def test_attributes_with_another_use_freeze(function, operation):
    net = around(StoredBlur(function))
    assert units_of(net, example()) == {}
    assert f"used in the code ({operation})" in trace(net, example()).frozen["first"].frozen


def test_blur_pooling_of_timm_is_followed():
    timm = pytest.importorskip("timm")
    for channels in (6, None):
        net = around(timm.layers.BlurPool2d(channels))
        assert units_of(net, example()) == {"first": SINGLE}


@pytest.mark.parametrize(
    "copies",
    [
        lambda one, x: one.expand_as(x),
        lambda one, x: one.expand(-1, x.shape[1], -1, -1),
        lambda one, x: one.repeat(1, x.shape[1], 1, 1),
    ],
)
def test_one_map_copied_to_all_channels_leaves_them_free(copies):
    net = Wired(
        lambda m, x: m.last(m.first(x) * copies(m.map(x), m.first(x)).sigmoid()),
        first=nn.Conv2d(3, 6, 1),
        map=nn.Conv2d(3, 1, 1),
        last=nn.Conv2d(6, 2, 1),
    )
    assert units_of(net, example()) == {"first": SINGLE}


NUMBERS = [
    (nn.Conv2d(6, 6, 1, groups=6), {"groups": 4, "in_channels": 4, "out_channels": 4}),
    (nn.Conv2d(6, 5, 1), {"groups": 1, "in_channels": 4, "out_channels": 5}),
    (nn.ConvTranspose2d(6, 5, 1), {"in_channels": 4, "out_channels": 5}),
    (nn.BatchNorm2d(6), {"num_features": 4}),
    (nn.BatchNorm2d(6, affine=False), {"num_features": 4}),
    (nn.BatchNorm2d(6, affine=False, track_running_stats=False), {"num_features": 4}),
    (nn.InstanceNorm2d(6), {"num_features": 4}),
    (nn.InstanceNorm2d(6, affine=True), {"num_features": 4}),
    (nn.GroupNorm(6, 6), {"num_groups": 4, "num_channels": 4}),
    (nn.GroupNorm(6, 6, affine=False), {"num_groups": 4, "num_channels": 4}),
    (nn.PReLU(6), {"num_parameters": 4}),
]


@pytest.mark.parametrize(("layer", "numbers"), NUMBERS, ids=lambda value: repr(value)[:40])
def test_attributes_that_store_a_shape_are_updated(layer, numbers):
    net = around(layer, c_out=getattr(layer, "out_channels", 6))
    before = {name: getattr(layer, name) for name in numbers}
    smaller = remove(net, trace(net, example()), {"first": torch.tensor([1, 4])})
    assert {name: getattr(smaller.layer, name) for name in numbers} == numbers
    assert {name: getattr(layer, name) for name in numbers} == before
    assert smaller(example()).shape == net(example()).shape


def test_attributes_of_linear_layers_are_updated():
    net = named(a=nn.Linear(3, 6), norm=nn.BatchNorm1d(6), b=nn.Linear(6, 2))
    smaller = remove(net, trace(net, torch.rand(2, 3)), {"a": torch.tensor([0])})
    assert (smaller.a.out_features, smaller.b.in_features, smaller.norm.num_features) == (5, 5, 5)


def test_norm_without_tensors_is_updated_for_all_its_calls():
    net = Wired(
        lambda m, x: m.last(m.norm(m.a(x)) + m.norm(m.b(x))),
        a=nn.Conv2d(3, 6, 1),
        b=nn.Conv2d(3, 6, 1),
        norm=nn.InstanceNorm2d(6),
        last=nn.Conv2d(6, 2, 1),
    )
    graph = trace(net, example())
    assert remove(net, graph, {"a": torch.tensor([1, 2])}).norm.num_features == 4
    assert units_of(net, example()) == {"a": SINGLE}


class StochasticDepth(nn.Module):
    """Drops whole examples, as residual branches are in training."""

    def forward(self, x):
        if not self.training:
            return x
        return x * x.new_empty([len(x), 1, 1, 1]).bernoulli_(0.5).div_(0.5)


@pytest.mark.parametrize(
    "layer", [nn.Dropout(), nn.Dropout2d(), nn.FeatureAlphaDropout(), StochasticDepth()]
)
def test_noise_of_the_training_mode_is_followed(layer):
    graph = trace(around(layer), example(), modes=("train",))
    assert graph.groups["first"].n_units == 6


@pytest.fixture
def mixed_net():
    return named(
        stem=nn.Conv2d(3, 6, 3),
        norm=nn.BatchNorm2d(6),
        act=nn.ReLU(inplace=True),
        depthwise=nn.Conv2d(6, 6, 3, groups=6),
        point=nn.Conv2d(6, 8, 1),
        groups=nn.GroupNorm(4, 8),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(8, 2),
    )


def sizes(graph):
    return {name: group.n_units for name, group in graph.groups.items()}


@pytest.mark.parametrize(
    "prepare",
    [
        lambda net, x: (net.to(memory_format=torch.channels_last), x),
        lambda net, x: (net, x.contiguous(memory_format=torch.channels_last)),
        lambda net, x: (net.bfloat16(), x.bfloat16()),
        lambda net, x: (net.double(), x.double()),
        lambda net, x: (net, x[:1]),
        lambda net, x: (net.requires_grad_(False), x),
        lambda net, x: (net, x.requires_grad_()),
        lambda net, x: (net.train(), x),
    ],
    ids=["last net", "last input", "bf16", "double", "one", "frozen", "grad", "train"],
)
def test_layout_and_type_do_not_change_the_groups(mixed_net, prepare):
    net, x = prepare(mixed_net, example())
    graph = trace(net, x)
    assert sizes(graph) == {"stem": 6, "point": 4}
    smaller = remove(net, graph, {"stem": torch.tensor([0]), "point": torch.tensor([1])})
    assert smaller.eval()(x).shape == (len(x), 2)
    assert smaller.stem.weight.dtype == net.stem.weight.dtype


def test_autocast_does_not_change_the_groups(mixed_net):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graph = trace(mixed_net, example())
    assert sizes(graph) == {"stem": 6, "point": 4}


def recurrent(layer, dtype=torch.float32):
    """A convolution of 6 channels over time, a recurrent layer of 4, a head on its last state."""
    return Wired(
        lambda m, x: m.head(last(m.layer(m.conv(x).transpose(1, 2)))),
        conv=nn.Conv1d(3, 6, 1),
        layer=layer,
        head=nn.Linear(4 * (2 if layer.bidirectional else 1), 2),
    ).to(dtype)


def last(outputs):
    return outputs[0][:, -1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_read_fewer_channels(kind, options, dtype):
    net = recurrent(kind(6, 4, batch_first=True, **options), dtype)
    x = torch.rand(2, 3, 5).to(dtype)
    graph = trace(net, x)
    assert {name: group.n_units for name, group in graph.groups.items()} == {"conv": 6}
    for in_place in (False, True):
        smaller = remove(net, graph, {"conv": torch.tensor([1, 4])}, in_place=in_place)
        assert smaller.layer.input_size == 4
        assert smaller(x).shape == (2, 2)
    assert "recurrent layer" in graph.frozen["layer"].frozen


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_hold(kind):
    for options in ({}, {"num_layers": 2}, {"bidirectional": True}):
        net = recurrent(kind(6, 4, batch_first=True, **options))
        assert units_of(net, torch.rand(2, 3, 5)) == {"conv": SINGLE}


@pytest.mark.parametrize("cell", [nn.GRUCell(6, 4), nn.RNNCell(6, 4)])
def test_recurrent_cells_hold_and_keep_their_state(cell):
    net = Wired(
        lambda m, x: m.head(m.cell(m.conv(x), m.state(x))),
        conv=nn.Linear(3, 6),
        state=nn.Linear(3, 4),
        cell=cell,
        head=nn.Linear(4, 2),
    )
    assert units_of(net, torch.rand(2, 3)) == {"conv": SINGLE}
    smaller = remove(net, trace(net, torch.rand(2, 3)), {"conv": torch.tensor([0])})
    assert smaller.cell.input_size == 5
    assert "whose size is fixed" in trace(net, torch.rand(2, 3)).frozen["state"].frozen


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
def test_network_on_a_gpu(mixed_net, half):
    net = randomized(mixed_net, 0).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
        graph = trace(net, example().double().cuda())
    assert sizes(graph) == {"stem": 6, "point": 4}
    removed = {"stem": torch.tensor([0, 3]).cuda(), "point": torch.tensor([2])}
    smaller = remove(net, graph, removed)
    assert all(p.is_cuda for p in smaller.parameters())
    x = example().double().cuda()
    assert largest_difference(mask(net, graph, removed), smaller, x) < 1e-9


def test_convolutions_of_one_channel_in_and_out():
    net = named(
        a=nn.Conv2d(1, 6, 1), b=nn.Conv2d(6, 1, 1), c=nn.Conv2d(1, 4, 1), d=nn.Conv2d(4, 1, 1)
    )
    found = units_of(net, torch.rand(2, 1, 5, 5))
    assert found == {"a": SINGLE, "b": [[0]], "c": [[0], [1], [2], [3]]}


def test_grid_sampling_follows_the_image_and_freezes_the_places():
    net = Wired(
        lambda m, x: m.head(
            F.grid_sample(m.conv(x), m.where(x).permute(0, 2, 3, 1), align_corners=False)
        ),
        conv=nn.Conv2d(3, 4, 1),
        where=nn.Conv2d(3, 2, 1),
        head=nn.Conv2d(4, 2, 1),
    )
    assert units_of(net, example()) == {"conv": [[0], [1], [2], [3]]}


def test_unknown_operation_is_reported_by_name():
    graph = trace(Between(lambda x: x.cumprod(1)), example())
    assert graph.frozen["conv"].frozen == "used by aten.cumprod, an operation unknown to the tracer"
    assert graph.frozen["head:in"].frozen == (
        "reads the result of aten.cumprod, an operation unknown to the tracer"
    )
