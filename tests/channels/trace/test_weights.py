"""Weights that are computed, shared, or used outside of a layer of their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from tests.channels.conftest import Between, Wired, named, units_of

EXAMPLE = torch.rand(2, 3, 6, 6)


class StandardizedConv(nn.Conv2d):
    """Every filter has mean 0 and variance 1."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias)


def weight_norm(conv):
    return nn.utils.parametrizations.weight_norm(conv)


def spectral_norm(conv):
    return nn.utils.parametrizations.spectral_norm(conv)


def old_spectral_norm(conv):
    return nn.utils.spectral_norm(conv)


def standardized(conv):
    return StandardizedConv(conv.in_channels, conv.out_channels, 1)


@pytest.mark.parametrize("computed", [weight_norm, spectral_norm, old_spectral_norm, standardized])
def test_computed_weight_freezes_the_channels_it_reads_and_produces(computed):
    net = named(
        a=nn.Conv2d(3, 6, 1),
        b=nn.Conv2d(6, 5, 1),
        computed=computed(nn.Conv2d(5, 4, 1)),
        c=nn.Conv2d(4, 6, 1),
        d=nn.Conv2d(6, 2, 1),
    )
    assert list(units_of(net, EXAMPLE)) == ["a", "c"]
    graph = trace(net, EXAMPLE)
    assert graph.frozen["b"].frozen == "used by a convolution with a computed weight"
    assert graph.frozen["c:in"].frozen == (
        "reads the result of a convolution with a computed weight"
    )


class Einsum(nn.Module):
    """A 1x1 convolution written as a sum over named dimensions."""

    def __init__(self, equation, *shape):
        super().__init__()
        self.equation = equation
        self.weight = nn.Parameter(torch.rand(shape))

    def forward(self, x):
        return torch.einsum(self.equation, self.weight, x)


def test_einsum_is_never_followed_wrongly():
    net = Between(Einsum("oc,nchw->nohw", 4, 4))
    units_of(net, EXAMPLE)
    net = Between(Einsum("oc,nohw->nchw", 4, 4))
    units_of(net, EXAMPLE)


class Attention(nn.Module):
    """Self-attention over pixels between two layers that can be pruned."""

    def __init__(self, attend):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.proj = nn.Conv2d(6, 8, 1)
        self.attend = attend
        self.expand = nn.Linear(8, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = self.proj(self.stem(x)).flatten(2).transpose(1, 2)
        return self.head(self.expand(self.attend(x)).relu())


class MultiHead(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


class HandMade(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        n, length, c = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        return (q @ k.transpose(2, 3)).softmax(3).matmul(v).transpose(1, 2).reshape(n, length, c)


@pytest.mark.parametrize(
    ("attend", "inside"),
    [
        (MultiHead(8, 2, batch_first=True), []),
        (HandMade(), []),
        (nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), ["attend.linear1"]),
        (lambda x: F.scaled_dot_product_attention(x, x, x), []),
        (lambda x: x @ (x.transpose(1, 2) @ x).softmax(-1), []),
    ],
    ids=["module", "hand-made", "transformer", "scaled", "gram"],
)
def test_attention_freezes_its_channels_only(attend, inside):
    assert list(units_of(Attention(attend), EXAMPLE)) == ["stem", *inside, "expand"]


def test_one_parameter_under_two_names_is_cut_once():
    net = named(a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 6, 1), c=nn.Conv2d(6, 6, 1))
    net.head = nn.Conv2d(6, 2, 1)
    net.a.bias = net.b.bias = net.c.bias
    net.c.weight = nn.Parameter(torch.rand(6, 6, 1, 1))
    graph = trace(net, EXAMPLE)
    # one bias ties the rows of all three
    assert [len(g.producers) for g in graph.groups.values()] == [3]
    assert units_of(net, EXAMPLE) == {"a": [[n] for n in range(6)]}
    smaller = remove(net, graph, {"a": torch.tensor([1, 4])})
    assert smaller.a.bias is smaller.b.bias is smaller.c.bias


def test_layer_called_twice_ties_its_input_to_its_output():
    net = Wired(
        lambda m, x: m.head(m.b(m.b(m.a(x)).relu())),
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(4, 4, 1),
        head=nn.Conv2d(4, 2, 1),
    )
    assert trace(net, EXAMPLE).groups["a"].producers == ("a.weight", "b.weight")
    assert units_of(net, EXAMPLE) == {"a": [[0], [1], [2], [3]]}


class FreeWeight(nn.Module):
    """Matrix product with a parameter that belongs to no layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)
        self.matrix = nn.Parameter(torch.rand(5, 7))
        self.scale = nn.Parameter(torch.rand(1, 1, 7))
        self.head = nn.Linear(7, 2)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        return self.head((x @ self.matrix) * self.scale)


def test_product_with_a_free_parameter_is_a_linear_layer():
    assert units_of(FreeWeight(), EXAMPLE) == {
        "conv": [[n] for n in range(5)],
        "matrix": [[n] for n in range(7)],
    }


def test_product_of_two_parameters_freezes():
    net = Wired(
        lambda m, x: m.head(F.conv2d(m.conv(x), (m.left @ m.right)[:, :, None, None])),
        conv=nn.Conv2d(3, 4, 1),
        left=nn.Parameter(torch.rand(4, 2)),
        right=nn.Parameter(torch.rand(2, 4)),
        head=nn.Conv2d(4, 2, 1),
    )
    assert units_of(net, EXAMPLE) == {}


def test_table_of_embeddings_is_left_alone():
    net = Wired(
        lambda m, x, label: m.head(m.conv(m.free(x)) + m.table(label)[:, :, None, None]),
        free=nn.Conv2d(3, 5, 1),
        conv=nn.Conv2d(5, 4, 1),
        table=nn.Embedding(10, 4),
        head=nn.Conv2d(4, 2, 1),
    )
    assert list(units_of(net, (EXAMPLE, torch.tensor([1, 2])))) == ["free"]


def tied(there, back, first=None, last=None):
    """A weight of 5 columns and 4 rows used by `there` and `back`, with a sigmoid between them."""
    return Wired(
        lambda m, x: m.last(back(m, there(m, m.first(x)).sigmoid())),
        first=first or nn.Identity(),
        weight=nn.Parameter(torch.rand(4, 5)),
        bias=nn.Parameter(torch.rand(4)),
        last=last or nn.Identity(),
    )


def there(m, x):
    return F.linear(x, m.weight, m.bias)


DIRECTIONS = [
    (there, lambda m, h: F.linear(h, m.weight.t())),
    (there, lambda m, h: h @ m.weight),
    (
        lambda m, x: F.conv1d(x[..., None], m.weight[..., None], m.bias),
        lambda m, h: F.conv_transpose1d(h, m.weight[..., None]).squeeze(2),
    ),
]
HIDDEN = [[n] for n in range(4)]


@pytest.mark.parametrize(("there", "back"), DIRECTIONS)
def test_weight_in_both_directions_loses_its_hidden_units_once(there, back):
    net, x = tied(there, back), torch.rand(2, 5)
    graph = trace(net, x)
    (group,) = graph.groups.values()
    assert units_of(net, x) == {group.name: HIDDEN}
    assert [(m.parameters[0], m.dim, m.role) for m in group.members] == [
        ("weight", 0, "out"),
        ("weight", 0, "in"),
        ("bias", 0, "vector"),
    ]
    assert [g.frozen for g in graph.frozen.values()] == ["reads the network's input"]
    smaller = remove(net, graph, {group.name: torch.tensor([1])})
    assert smaller.weight.shape == (3, 5)
    assert torch.equal(smaller.weight, net.weight[[0, 2, 3]])


@pytest.mark.parametrize(("there", "back"), DIRECTIONS)
def test_outer_channels_of_a_weight_in_both_directions_are_removed_together(there, back):
    net = tied(there, back, nn.Linear(3, 5), nn.Linear(5, 2))
    found = units_of(net, torch.rand(2, 3))
    assert sorted(found.values()) == [HIDDEN, [[n] for n in range(5)]]


def test_modules_with_a_tied_weight_are_both_corrected(tied_net):
    assert units_of(tied_net, EXAMPLE) == {"encoder": [[n] for n in range(6)], "inner": HIDDEN}
    graph = trace(tied_net, EXAMPLE)
    assert "input" in graph.frozen["encoder#1"].frozen
    smaller = remove(tied_net, graph, {"encoder": torch.tensor([0, 3])})
    assert smaller.decoder.weight is smaller.encoder.weight
    assert (smaller.encoder.out_channels, smaller.decoder.in_channels) == (4, 4)
    assert (smaller.encoder.in_channels, smaller.decoder.out_channels) == (3, 3)
