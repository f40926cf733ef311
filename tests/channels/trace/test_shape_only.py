"""A trace computes no layer unless the network looks at values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.channels.trace.shape_only import run_by_shape
from prunebench.channels.trace.tracer import trace
from tests.channels.conftest import Between

EXAMPLE = torch.rand(2, 3, 9, 8)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, 3), (2, 4, 9, 8)),
        (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 0), dilation=2), (1, 4, 15, 20)),
        (nn.Conv2d(4, 8, 3, groups=4, padding="same"), (2, 4, 9, 8)),
        (nn.Conv2d(4, 6, 3), (4, 9, 8)),
        (nn.Conv1d(4, 6, 3, stride=2), (2, 4, 9)),
        (nn.Conv3d(4, 6, 3, padding=1), (2, 4, 5, 6, 7)),
        (nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1), (2, 4, 5, 6)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2), (2, 4, 5, 6)),
        (nn.Linear(4, 6), (2, 4)),
        (nn.Linear(4, 6, bias=False), (2, 5, 4)),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_results_have_the_shape_and_strides_of_the_computed_ones(layer, shape, layout):
    x = torch.rand(shape)
    if x.ndim == 4:
        x, layer = x.to(memory_format=layout), layer.to(memory_format=layout)
    seen = []

    class ByShape(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((func(*args, **(kwargs or {})), run_by_shape(func, args, kwargs or {})))
            return seen[-1][0]

    with torch.no_grad(), ByShape():
        layer(x)
    for computed, by_shape in seen:
        assert by_shape.shape == computed.shape
        assert by_shape.stride() == computed.stride()
        assert by_shape.dtype == computed.dtype


def test_no_layer_computes():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 7 * 6, 2))
    outputs = []
    for layer in net:
        layer.register_forward_hook(lambda module, args, out: outputs.append(out))
    trace(net, EXAMPLE)
    assert len(outputs) == 3
    assert not any(out.any() for out in outputs)


@pytest.mark.parametrize(
    "looks",
    [
        lambda x: x.max() > 1,
        lambda x: x.flatten().tolist()[0] > 1,
        lambda x: x.numpy().max() > 1,
        lambda x: x[x > 1].numel() > 0,
        lambda x: (x - 1).nonzero().shape[0] > 0,
        lambda x: not torch.equal(x, torch.ones_like(x)),
        lambda x: repr(x.max()) != "tensor(1.)",
    ],
    ids=["if", "tolist", "numpy", "mask", "nonzero", "equal", "repr"],
)
def test_networks_that_look_at_values_see_them(looks):
    seen = []

    def looked(x):
        try:
            seen.append(bool(looks(x.abs() + 1)))
        except Exception:  # a network that expects that looking may fail
            seen.append(False)
        return x

    assert not looks(torch.ones(1, 4, 9, 8))
    trace(Between(looked), EXAMPLE)
    assert seen == [True]


def test_network_that_zeros_stop_runs_on_values():
    def drawn(x):
        return x * torch.multinomial(x.abs().flatten(1), 1)[0]  # raises if all are zero

    assert "multinomial" in trace(Between(drawn), EXAMPLE).frozen["conv"].frozen
