from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture
def small_net() -> nn.Module:
    """Conv 1->2 (3x3), norm, ReLU, max-pool, conv 2->4 (1x1, bias), average, linear 4->3."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


@pytest.fixture
def image() -> torch.Tensor:
    """One 4x4 image of one channel."""
    return torch.ones(1, 1, 4, 4)
