"""Counts per layer from shapes; the papers' counting conventions are built on them.

They do not use fvcore: forward hooks record the shapes of PyTorch's own modules. As in thop and
ptflops, functional calls (`F.relu`, `x.mean((2, 3))`) are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from prunebench.channels.untouched import untouched

Kind = Literal["conv", "linear", "norm", "relu", "avg_pool", "max_pool"]

_KINDS: dict[tuple[type[nn.Module], ...], Kind] = {
    (nn.modules.conv._ConvNd,): "conv",
    (nn.Linear,): "linear",
    (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm): "norm",
    (nn.ReLU, nn.ReLU6): "relu",
    (nn.AvgPool2d, nn.AdaptiveAvgPool2d): "avg_pool",
    (nn.MaxPool2d, nn.AdaptiveMaxPool2d): "max_pool",
}


@dataclass(frozen=True, kw_only=True)
class LayerCount:
    """One module in one forward pass of one image; a module called twice counts twice."""

    name: str  # path of the module
    kind: Kind
    inputs: int  # elements
    outputs: int  # elements
    macs: int = 0  # multiply-accumulates: convolution and linear layers only
    bias: bool = False
    window: int = 1  # elements summed for one output of a pooling layer
    weight: str | None = None  # name of the parameter, the first one where it is shared
    weights: int = 0  # its elements


def count_layers(model: nn.Module, example: Tensor) -> tuple[LayerCount, ...]:
    """Count every convolution, linear, normalization, ReLU and pooling module for one image.

    `example` has shape (N, C, h, w); its first image is used. The order is that of the first call.
    """
    counts: dict[str, LayerCount] = {}
    parameters = {id(p): name for name, p in model.named_parameters()}
    hooks = []
    for name, module in model.named_modules():
        kind = counted_kind(module)
        if kind is not None:
            hooks.append(module.register_forward_hook(_counter(counts, name, kind, parameters)))
    try:
        with untouched(model, weights=True), torch.inference_mode():
            model(example[:1].clone())
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(counts.values())


def activations(layers: Iterable[LayerCount]) -> int:
    """Return the elements of all convolution outputs over all calls: Group Fisher's memory M."""
    return sum(layer.outputs for layer in layers if layer.kind == "conv")


def counted_kind(module: nn.Module) -> Kind | None:
    """Return the kind of a module that is counted; None for all others."""
    if type(module).__name__ == "DeformConv2d":  # importing torchvision takes over a second
        return "conv"
    return next((kind for types, kind in _KINDS.items() if isinstance(module, types)), None)


def _counter(
    counts: dict[str, LayerCount], name: str, kind: Kind, parameters: Mapping[int, str]
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    """Return a forward hook that adds one call of the module `name` to `counts`."""

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        count = _one_call(module, name, kind, args[0], output)
        if isinstance(weight := getattr(module, "weight", None), nn.Parameter):
            count = replace(count, weight=parameters[id(weight)], weights=weight.numel())
        if before := counts.get(name):
            count = replace(
                count,
                inputs=before.inputs + count.inputs,
                outputs=before.outputs + count.outputs,
                macs=before.macs + count.macs,
            )
        counts[name] = count

    return add


def _one_call(module: nn.Module, name: str, kind: Kind, x: Tensor, y: Tensor) -> LayerCount:
    macs, window = 0, 1
    if kind in ("conv", "linear"):
        # Each output uses one filter; in a transposed convolution each input does.
        positions = x if getattr(module, "transposed", False) else y
        macs = positions.numel() * module.weight[0].numel()  # type: ignore[index]
    elif isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
        size = module.kernel_size
        window = size * size if isinstance(size, int) else math.prod(size)
    elif kind in ("avg_pool", "max_pool"):
        window = math.prod(a // b for a, b in zip(x.shape[2:], y.shape[2:], strict=True))
    return LayerCount(
        name=name,
        kind=kind,
        inputs=x.numel(),
        outputs=y.numel(),
        macs=macs,
        bias=getattr(module, "bias", None) is not None,
        window=window,
    )
