"""Helpers that all networks share: labels of layers, scaled widths, and fresh weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds a NaN or an infinity; None without one.

    >>> not_finite({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])})
    'b'
    """
    floats = [t.detach() for t in tensors.values() if t.is_floating_point()]
    # A finite sum has finite terms only; one that is not may have overflowed.
    if not floats or bool(torch.stack([t.sum().float() for t in floats]).isfinite().all()):
        return None
    return next((name for name, t in tensors.items() if not bool(torch.isfinite(t).all())), None)


@dataclass(frozen=True, order=True)
class LayerLabel:
    """The place of a convolution or linear layer: per-stage pruning ratios and figures use it.

    Attributes
    ----------
    stage
        0 is the stem, 1 to n are the stages, n + 1 is the classifier: GReg's lists of ratios.
    block
        Index from 0 within the stage; in a VGG a block is one convolution.
    position
        Index from 0 within the block.
    """

    stage: int
    block: int
    position: int


def label_layers(model: nn.Module, stages: nn.Sequential) -> dict[str, LayerLabel]:
    """Label the convolutions and linear layers of `model`, by path, in network order.

    `stages` is the attribute of that name: a sequence of stages, each a sequence of blocks. Layers
    defined before it are the stem, layers defined after it are the classifier.
    """
    labels: dict[str, LayerLabel] = {}
    stage, block, position = 0, 0, 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        path = name.split(".")
        if path[0] == "stages":
            here = (int(path[1]) + 1, int(path[2]))
        else:
            here = (0 if stage == 0 else len(stages) + 1, 0)
        position = position + 1 if labels and here == (stage, block) else 0
        stage, block = here
        labels[name] = LayerLabel(stage, block, position)
    return labels


def scaled(channels: int, width: float) -> int:
    """Return the channels of a layer at another network width; at least one.

    >>> scaled(64, 0.25), scaled(3, 0.5), scaled(16, 0.01)
    (16, 2, 1)
    """
    return max(1, round(channels * width))


def initialize(model: nn.Module) -> None:
    """Reset every parameter and buffer to those of a new network with the current widths.

    Calls `reset_parameters` of each module, then `draw_weights` of the network if it has one.
    Random numbers come from torch's global generator.
    """
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    draw = getattr(model, "draw_weights", None)
    if callable(draw):
        draw()
