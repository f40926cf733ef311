from __future__ import annotations

import torch
from torch import nn

from prunebench.channels.description import describe
from prunebench.channels.trace.tracer import trace
from tests.channels.conftest import named


def test_groups_members_and_what_is_frozen(flatten_net):
    assert list(describe(trace(flatten_net, torch.ones(1, 1, 2, 2)))) == [
        "prunable groups: 1, with 3 units",
        "",
        "conv · stem · 3 units",
        "  produced by   conv.weight",
        "  together with conv (bias)",
        "  read by       fc.weight (×4)",
        "",
        "groups that cannot be pruned: 2",
        "  conv:in · 1 units · reads the network's input",
        "  fc · 2 units · is an output of the network",
        "",
        "unknown operations: none",
        "with one unit in each group:",
        "  MACs        36 → 12 (−66.67 %)",  # 4 of 12 and 8 of 24
        "  parameters  32 → 12 (−62.50 %)",
    ]


def test_unknown_operations_are_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.head(self.conv(x).cumprod(1).cumprod(1))

    graph = trace(Net(), torch.ones(1, 3, 4, 4))
    assert graph.unknown == ("aten.cumprod",)
    assert "unknown operations: aten.cumprod" in list(describe(graph))


def test_long_lists_are_wrapped_between_names():
    net = named(**{f"a_convolution_{n}": nn.Conv2d(3, 3, 1) for n in range(12)})
    net.forward = lambda x: net[11](sum(net[n](x) for n in range(11)))
    lines = list(describe(trace(net, torch.ones(1, 3, 4, 4))))
    start = next(n for n, line in enumerate(lines) if line.startswith("  produced by"))
    assert all(len(line) <= 100 for line in lines)
    assert lines[start + 1].startswith(" " * 16 + "a_convolution_")


def test_biases_and_statistics_are_listed_by_module(residual_net):
    lines = list(describe(trace(residual_net, torch.ones(1, 3, 4, 4))))
    assert "  together with norm (weight, bias, running_mean, running_var)" in lines


def test_all_names_of_a_shared_tensor_are_listed():
    net = named(a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 4, 1), head=nn.Conv2d(4, 2, 1))
    net.again = net.b
    net.forward = lambda x: net.head(net.b(net.a(x)) + net.again(net.a(x)))
    assert "  produced by   b.weight = again.weight" in list(
        describe(trace(net, torch.ones(1, 3, 4, 4)))
    )
