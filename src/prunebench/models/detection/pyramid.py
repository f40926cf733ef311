"""Feature pyramid (Lin et al., arXiv 1612.03144) over the stages of a ResNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from prunebench.models.resnet import NETWORKS as RESNETS
from prunebench.models.resnet import ResNet

CHANNELS = 256


class Pyramid(nn.Module):
    """Top-down feature pyramid over some of the backbone's stages.

    Parameters
    ----------
    widths
        Channels of the stages that are read.
    extra
        Source of the levels beyond the last stage: two convolutions with stride 2 that start at
        the backbone's last "stage" or at the last "level", or one max-pool ("pool").
    """

    def __init__(self, widths: Sequence[int], channels: int, extra: str) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c_in, channels, 1) for c_in in widths)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in widths)
        self.extra = extra
        sources = {"stage": (widths[-1], channels), "level": (channels, channels), "pool": ()}
        self.extras = nn.ModuleList(
            nn.Conv2d(c_in, channels, 3, stride=2, padding=1) for c_in in sources[extra]
        )

    def draw_weights(self) -> None:
        """Initialize convolutions as MMDetection does: Xavier uniform, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the levels, finest first, (N, channels, h, w) each."""
        maps = [lateral(x) for lateral, x in zip(self.laterals, stages, strict=True)]
        for fine in range(len(maps) - 2, -1, -1):
            size = maps[fine].shape[2:]
            maps[fine] = maps[fine] + F.interpolate(maps[fine + 1], size=size, mode="nearest")
        levels = [output(x) for output, x in zip(self.outputs, maps, strict=True)]
        if self.extra == "pool":
            return [*levels, F.max_pool2d(levels[-1], 1, stride=2)]
        x = stages[-1] if self.extra == "stage" else levels[-1]
        for index, conv in enumerate(self.extras):
            x = conv(F.relu(x) if index else x)
            levels.append(x)
        return levels


def backbone(resnet: str, in_channels: int, width: float) -> ResNet:
    """Return a ResNet without its classifier."""
    model = RESNETS[resnet](num_classes=1, in_channels=in_channels, width=width)
    del model.pool, model.flatten, model.fc
    return model
