"""Small networks whose groups can be written down by hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import verify


def count_up(model: nn.Module) -> nn.Module:
    """Give every parameter the values 0, 1, 2, ..."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape))
    return model.eval()


def named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


class Between(nn.Module):
    """conv 3 -> 4, a function, conv `c_in` -> 2; the function decides which can be removed."""

    def __init__(self, function: Callable[[Tensor], Tensor], c_in: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.function = function
        self.head = nn.Conv2d(c_in, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.conv(x)))


class Wired(nn.Module):
    """Layers, and a function of them and the inputs that says how they are connected."""

    def __init__(self, wiring: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.wiring = wiring
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.wiring(self, *inputs)


def units_of(net: nn.Module, example: Any, **options: Any) -> dict[str, list[list[int]]]:
    """Prove that masked = removed; return the rows of each group's first producer, unit by unit."""
    report = verify(net, example, **options)
    assert report.broken == {}
    assert report.largest < 1e-9
    graph = trace(net, example, **{k: v for k, v in options.items() if k in ("grouped", "modes")})
    return {
        name: next(m.index.tolist() for m in group.members if m.role == "out")
        for name, group in graph.groups.items()
    }


class Residual(nn.Module):
    """stem -> stem + second(first(stem)) -> head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.first = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.second(self.norm(self.first(x)).sigmoid())
        return self.head(x.mean((2, 3)))


class TwoBlocks(nn.Module):
    """A residual network of two blocks, the second at stride 2; its costs fit on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(4)
        self.b1c1 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.b1n1 = nn.BatchNorm2d(6)
        self.b1c2 = nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.b1n2 = nn.BatchNorm2d(4)
        self.b2c1 = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
        self.b2n1 = nn.BatchNorm2d(8)
        self.b2c2 = nn.Conv2d(8, 10, 3, padding=1, bias=False)
        self.b2n2 = nn.BatchNorm2d(10)
        self.down = nn.Conv2d(4, 10, 1, stride=2, bias=False)
        self.down_norm = nn.BatchNorm2d(10)
        self.fc = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x)).relu()
        x = (x + self.b1n2(self.b1c2(self.b1n1(self.b1c1(x)).relu()))).relu()
        inner = self.b2n2(self.b2c2(self.b2n1(self.b2c1(x)).relu()))
        return self.fc((self.down_norm(self.down(x)) + inner).relu().mean((2, 3)))


class OptionA(nn.Module):
    """Three stages of 4, 8, 16 channels; pads of 2 + 2 and 4 + 4 zero channels in the shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.pad1 = nn.ZeroPad3d((0, 0, 0, 0, 2, 2))
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.pad2 = nn.ZeroPad3d((0, 0, 0, 0, 4, 4))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.conv1(x) + self.pad1(x[:, :, ::2, ::2])).relu()
        x = (self.conv2(x) + self.pad2(x[:, :, ::2, ::2])).relu()
        return self.fc(x.mean((2, 3)))


class Concat(nn.Module):
    """Two concatenated branches."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 2, 1)
        self.right = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(5)
        self.head = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(torch.cat([self.left(x), self.right(x)], 1)).relu())


class Tied(nn.Module):
    """An autoencoder of two layers; both weights are used in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 4, 1, bias=False)
        self.decoder = nn.ConvTranspose2d(6, 3, 3, padding=1)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(self.encoder(x).sigmoid()).relu()
        hidden = nn.functional.conv_transpose2d(hidden, self.inner.weight)
        return self.decoder(hidden.sigmoid())


@pytest.fixture
def tied_net() -> nn.Module:
    return Tied()


@pytest.fixture
def two_layer_net() -> nn.Module:
    """conv 1 -> 3, 1x1, weights 0 1 2, bias 0 1 2; conv 3 -> 2, weights [[0 1 2] [3 4 5]]."""
    return count_up(named(first=nn.Conv2d(1, 3, 1), second=nn.Conv2d(3, 2, 1, bias=False)))


@pytest.fixture
def flatten_net() -> nn.Module:
    """conv 1 -> 3 on 2x2 pixels, flattened: each channel has four columns of the linear layer."""
    return count_up(named(conv=nn.Conv2d(1, 3, 1), flat=nn.Flatten(), fc=nn.Linear(12, 2)))


@pytest.fixture
def residual_net() -> nn.Module:
    return Residual()


@pytest.fixture
def two_block_net() -> nn.Module:
    return TwoBlocks()


@pytest.fixture
def option_a_net() -> nn.Module:
    return OptionA()


@pytest.fixture
def concat_net() -> nn.Module:
    return Concat()


@pytest.fixture
def depthwise_net() -> nn.Module:
    return named(
        stem=nn.Conv2d(3, 4, 3),
        norm=nn.BatchNorm2d(4),
        depthwise=nn.Conv2d(4, 4, 3, groups=4, padding=1),
        point=nn.Conv2d(4, 6, 1),
        head=nn.Conv2d(6, 2, 1),
    )


@pytest.fixture
def relu_before_norm_net() -> nn.Module:
    return named(
        conv1=nn.Conv2d(3, 4, 3),
        relu1=nn.ReLU(inplace=True),
        norm1=nn.BatchNorm2d(4),
        pool=nn.MaxPool2d(2),
        conv2=nn.Conv2d(4, 6, 1, bias=False),
        norm2=nn.BatchNorm2d(6, affine=False),
        average=nn.AdaptiveAvgPool2d(2),
        flat=nn.Flatten(),
        fc1=nn.Linear(24, 7),
        act=nn.PReLU(7),
        drop=nn.Dropout(),
        fc2=nn.Linear(7, 3, bias=False),
    )


@pytest.fixture
def group_norm_net() -> nn.Module:
    return named(
        conv=nn.Conv2d(3, 6, 3), norm=nn.GroupNorm(3, 6), act=nn.SiLU(), head=nn.Conv2d(6, 2, 1)
    )


@pytest.fixture
def transposed_net() -> nn.Module:
    return named(
        down=nn.Conv2d(3, 4, 3, stride=2),
        up=nn.ConvTranspose2d(4, 5, 2, stride=2),
        norm=nn.BatchNorm2d(5),
        head=nn.Conv2d(5, 2, 1),
    )


@pytest.fixture
def shuffle_net() -> nn.Module:
    return named(
        conv1=nn.Conv2d(3, 8, 1),
        up=nn.PixelShuffle(2),
        conv2=nn.Conv2d(2, 6, 3),
        shuffle=nn.ChannelShuffle(3),
        norm=nn.BatchNorm2d(6),
        down=nn.PixelUnshuffle(2),
        head=nn.Conv2d(24, 2, 1),
    )


@pytest.fixture
def instance_norm_net() -> nn.Module:
    return named(
        conv=nn.Conv2d(3, 5, 3),
        norm=nn.InstanceNorm2d(5, affine=True, track_running_stats=True),
        head=nn.Conv2d(5, 2, 1),
    )


@pytest.fixture
def grouped_net() -> nn.Module:
    return named(
        stem=nn.Conv2d(3, 8, 1), grouped=nn.Conv2d(8, 12, 3, groups=4), head=nn.Conv2d(12, 2, 1)
    )
