"""Paths through a network: gates, constants, indices, shared heads, heads used in training only."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunebench.channels.removal import mask, remove
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import largest_difference, randomized, verify
from tests.channels.conftest import Between, Wired, named, units_of

EXAMPLE = torch.rand(2, 3, 8, 8)
SINGLE = [[0], [1], [2], [3]]


def squeeze_and_excite(**extra):
    return Wired(
        lambda m, x: gated(m, m.conv(x)),
        conv=nn.Conv2d(3, 6, 3),
        squeeze=nn.Conv2d(6, 4, 1),
        excite=nn.Conv2d(4, 6, 1),
        head=nn.Conv2d(6, 2, 1),
        **extra,
    )


def gated(m, x):
    gate = m.excite(m.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
    return m.head(x * gate)


def test_gate_is_coupled_with_the_channels_that_it_scales():
    net = squeeze_and_excite()
    graph = trace(net, EXAMPLE)
    assert graph.groups["conv"].producers == ("conv.weight", "excite.weight")
    assert units_of(net, EXAMPLE) == {"conv": [[n] for n in range(6)], "squeeze": SINGLE}


def test_masking_producers_would_be_wrong_before_a_sigmoid():
    net = randomized(named(a=nn.Conv2d(3, 4, 1), gate=nn.Sigmoid(), b=nn.Conv2d(4, 2, 1)), 0)
    graph = trace(net, EXAMPLE.double())
    smaller = remove(net, graph, {"a": torch.tensor([1])})
    masked = mask(net, graph, {"a": torch.tensor([1])})
    assert largest_difference(masked, smaller, EXAMPLE) < 1e-12
    with torch.no_grad():  # sigmoid(0) = 0.5 still reaches b
        net.a.weight[1], net.a.bias[1] = 0, 0
    assert largest_difference(net, smaller, EXAMPLE) > 1e-3


def test_one_channel_gate_is_not_one_of_the_channels_it_scales():
    net = Wired(
        lambda m, x: m.head(m.conv(x) * m.gate(x).sigmoid()),
        conv=nn.Conv2d(3, 4, 1),
        gate=nn.Conv2d(3, 1, 1),
        head=nn.Conv2d(4, 2, 1),
    )
    assert units_of(net, EXAMPLE) == {"conv": SINGLE}
    assert "broadcast from one channel" in trace(net, EXAMPLE).frozen["gate"].frozen


def test_layers_of_one_channel_are_not_mistaken_for_constants():
    net = Wired(
        lambda m, x: m.head(torch.cat([m.wide(x), m.one(x)], 1)) + m.one(x),
        wide=nn.Conv2d(3, 4, 1),
        one=nn.Conv2d(3, 1, 1),
        head=nn.Conv2d(5, 1, 1),
    )
    assert units_of(net, EXAMPLE) == {"wide": SINGLE}


def test_activation_times_a_zero_padded_scale():
    # the last two channels are always zero, yet they are channels like any other
    net = Wired(
        lambda m, x: m.head(m.conv(x) * F.pad(m.scale, (0, 0, 0, 0, 0, 2))),
        conv=nn.Conv2d(3, 4, 1),
        scale=nn.Parameter(torch.rand(2, 1, 1)),
        head=nn.Conv2d(4, 2, 1),
    )
    assert units_of(net, EXAMPLE) == {}
    net = Wired(
        lambda m, x: m.head(m.conv(x) * m.pad(m.gate(x).mean((2, 3), True).sigmoid())),
        conv=nn.Conv2d(3, 4, 1),
        gate=nn.Conv2d(3, 2, 1),
        pad=nn.ZeroPad3d((0, 0, 0, 0, 1, 1)),
        head=nn.Conv2d(4, 2, 1),
    )
    assert units_of(net, EXAMPLE) == {"conv": [[1], [2]], "conv#1": [[0], [3]]}


class Coordinates(nn.Module):
    """Concatenates the position of each pixel with the channels, as CoordConv does."""

    def forward(self, x):
        n, _, h, w = x.shape
        rows = torch.linspace(0, 1, h, dtype=x.dtype)[:, None].expand(n, 1, h, w)
        return torch.cat([rows, x, rows * 2], 1)


def test_channels_beside_constants_are_removed_and_the_constants_stay():
    net = named(conv=nn.Conv2d(3, 4, 1), place=Coordinates(), head=nn.Conv2d(6, 2, 1))
    assert units_of(net, EXAMPLE) == {"conv": SINGLE}
    smaller = remove(net, trace(net, EXAMPLE), {"conv": torch.tensor([0, 1])})
    assert torch.equal(smaller.head.weight, net.head.weight[:, [0, 3, 4, 5]])


@pytest.mark.parametrize(
    ("function", "c_in"),
    [
        (lambda x: torch.ones(4, 1, 1, dtype=x.dtype) * x, 4),
        (lambda x: x + torch.arange(4, dtype=x.dtype).view(1, 4, 1, 1), 4),
        (lambda x: torch.where(torch.tensor([1, 0, 1, 0]).bool()[:, None, None], x, 0.0), 4),
    ],
)
def test_constants_of_a_written_size_freeze(function, c_in):
    assert units_of(Between(function, c_in), EXAMPLE) == {}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[x[:, 0, 0, 0] > 0],
        lambda x: x[x > 0].mean() * x,
        lambda x: x[:, x.mean((0, 2, 3)).argsort()],
        lambda x: x[:, x.mean((0, 2, 3)).topk(4).indices],
        lambda x: x.gather(1, x.argsort(1)),
        lambda x: x * (x.mean((2, 3), True) > x.mean((1, 2, 3), True)),
        lambda x: x.scatter(1, x.argmax(1, True), 0.0),
        lambda x: x + torch.arange(10.0).to(x)[x.flatten(2).argmax(2) % 10][:, :, None, None],
        lambda x: torch.index_put(x, (x > 0,), torch.tensor(0.0).to(x)),
        lambda x: x.sort(1).values,
        lambda x: x.take(torch.arange(4 * 64).view(1, 4, 8, 8)),
        lambda x: x * float(x.mean()),
    ],
)
def test_operations_that_depend_on_channel_indices_freeze(function):
    assert units_of(Between(function), EXAMPLE) == {}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * (x > 0),
        lambda x: x.masked_fill(x < 0, 0.0),
        lambda x: torch.where(x > 0.1, x, -x),
        lambda x: x[torch.tensor([1, 0])],
        lambda x: x[:, :, torch.arange(7, -1, -1)],
        lambda x: torch.cat([x, x.argmax(3, True).to(x)], 3),
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    ],
)
def test_masks_and_indices_of_each_channel_are_followed(function):
    assert units_of(Between(function), EXAMPLE) == {"conv": SINGLE}


def written_in_place(x):
    x = x.clone()
    x[:, :, 0] = 0
    x += 1
    x.mul_(x.sigmoid())
    x[:, :, 1:3].clamp_(max=0.7)
    return x


def filled_rows(x):
    out = x.new_zeros(x.shape)
    out[torch.arange(len(x))] = x
    out[0] = 2 * x[0]
    return out


def filled_view(x):
    out = torch.zeros_like(x)
    out[:, :, 2:] = x[:, :, 2:]
    return out


@pytest.mark.parametrize("function", [written_in_place, filled_rows, filled_view])
def test_writes_in_place_are_followed(function):
    assert units_of(Between(function), EXAMPLE) == {"conv": SINGLE}


def test_detached_path_is_coupled_like_any_other():
    net = Wired(
        lambda m, x: detached(m, m.conv(x)),
        conv=nn.Conv2d(3, 4, 1),
        score=nn.Conv2d(4, 1, 1),
        head=nn.Conv2d(4, 2, 1),
    )
    assert units_of(net, EXAMPLE) == {"conv": SINGLE}
    members = {m.parameters[0] for m in trace(net, EXAMPLE).groups["conv"].members}
    assert "score.weight" in members


def detached(m, x):
    with torch.no_grad():
        best = m.score(x.detach()).flatten(1).argmax(1)
    return m.head(x).flatten(2)[torch.arange(len(x)), :, best]


def pyramid():
    return Wired(
        lambda m, x: levels(m, x),
        a=nn.Conv2d(3, 4, 3, padding=1),
        b=nn.Conv2d(4, 6, 3, stride=2, padding=1),
        lateral_a=nn.Conv2d(4, 5, 1),
        lateral_b=nn.Conv2d(6, 5, 1),
        tower=nn.Conv2d(5, 7, 3, padding=1),
        head=nn.Conv2d(7, 2, 1),
    )


def levels(m, x):
    a = m.a(x)
    b = m.lateral_b(m.b(a))
    a = m.lateral_a(a) + F.interpolate(b, scale_factor=2.0)
    return [m.head(m.tower(level).relu()) for level in (a, b)]


def test_heads_shared_over_levels_are_one_layer():
    graph = trace(pyramid(), EXAMPLE)
    assert {name: g.producers for name, g in graph.groups.items()} == {
        "a": ("a.weight",),
        "b": ("b.weight",),
        "lateral_b": ("lateral_b.weight", "lateral_a.weight"),
        "tower": ("tower.weight",),
    }
    assert len(units_of(pyramid(), EXAMPLE)["tower"]) == 7


def auxiliary():
    return Wired(
        lambda m, x: with_auxiliary(m, m.conv(x)),
        conv=nn.Conv2d(3, 4, 1),
        norm=nn.BatchNorm2d(4),
        aux=nn.Conv2d(4, 3, 1),
        aux_head=nn.Conv2d(3, 2, 1),
        head=nn.Conv2d(4, 2, 1),
    )


def with_auxiliary(m, x):
    out = m.head(m.norm(x))
    return (out, m.aux_head(m.aux(x))) if m.training else out


def test_head_of_the_training_mode_is_cut_when_that_mode_is_traced():
    found = units_of(auxiliary(), EXAMPLE, modes=("eval", "train"))
    assert found == {"conv": SINGLE, "aux": [[0], [1], [2]]}


def test_head_of_the_training_mode_is_reported_as_unused_without_it():
    net = auxiliary()
    unused = ("aux.weight", "aux.bias", "aux_head.weight", "aux_head.bias")
    assert trace(net, EXAMPLE).unused == unused
    assert trace(net, EXAMPLE, modes=("eval", "train")).unused == ()
    broken = verify(net, EXAMPLE).broken
    assert list(broken) == ["conv"]
    assert "in training" in broken["conv"]
    assert "no traced mode uses aux.weight" in broken["conv"]


def test_costs_are_those_of_the_first_mode():
    net = auxiliary()
    calls = {mode: trace(net, EXAMPLE, modes=(mode, "eval")).calls for mode in ("eval", "train")}
    assert [call.weight for call in calls["eval"]] == ["conv.weight", "head.weight"]
    assert len(calls["train"]) == 4


def test_random_numbers_and_statistics_are_left_alone_in_train_mode():
    net = named(
        conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), drop=nn.Dropout(), last=nn.Conv2d(4, 2, 1)
    )
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    trace(net, EXAMPLE, modes=("train",))
    assert torch.equal(torch.rand(3), expected)
    assert net.norm.num_batches_tracked == 0


class Images(nn.Module):
    """Takes a list of images of different sizes, as detectors do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        size = [max(image.shape[d] for image in images) for d in (1, 2)]
        batch = images[0].new_full((len(images), 3, *size), 0.5)
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]].copy_(image)
        return [{"scores": self.head(self.conv(batch).relu())}]


def test_list_of_images_counts_as_a_batch():
    images = [torch.rand(3, 4, 6), torch.rand(3, 5, 5)]
    graph = trace(Images(), (images,))
    assert graph.batch == 2
    assert graph.groups["conv"].role == "stem"
    assert units_of(Images(), (images,)) == {"conv": SINGLE}


def test_watched_modules_are_compared_instead_of_the_output():
    class Hidden(nn.Module):
        """Depends on the number of channels, but its output does not show it."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            y = self.conv(x)
            return x.mean() + 1e-12 * self.head(y * len(range(y.shape[1])))

    assert verify(Hidden(), EXAMPLE).broken == {}
    assert list(verify(Hidden(), EXAMPLE, watch=["head"]).broken) == ["conv"]


class OptionA(nn.Module):
    """Shortcuts that add channels of zeros by a number in the code, as most CIFAR code does."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(5, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head((self.norm(self.conv(self.inner(x).relu())) + shortcut).sigmoid())


def test_zeros_padded_by_a_number_in_the_code_stay_and_the_rest_is_removed():
    assert units_of(OptionA(), EXAMPLE) == {
        "stem": [[n] for n in range(4)],
        "inner": [[n] for n in range(5)],
    }
    graph = trace(OptionA(), EXAMPLE)
    stream = {m.parameters[0]: m.index.flatten().tolist() for m in graph.groups["stem"].members}
    assert stream["conv.weight"] == [2, 3, 4, 5]
    assert "padded along its channels" in graph.frozen["conv"].frozen


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.pad(x, (0, 0, 0, 0, 0, x.shape[1])),
        lambda x: F.pad(x, (0, 0, 0, 0, 0, 8 - x.shape[1])),
        lambda x: F.pad(x, (0, 0, 0, 0, x.shape[1] // 2, x.shape[1] // 2)),
    ],
)
def test_zeros_padded_by_a_number_of_channels_freeze(function):
    net = Between(function, 8)
    assert units_of(net, EXAMPLE) == {}
    assert "number is used in the code" in trace(net, EXAMPLE).frozen["conv"].frozen


def test_cropping_of_channels_freezes():
    assert units_of(Between(lambda x: F.pad(x, (0, 0, 0, 0, -1, 0)), 3), EXAMPLE) == {}


@pytest.mark.parametrize(
    ("function", "c_in", "rows"),
    [
        (lambda x: x.flip(1), 4, SINGLE),
        (lambda x: x.flip((1, 3)), 4, SINGLE),
        (lambda x: torch.cat([x, x.flip(1)], 1), 8, SINGLE),
        (lambda x: x + x.flip(1), 4, [[0, 3], [1, 2]]),
        (lambda x: x.flatten(1).flip(1).view(x.shape), 4, SINGLE),
        (lambda x: x.view(len(x), x.shape[1] // 2, 2, 8, 8).amax(2), 2, [[0, 1], [2, 3]]),
        (lambda x: x.view(len(x), 2, x.shape[1] // 2, 8, 8).max(1).values, 2, [[0, 2], [1, 3]]),
    ],
)
def test_flips_and_maxout_are_followed(function, c_in, rows):
    assert units_of(Between(function, c_in), EXAMPLE) == {"conv": rows}
