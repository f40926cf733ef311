"""Random CNNs: residuals in residuals, concatenations, chunks, gates, groups, shared layers."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import ClassVar

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

SIZE = 8  # pixels of the input, halved at most twice
DEPTH = 2  # of blocks in blocks
WIDEST = 24  # channels above which only convolutions follow


class Sum(nn.Module):
    """The sum of several paths from the same input."""

    def __init__(self, *paths: nn.Module) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        total = self.paths[0](x)
        for path in self.paths[1:]:
            total = total + path(x)
        return total


class Concat(Sum):
    """Several paths from the same input side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.paths], 1)


class Chunks(Sum):
    """A path for each half of the channels; the results side by side, or multiplied."""

    multiply = False

    def forward(self, x: Tensor) -> Tensor:
        a, b = (path(part) for path, part in zip(self.paths, x.chunk(2, 1), strict=True))
        return a * b.sigmoid() if self.multiply else torch.cat([a, b], 1)


class Gate(nn.Module):
    """Squeeze-and-excitation, with convolutions or linear layers."""

    def __init__(self, channels: int, hidden: int, act: nn.Module, is_linear: bool) -> None:
        super().__init__()
        layer = nn.Linear if is_linear else lambda a, b: nn.Conv2d(a, b, 1)
        self.squeeze, self.excite = layer(channels, hidden), layer(hidden, channels)
        self.act, self.is_linear = act, is_linear

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        factor = self.excite(self.act(self.squeeze(mean.flatten(1) if self.is_linear else mean)))
        return x * (factor[..., None, None] if self.is_linear else factor).sigmoid()


class Factor(nn.Module):
    """One factor for all channels of a pixel."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layer(x).sigmoid()


class Twice(nn.Module):
    """One layer used twice, one behind the other or on two images."""

    def __init__(self, layer: nn.Module, act: nn.Module, in_a_row: bool) -> None:
        super().__init__()
        self.layer, self.act, self.in_a_row = layer, act, in_a_row

    def forward(self, x: Tensor) -> Tensor:
        if self.in_a_row:
            return self.layer(self.act(self.layer(x)))
        return self.layer(x) + self.act(self.layer(x.flip(3)))


class ChannelsLast(nn.Module):
    """A linear layer at every pixel, as in ConvNeXt."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Reshaped(nn.Module):
    """Pixels in a row and back."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(x), -1, x.shape[2] * x.shape[3]).transpose(1, 2)
        return rows.transpose(1, 2).reshape(x.shape)


class Tied(nn.Module):
    """One weight in both directions, as in an autoencoder."""

    def __init__(self, there: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.there, self.act = there, act

    def forward(self, x: Tensor) -> Tensor:
        hidden, weight = self.act(self.there(x)), self.there.weight
        if isinstance(self.there, nn.Conv2d):
            return F.conv_transpose2d(hidden, weight, padding=self.there.padding)
        return F.linear(hidden, weight.t())


class Picked(nn.Module):
    """Channels in another order, or some of them, by positions or a mask in a buffer."""

    def __init__(self, picks: Tensor) -> None:
        super().__init__()
        self.picks: Tensor
        self.register_buffer("picks", picks)

    def extra_repr(self) -> str:
        return str(self.picks.tolist())

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.picks]


class Blur(nn.Module):
    """One fixed filter for all channels, copied to them or stored for each."""

    def __init__(self, rows: Tensor, kind: str) -> None:
        super().__init__()
        self.rows: Tensor
        self.register_buffer("rows", rows)
        self.kind, self.channels = kind, len(rows)

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, x: Tensor) -> Tensor:
        weight = self.rows
        c = self.channels if self.kind == "attribute" else x.shape[1]
        if self.kind == "expanded":
            weight = weight.expand(c, 1, 3, 3)
        elif self.kind == "repeated":
            weight = weight.repeat(c, 1, 1, 1)
        return F.conv2d(x, weight, padding=1, groups=c)


class Awkward(nn.Module):
    """Mixes or cuts channels, so that some of them cannot be removed."""

    functions: ClassVar[dict[str, Callable[[Tensor, int], Tensor]]] = {
        "shuffled": lambda x, n: (
            x.reshape(len(x), n, -1, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        ),
        "sliced": lambda x, n: x[:, min(n, x.shape[1] - 1) :],
        "split": lambda x, n: torch.cat(x.split(n, 1)[::-1], 1),
        "mean": lambda x, n: x * x.mean(1, keepdim=True).sigmoid(),
        "joined": lambda x, n: torch.cat([x, x.amax(1, keepdim=True)], 1),
        "softmax": lambda x, n: x.softmax(1) + x,
        "mirrored": lambda x, n: x + x.flip(1),
        "rolled": lambda x, n: x + x.roll(1, 1),
        "layer norm": lambda x, n: F.layer_norm(x.movedim(1, 3), x.shape[1:2]).movedim(3, 1),
        "padded": lambda x, n: F.pad(x, (0, 0, 0, 0, 0, n)),
        "one for all": lambda x, n: x * x[:, :1],
    }

    def __init__(self, kind: str, number: int) -> None:
        super().__init__()
        self.kind, self.number = kind, number

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.number}"

    def forward(self, x: Tensor) -> Tensor:
        return self.functions[self.kind](x, self.number)


class Network(nn.Module):
    """A body, and a classifier on the mean or on all pixels."""

    def __init__(self, body: nn.Module, head: nn.Module, on_pixels: bool) -> None:
        super().__init__()
        self.body, self.head, self.on_pixels = body, head, on_pixels

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(x.flatten(1) if self.on_pixels else x.mean((2, 3)))


def activation(rng: Random, channels: int) -> nn.Module:
    kinds = [nn.ReLU(), nn.ReLU(inplace=True), nn.Sigmoid(), nn.SiLU(), nn.Hardswish(), nn.Tanh()]
    return rng.choice([*kinds, nn.PReLU(), nn.PReLU(channels), nn.Identity()])


def norm(rng: Random, channels: int) -> nn.Module:
    groups = rng.choice(divisors(channels))
    return rng.choice(
        [
            nn.BatchNorm2d(channels),
            nn.BatchNorm2d(channels, affine=False),
            nn.GroupNorm(groups, channels),
            nn.InstanceNorm2d(channels, affine=True),
            nn.Identity(),
        ]
    )


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def convolution(rng: Random, c_in: int, c_out: int | None = None, stride: int = 1) -> nn.Module:
    """Draw a convolution, a norm and an activation; padded, so that only strides shrink."""
    kernel = rng.choice([1, 3])
    kind = rng.choice(["full", "full", "depthwise", "grouped"])
    wanted = c_out or rng.randint(1, 9)
    groups = 1
    if kind == "depthwise" and (c_out is None or c_out % c_in == 0):
        groups, wanted = c_in, c_out or c_in * rng.randint(1, 2)
    elif kind == "grouped":
        groups = rng.choice(divisors(c_in))
        wanted = c_out or groups * rng.randint(1, 3)
        groups = groups if wanted % groups == 0 else 1
    bias = rng.random() < 0.5
    conv = nn.Conv2d(
        c_in, wanted, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias
    )
    return nn.Sequential(conv, norm(rng, wanted), activation(rng, wanted))


def picks(rng: Random, channels: int) -> Tensor:
    """Draw positions of channels, mostly of all of them, or a mask."""
    kind = rng.choice(["all", "all", "some", "mask"])
    if kind == "mask":
        return torch.tensor([True, *(rng.random() < 0.7 for _ in range(channels - 1))])
    number = channels if kind == "all" else rng.randint(1, channels)
    return torch.tensor(rng.sample(range(channels), number))


def width(layer: nn.Module, c_in: int) -> int:
    """Return how many channels a layer makes of `c_in`."""
    with torch.no_grad():
        return layer.eval()(torch.zeros(1, c_in, SIZE, SIZE)).shape[1]


def path(rng: Random, c_in: int, c_out: int | None, depth: int) -> nn.Module:
    """Draw some blocks in a row that keep the image's size; the last makes `c_out` channels."""
    layers: list[nn.Module] = []
    channels = c_in
    for _ in range(rng.randint(0, 3)):
        layers.append(block(rng, channels, depth))
        channels = width(layers[-1], channels)
    if c_out is not None:
        layers.append(convolution(rng, channels, c_out))
    return nn.Sequential(*layers)


def block(rng: Random, channels: int, depth: int) -> nn.Module:
    """Draw anything that keeps the image's size."""
    simple = ["convolution", "grouped", "shuffle", "gate", "factor", "twice", "channels last"]
    simple += ["reshaped", "pool", "awkward", "picked", "tied", "blur"]
    nested = ["residual", "residual", "projected", "concat", "dense", "chunks", "chunks"]
    kinds = [*nested, *simple] if depth else simple
    kind = rng.choice(kinds) if channels <= WIDEST else "convolution"
    if kind == "residual":
        return Sum(nn.Identity(), path(rng, channels, channels, depth - 1))
    if kind == "projected":
        c_out = rng.randint(1, 9)
        return Sum(convolution(rng, channels, c_out), path(rng, channels, c_out, depth - 1))
    if kind == "concat":
        return Concat(*(path(rng, channels, None, depth - 1) for _ in range(2)))
    if kind == "dense":
        return Concat(nn.Identity(), path(rng, channels, rng.randint(1, 4), depth - 1))
    if kind == "chunks":
        half = rng.randint(1, 4)
        multiply = rng.random() < 0.5
        c_out = rng.randint(1, 5) if multiply else None
        both = Chunks(*(path(rng, half, c_out, depth - 1) for _ in range(2)))
        both.multiply = multiply
        return nn.Sequential(convolution(rng, channels, 2 * half), both)
    if kind == "grouped":
        groups, places = rng.randint(2, 4), rng.randint(1, 3)
        c_out = groups * rng.randint(1, 3)
        conv = nn.Conv2d(groups * places, c_out, 3, padding=1, groups=groups)
        return nn.Sequential(convolution(rng, channels, groups * places), conv, norm(rng, c_out))
    if kind == "shuffle":
        groups, places = rng.randint(2, 3), rng.randint(2, 4)
        shuffle = nn.ChannelShuffle(groups)
        return nn.Sequential(convolution(rng, channels, groups * places), shuffle)
    if kind == "factor":
        return Factor(nn.Conv2d(channels, 1, 1))
    if kind == "gate":
        hidden = rng.randint(1, 4)
        return Gate(channels, hidden, activation(rng, hidden), rng.random() < 0.5)
    if kind == "twice":
        in_a_row = rng.random() < 0.5
        c_out = channels if in_a_row else rng.randint(1, 6)
        layer = nn.Conv2d(channels, c_out, 3, padding=1)
        return Twice(layer, activation(rng, c_out), in_a_row)
    if kind == "channels last":
        return ChannelsLast(nn.Linear(channels, rng.randint(1, 9)))
    if kind == "tied":
        hidden = rng.randint(1, 6)
        if rng.random() < 0.5:
            return ChannelsLast(Tied(nn.Linear(channels, hidden), activation(rng, 1)))
        return Tied(nn.Conv2d(channels, hidden, 3, padding=1), activation(rng, hidden))
    if kind == "blur":
        how = rng.choice(["expanded", "repeated", "stored", "attribute"])
        rows = torch.tensor([rng.random() for _ in range(9)]).view(1, 1, 3, 3)
        stored = how in ("stored", "attribute")
        return Blur(rows.repeat(channels, 1, 1, 1) if stored else rows, how)
    if kind == "picked":
        return Picked(picks(rng, channels))
    if kind == "reshaped":
        return Reshaped()
    if kind == "awkward":
        awkward = rng.choice(sorted(Awkward.functions))
        # A shape with the number of channels itself in it would look like an unsqueeze.
        return Awkward(awkward, rng.choice([d for d in divisors(channels) if d < channels] or [1]))
    if kind == "pool":
        return rng.choice([nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1)])
    return convolution(rng, channels)


def random_network(seed: int, blocks: int) -> nn.Module:
    """Return a network of so many blocks for images of (N, 3, SIZE, SIZE), float64.

    Its weights are still to be set.
    """
    rng = Random(f"{seed}/{blocks}")
    layers = [convolution(rng, 3, rng.randint(2, 9))]
    channels = width(layers[0], 3)
    strides = rng.sample(range(blocks), min(blocks, rng.randint(0, 2)))
    for number in range(blocks):
        if number in strides:
            pool = rng.random() < 0.5
            layers.append(nn.MaxPool2d(2) if pool else convolution(rng, channels, stride=2))
            channels = width(layers[-1], channels)
        layers.append(block(rng, channels, DEPTH))
        channels = width(layers[-1], channels)
    body = nn.Sequential(*layers)
    on_pixels = rng.random() < 0.5
    with torch.no_grad():
        out = body.eval()(torch.zeros(1, 3, SIZE, SIZE))
    features = out[0].numel() if on_pixels else out.shape[1]
    head: nn.Module = nn.Linear(features, 3)
    if rng.random() < 0.5:
        hidden = rng.randint(2, 6)
        head = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    return Network(body, head, on_pixels).double()


# Only the size shrinks to a minimum; that of a seed makes no network simpler.
networks = st.builds(random_network, seed=st.integers(0, 2**32 - 1), blocks=st.integers(1, 6))
