from __future__ import annotations

import time
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from prunebench.measure.layer_latency import LayerLatency, compare_layers


class Shared(nn.Module):
    """A convolution, and a head that is called twice; another one that is never called."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, width, 1)
        self.unused = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.head(torch.relu(self.norm(self.conv(x)))))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is one second later at each look."""
    seconds = count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))


@pytest.mark.usefixtures("clock")
def test_each_layer_has_the_time_between_its_hooks() -> None:
    found = compare_layers(
        Shared(4), Shared(3), (1, 2, 2), batch_size=1, device="cpu", repeats=3, warmup=0
    )
    assert found.layers == (
        LayerLatency("conv", "conv", width=3, base_width=4, ms=1000.0, base_ms=1000.0),
        LayerLatency("norm", "norm", width=3, base_width=4, ms=1000.0, base_ms=1000.0),
        LayerLatency("head", "conv", width=3, base_width=4, ms=2000.0, base_ms=2000.0),  # 2 calls
    )
    assert (found.sum_ms, found.base_sum_ms) == (4000.0, 4000.0)
    # two looks at each of four calls, and the one at the end
    assert (found.whole_ms, found.base_whole_ms) == (9000.0, 9000.0)


def test_the_base_itself_has_equal_times_and_no_hooks_afterwards(small_net: nn.Module) -> None:
    found = compare_layers(
        small_net, small_net, (1, 4, 4), batch_size=2, device="cpu", repeats=2, warmup=0
    )
    assert [layer.name for layer in found.layers] == ["0", "1", "4", "7"]
    assert [layer.kind for layer in found.layers] == ["conv", "norm", "conv", "linear"]
    assert all(layer.ms == layer.base_ms > 0 for layer in found.layers)
    assert found.sum_ms < found.whole_ms
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in small_net.modules())


@pytest.mark.gpu
def test_layers_on_a_gpu_are_timed_with_events() -> None:
    found = compare_layers(
        nn.Sequential(nn.Conv2d(64, 2048, 3)), nn.Sequential(nn.Conv2d(64, 64, 3)), (64, 64, 64),
        batch_size=32, device="cuda", repeats=5, warmup=20,
    )  # fmt: skip
    (layer,) = found.layers
    assert (layer.width, layer.base_width) == (64, 2048)
    assert 0 < layer.ms < layer.base_ms
    assert found.sum_ms <= found.whole_ms
