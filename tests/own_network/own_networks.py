"""Networks that only a user has, for the tests of `prunebench.prune`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Two convolutions with batch norm, pooling and a head, for images 3 x 8 x 8."""

    def __init__(self, classes: int = 4, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(2 * width, 12), nn.ReLU(), nn.Linear(12, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        return self.head(self.conv(x).relu().mean((2, 3)))


def double_conv(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """A UNet of an image and a prior mask: two encoders, skip connections, two heads."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.image = double_conv(3, width)
        self.prior = double_conv(1, width)
        self.down = double_conv(2 * width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge = double_conv(4 * width, 2 * width)
        self.last = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.mask = nn.Conv2d(3 * width, 2, 1)
        self.score = nn.Linear(4 * width, 1)

    def forward(self, image: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        full = torch.cat([self.image(image), self.prior(prior)], dim=1)
        half = self.down(nn.functional.max_pool2d(full, 2))
        low = self.bottom(nn.functional.max_pool2d(half, 2))
        half = self.merge(torch.cat([self.up(low), half], dim=1))
        masks = self.mask(torch.cat([self.last(half), full], dim=1))
        return masks, self.score(low.mean((2, 3)))


class WithAuxiliaryHead(Classifier):
    """Has a second head, on the stem, that runs in training alone, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.norm(self.stem(x)).relu()
        out = self.head(self.conv(x).relu().mean((2, 3)))
        return (out, self.auxiliary(x.mean((2, 3)))) if self.training else out


class ReadsItsWidth(nn.Module):
    """Divides by a number of channels, which no tracer can see."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        y = y * (1.0 / y.shape[1])
        return self.last(self.second(y))


def classifier(classes: int = 4) -> Classifier:
    torch.manual_seed(0)
    return Classifier(classes)


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet()


def images(n: int = 1, seed: int = 1) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def unet_inputs(n: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.rand(n, 3, 16, 16, generator=generator),
        torch.rand(n, 1, 16, 16, generator=generator),
    )


def batches(count: int = 3, size: int = 4, classes: int = 4) -> list[tuple[Tensor, Tensor]]:
    """A loader: batches of images and labels."""
    labels = torch.arange(size) % classes
    return [(images(size, seed), labels) for seed in range(count)]
