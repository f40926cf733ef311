from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@dataclass
class Counter:
    """Parameters, and multiply-accumulates of one image from the shapes that pass the layers."""

    params: int
    conv_macs: int = 0
    linear_macs: int = 0
    conv_outputs: int = 0
    linear_outputs: int = 0

    def add(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            self.conv_macs += out[0].numel() * module.weight[0].numel()
            self.conv_outputs += out[0].numel()
        elif isinstance(module, nn.Linear):
            self.linear_macs += out.numel() * module.in_features
            self.linear_outputs += out.numel()


@pytest.fixture
def count() -> Callable[..., Counter]:
    """A function that counts a network, at 3x32x32 unless told otherwise."""

    def count(model: nn.Module, *image: int) -> Counter:
        counter = Counter(params=sum(parameter.numel() for parameter in model.parameters()))
        for module in model.modules():
            module.register_forward_hook(counter.add)
        device = next(model.parameters()).device  # meta, where shapes suffice
        with torch.inference_mode():
            model.eval()(torch.zeros(1, *(image or (3, 32, 32)), device=device))
        return counter

    return count
