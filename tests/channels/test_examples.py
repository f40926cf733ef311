"""The number of examples in an input, which divides every cost."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunebench.channels.costs import costs_of
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import verify
from prunebench.core.errors import ModelError
from tests.channels.conftest import Wired

PIXELS = 8 * 8
MACS = PIXELS * (3 * 4 + 4 * 2)  # two convolutions of 1 x 1 pixel


def net_of(prepare):
    return Wired(
        lambda m, *inputs: m.head(m.conv(prepare(*inputs))),
        conv=nn.Conv2d(3, 4, 1),
        head=nn.Conv2d(4, 2, 1),
    )


def images(n=4):
    return torch.rand(n, 3, 8, 8)


def image():
    return torch.rand(3, 8, 8)


CASES = [
    (lambda x: x, (images(),), 4),
    (lambda x: x, (images(1),), 1),
    (lambda x: x, (image(),), 1),
    (lambda x: x[None], (image(),), 1),
    (lambda x: torch.cat([x, x.flip(3)])[: len(x)], (images(),), 4),
    (lambda part: part[0], ([images()],), 4),
    (lambda part: part[0] + part[1].view(-1, 3, 1, 1), ([images(), torch.rand(4, 3)],), 4),
    (lambda part: part[0] + part[1].view(-1, 3, 1, 1), ((images(2), torch.rand(2, 3)),), 2),
    (lambda part: part["image"], ({"image": images()},), 4),
    (lambda part: part[0], ([image()],), 1),
    (torch.stack, ([image(), image(), image()],), 3),
    (torch.stack, ([image(), image()],), 2),
    (lambda part: torch.stack([d["image"] for d in part]), ([{"image": image()}] * 2,), 2),
    (lambda x, y: x + y.view(-1, 3, 1, 1), (images(), torch.rand(1, 3)), 4),
    (lambda x, y: y, (None, images()), 4),
    (lambda x, y: y * x, (2, images()), 4),
    (lambda x, y: y * x, (torch.tensor(2.0), images()), 4),
    (lambda x, y: y * x[0], ([torch.tensor(2.0)], images()), 4),
]


@pytest.mark.parametrize(("prepare", "inputs", "n"), CASES)
def test_costs_are_those_of_one_example(prepare, inputs, n):
    graph = trace(net_of(prepare), inputs)
    assert graph.batch == n
    assert costs_of(graph).macs() == MACS
    assert verify(net_of(prepare), inputs).broken == {}


def test_features_without_a_batch_dimension_are_one_example():
    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    assert [costs_of(trace(net, torch.rand(*n, 6))).macs() for n in [(), (5,)]] == [32, 32]


def test_rows_of_a_spectrogram_are_several_examples():
    net = net_of(lambda x: x[:, None].expand(-1, 3, -1, -1))
    assert trace(net, torch.rand(5, 8, 8)).batch == 5


def test_network_without_an_input_tensor_counts_as_one_example():
    net = net_of(lambda n: torch.ones(1, 3, n, n))
    assert costs_of(trace(net, (8,))).macs() == MACS


@pytest.mark.parametrize(
    ("prepare", "part"),
    [
        (lambda part: part[0] + part[1].mean(0), [images(2), images(4)]),
        (lambda part: part["a"] + part["b"].mean(0), {"a": images(2), "b": images(4)}),
        (lambda part: part[0] + F.interpolate(part[1][None], 8)[0], [image(), image()]),
    ],
)
def test_ambiguous_numbers_of_examples_are_refused(prepare, part):
    with pytest.raises(ModelError, match="cannot tell the batch size of an input of"):
        trace(net_of(prepare), (part,))
