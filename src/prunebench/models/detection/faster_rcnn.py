"""Faster R-CNN: Ren et al., arXiv 1506.01497, over a feature pyramid (arXiv 1612.03144).

Layers as in MMDetection: P6 by a max-pool, three anchors of 8 * stride pixels with ratios 1/2, 1,
2, two hidden linear layers of 1024 features, boxes for each class. The steps and losses are
torchvision's (`two_stage`), with constants that both projects share: 256 anchors per image, half of
them on boxes (overlap from 0.7 on, background below 0.3), at most 1000 proposals after suppression
at 0.7, 512 regions per image, a quarter of them on boxes (from 0.5 on). MMDetection differs in the
box losses (L1 instead of smooth L1 with beta = 1/9) and aligns regions with an offset of half a
pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from prunebench.models.base import scaled
from prunebench.models.detection.anchors import cells, grid
from prunebench.models.detection.pyramid import CHANNELS, Pyramid, backbone
from prunebench.models.detection.selection import DETECTIONS, SCORE_THRESHOLD
from prunebench.models.detection.two_stage import TwoStage

STRIDES = (4, 8, 16, 32, 64)
CELLS = tuple(cells([8.0 * stride], (0.5, 1.0, 2.0)) for stride in STRIDES)
POOLED = ("0", "1", "2", "3")  # levels that regions are aligned to, by size


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

    def draw_weights(self) -> None:
        """Initialize linear layers as MMDetection does; biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.boxes.weight, std=0.001)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return classes and codes of regions (rows, channels, 7, 7)."""
        hidden = self.hidden(self.flatten(pooled))
        return self.classes(hidden), self.boxes(hidden)


class FasterRCNN(TwoStage):
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
        self.rpn = RegionProposalNetwork(
            nn.Identity(),
            nn.Identity(),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": 1000, "testing": 1000},
            nms_thresh=0.7,
        )
        pool = MultiScaleRoIAlign(list(POOLED), output_size=7, sampling_ratio=2)
        # Otherwise they are guessed from the first input.
        pool.scales = [1 / stride for stride in STRIDES[: len(POOLED)]]
        pool.map_levels = LevelMapper(2, 5)
        self.roi_heads = RoIHeads(
            pool,
            None,
            None,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=512,
            positive_fraction=0.25,
            bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
            score_thresh=SCORE_THRESHOLD,
            nms_thresh=0.5,
            detections_per_img=DETECTIONS,
        )
        self._draw_heads()

    def draw_weights(self) -> None:
        """Initialize all weights from torch's global generator."""
        self.backbone.draw_weights()
        self._draw_heads()

    def _draw_heads(self) -> None:
        self.pyramid.draw_weights()
        self.head.draw_weights()
        for layer in (self.proposals[0], self.objectness, self.proposed):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01 * math.sqrt(CHANNELS / layer.in_channels))
            nn.init.zeros_(layer.bias)

    def levels(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels of the pyramid by name, finest first."""
        levels = self.pyramid(self.backbone.features(x))
        return {str(i): level for i, level in enumerate(levels)}

    def propose(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return objectness (N, 3, h, w) and codes (N, 12, h, w) of each level."""
        found = [self.proposals(level) for level in levels]
        return [self.objectness(f) for f in found], [self.proposed(f) for f in found]

    def classify(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return classes and codes of regions; the background, the first class, has the code 0."""
        classes, codes = self.head(pooled)
        return classes, F.pad(codes, (4, 0))

    def anchors(self, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Return the anchors of all levels, (A, 4)."""
        shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        return grid(shapes, STRIDES, CELLS, x.dtype, x.device)


NETWORKS = {
    "faster_rcnn_r18_fpn": partial(FasterRCNN, resnet="resnet18"),
    "faster_rcnn_r50_fpn": partial(FasterRCNN, resnet="resnet50"),
}
