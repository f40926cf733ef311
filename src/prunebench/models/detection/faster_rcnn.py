"""Faster R-CNN: Ren et al., arXiv 1506.01497, over a feature pyramid (arXiv 1612.03144).

Without targets it takes 512 regions per image (the number that Group Fisher counts) from the middle
of a level, so that the shapes of its outputs do not depend on what it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from prunebench.models.base import scaled
from prunebench.models.detection.detector import Detector
from prunebench.models.detection.pyramid import CHANNELS, Pyramid, backbone

REGIONS = 512


class RegionHead(nn.Module):
    """Two hidden linear layers, and the class and box of each region."""

    def __init__(self, channels: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential(
            nn.Linear(channels * 49, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.classes = nn.Linear(hidden, num_classes + 1)  # the first is the background
        self.boxes = nn.Linear(hidden, 4 * num_classes)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return classes and boxes of regions (rows, channels, 7, 7)."""
        hidden = self.hidden(self.flatten(pooled))
        return self.classes(hidden), self.boxes(hidden)


class FasterRCNN(Detector):
    """Backbone, pyramid over its four stages, proposals, and a head of two hidden layers."""

    def __init__(self, *, num_classes: int, in_channels: int, width: float, resnet: str) -> None:
        super().__init__()
        self.backbone = backbone(resnet, in_channels, width)
        channels = scaled(CHANNELS, width)
        self.pyramid = Pyramid(self.backbone.widths, channels, "pool")
        self.proposals = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.objectness = nn.Conv2d(channels, 3, 1)  # three anchors
        self.proposed = nn.Conv2d(channels, 12, 1)
        self.head = RegionHead(channels, scaled(1024, width), num_classes)

    def outputs(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Return objectness and boxes by level, then classes and boxes of 512 regions per image."""
        levels = self.pyramid(self.backbone.features(x))
        return [*self.proposed_by(levels), self.head(repeated_regions(levels[2]))]

    def proposed_by(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return objectness and boxes of the anchors of each level."""
        proposals = [self.proposals(level) for level in levels]
        return [(self.objectness(p), self.proposed(p)) for p in proposals]


def repeated_regions(level: Tensor) -> Tensor:
    """Return each image of a level, pooled to 7x7 and repeated: (N * 512, channels, 7, 7)."""
    pooled = F.adaptive_avg_pool2d(level, 7)
    return pooled[:, None].expand(-1, REGIONS, -1, -1, -1).flatten(0, 1)


NETWORKS = {
    "faster_rcnn_r18_fpn": partial(FasterRCNN, resnet="resnet18"),
    "faster_rcnn_r50_fpn": partial(FasterRCNN, resnet="resnet50"),
}
