"""The detectors that Group Fisher prunes, as networks that can be built, traced and counted.

All use ResNet-50 with a feature pyramid of 256 channels, as in MMDetection:

- RetinaNet (Lin et al., arXiv 1708.02002): nine anchors; the level P6 from the backbone's C5.
- FSAF (Zhu et al., arXiv 1903.00621): RetinaNet's layers without anchors.
- ATSS (Zhang et al., arXiv 1912.02424) and PAA (Kim, Lee, arXiv 2007.08103): P6 from P5, a third
  output beside classes and boxes; heads without group norm, as Group Fisher prunes them.
- Faster R-CNN (Ren et al., arXiv 1506.01497; pyramid: Lin et al., arXiv 1612.03144).

They return the outputs of their heads, level by level. Anchors, losses and box selection are not
included, so detectors cannot be trained yet. Faster R-CNN takes its 512 regions (the number that
Group Fisher counts) from the middle of a level instead of aligning proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from prunebench.models.base import scaled
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


class DenseHead(nn.Module):
    """Four convolutions each for classes and boxes, shared by all levels, and the outputs."""

    def __init__(self, channels: int, classes: int, boxes: int, third: int) -> None:
        super().__init__()
        self.class_convs, self.box_convs = tower(channels), tower(channels)
        self.classes = nn.Conv2d(channels, classes, 3, padding=1)
        self.boxes = nn.Conv2d(channels, boxes, 3, padding=1)
        self.third = nn.Conv2d(channels, third, 3, padding=1) if third else None

    def forward(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Return the outputs of each level: classes, boxes, and the third output if any."""
        results: list[tuple[Tensor, ...]] = []
        for level in levels:
            for_boxes = self.box_convs(level)
            result = (self.classes(self.class_convs(level)), self.boxes(for_boxes))
            results.append(result if self.third is None else (*result, self.third(for_boxes)))
        return results


def tower(channels: int) -> nn.Sequential:
    """Return four 3x3 convolutions with bias and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class OneStage(nn.Module):
    """Backbone, pyramid over its last three stages, dense head."""

    def __init__(
        self,
        *,
        anchors: int,
        extra: str,
        third: bool,
        num_classes: int,
        in_channels: int,
        width: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone(in_channels, width)
        channels = scaled(CHANNELS, width)
        self.pyramid = Pyramid(self.backbone.widths[1:], channels, extra)
        self.head = DenseHead(channels, anchors * num_classes, anchors * 4, anchors * third)
        if third:
            self.scales = nn.ParameterList(
                nn.Parameter(self.head.boxes.weight.new_ones(1)) for _ in range(5)
            )

    def forward(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the head's outputs by level for images (N, in_channels, h, w)."""
        results: list[tuple[Tensor, ...]] = self.head(self.pyramid(self.backbone.features(x)[1:]))
        if not hasattr(self, "scales"):
            return results
        scaled_results = zip(self.scales, results, strict=True)
        return [(r[0], scale * r[1], *r[2:]) for scale, r in scaled_results]


class FasterRCNN(nn.Module):
    """Backbone, pyramid over its four stages, proposals, and a head of two hidden layers."""

    regions = 512

    def __init__(self, *, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        self.backbone = backbone(in_channels, width)
        channels = scaled(CHANNELS, width)
        self.pyramid = Pyramid(self.backbone.widths, channels, "pool")
        self.proposals = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.objectness = nn.Conv2d(channels, 3, 1)  # three anchors
        self.proposed = nn.Conv2d(channels, 12, 1)
        hidden = scaled(1024, width)
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential(
            nn.Linear(channels * 49, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.classes = nn.Linear(hidden, num_classes + 1)  # one for the background
        self.boxes = nn.Linear(hidden, 4 * num_classes)

    def forward(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Return objectness and boxes by level, then classes and boxes of the regions."""
        levels = self.pyramid(self.backbone.features(x))
        results: list[tuple[Tensor, ...]] = []
        for level in levels:
            proposal = self.proposals(level)
            results.append((self.objectness(proposal), self.proposed(proposal)))
        # One image. A trained detector would align each region to its own box.
        pooled = F.adaptive_avg_pool2d(levels[2][:1], 7).repeat(self.regions, 1, 1, 1)
        hidden = self.hidden(self.flatten(pooled))
        return [*results, (self.classes(hidden), self.boxes(hidden))]


def backbone(in_channels: int, width: float) -> ResNet:
    """Return ResNet-50 without its classifier."""
    model = RESNETS["resnet50"](num_classes=1, in_channels=in_channels, width=width)
    del model.pool, model.flatten, model.fc
    return model


NETWORKS = {
    "retinanet_r50_fpn": partial(OneStage, anchors=9, extra="stage", third=False),
    "fsaf_r50_fpn": partial(OneStage, anchors=1, extra="stage", third=False),
    "atss_r50_fpn": partial(OneStage, anchors=1, extra="level", third=True),
    "paa_r50_fpn": partial(OneStage, anchors=1, extra="level", third=True),
    "faster_rcnn_r50_fpn": FasterRCNN,
}
