"""One-stage detectors: a pyramid, and a head that predicts at every location of every level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import permute_and_flatten
from torchvision.ops import sigmoid_focal_loss

from prunebench.models.base import scaled
from prunebench.models.detection.anchors import IGNORED
from prunebench.models.detection.detector import Detector, Truth
from prunebench.models.detection.pyramid import CHANNELS, Pyramid, backbone
from prunebench.models.detection.selection import select

PRIOR = 0.01  # probability of every class before training (RetinaNet)
STRIDES = (8, 16, 32, 64, 128)


class DenseHead(nn.Module):
    """Four convolutions each for classes and boxes, shared by all levels, and the outputs."""

    def __init__(self, channels: int, classes: int, boxes: int, third: int) -> None:
        super().__init__()
        self.class_convs, self.box_convs = tower(channels), tower(channels)
        self.classes = nn.Conv2d(channels, classes, 3, padding=1)
        self.boxes = nn.Conv2d(channels, boxes, 3, padding=1)
        self.third = nn.Conv2d(channels, third, 3, padding=1) if third else None

    def draw_weights(self, box_bias: float) -> None:
        """Initialize convolutions as MMDetection does: normal, all classes improbable.

        The standard deviation is 0.01 for 256 input channels. It grows as they become fewer, so
        that the outputs of a narrower network vary as much.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01 * math.sqrt(CHANNELS / module.in_channels))
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        assert self.classes.bias is not None
        assert self.boxes.bias is not None
        nn.init.constant_(self.classes.bias, -math.log((1 - PRIOR) / PRIOR))
        nn.init.constant_(self.boxes.bias, box_bias)

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


@dataclass(frozen=True)
class Dense:
    """The outputs of a head at all locations, level after level, with A rows per image.

    Attributes
    ----------
    classes, boxes, third
        (N, A, classes), (N, A, 4) and (N, A, 1); `third` is None for a head without one.
    shapes
        Height and width of each level.
    rows
        Number of rows of each level.
    """

    classes: Tensor
    boxes: Tensor
    third: Tensor | None
    shapes: tuple[tuple[int, int], ...]
    rows: tuple[int, ...]


class OneStage(Detector):
    """Backbone, pyramid over its last three stages, dense head.

    A detector says by `loss` how it trains and by `scores_and_boxes` what its outputs mean.

    Attributes
    ----------
    per_place
        Anchors per location of a level; 1 also for a detector without anchors.
    extra
        Source of the levels beyond the last stage (`pyramid.Pyramid`).
    has_third
        Whether the head has a third output beside classes and boxes.
    overlap
        Intersection over union above which the worse of two boxes of a class is dropped.
    box_bias
        Bias of the last convolution for boxes before training.
    """

    per_place = 1
    extra = "stage"
    has_third = False
    overlap = 0.5
    box_bias = 0.0

    def __init__(self, *, num_classes: int, in_channels: int, width: float, resnet: str) -> None:
        super().__init__()
        self.backbone = backbone(resnet, in_channels, width)
        channels, n = scaled(CHANNELS, width), self.per_place
        self.pyramid = Pyramid(self.backbone.widths[1:], channels, self.extra)
        self.head = DenseHead(channels, n * num_classes, n * 4, n * self.has_third)
        self.num_classes = num_classes
        if self.has_third:
            self.scales = nn.ParameterList(
                nn.Parameter(self.head.boxes.weight.new_ones(1)) for _ in STRIDES
            )
        self.pyramid.draw_weights()
        self.head.draw_weights(self.box_bias)

    def draw_weights(self) -> None:
        """Initialize all weights from torch's global generator."""
        self.backbone.draw_weights()
        self.pyramid.draw_weights()
        self.head.draw_weights(self.box_bias)
        for scale in getattr(self, "scales", ()):
            nn.init.ones_(scale)

    def outputs(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the head's outputs by level, (N, channels, h, w) each."""
        results: list[tuple[Tensor, ...]] = self.head(self.pyramid(self.backbone.features(x)[1:]))
        if not hasattr(self, "scales"):
            return results
        scaled_results = zip(self.scales, results, strict=True)
        return [(r[0], scale * r[1], *r[2:]) for scale, r in scaled_results]

    def dense(self, x: Tensor) -> Dense:
        """Return the head's outputs for images (N, in_channels, H, W)."""
        levels = self.outputs(x)
        columns = [  # in float32 under autocast, too: boxes need more digits than bfloat16 has
            torch.cat([rows_of(level[place], size) for level in levels], 1).to(x.dtype)
            for place, size in enumerate((self.num_classes, 4, 1)[: len(levels[0])])
        ]
        shapes = tuple((level[0].shape[2], level[0].shape[3]) for level in levels)
        rows = tuple(
            level[1].shape[1] // 4 * h * w for level, (h, w) in zip(levels, shapes, strict=True)
        )
        return Dense(columns[0], columns[1], [*columns, None][2], shapes, rows)

    def scores_and_boxes(self, found: Dense) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return probabilities (N, A, classes), boxes (N, A, 4) and factors of the ranks (N, A)."""
        raise NotImplementedError

    @torch.no_grad()
    def detect(self, x: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """Return the boxes found in each image, as `Detector` describes them."""
        found = self.dense(x)
        scores, boxes, factors = self.scores_and_boxes(found)
        return [
            select(
                scores[i],
                boxes[i],
                found.rows,
                sizes[i],
                overlap=self.overlap,
                factors=None if factors is None else factors[i],
            )
            for i in range(len(x))
        ]


def rows_of(output: Tensor, size: int) -> Tensor:
    """Return a level's output (N, anchors * size, h, w) as rows (N, h * w * anchors, size)."""
    n, channels, h, w = output.shape
    rows: Tensor = permute_and_flatten(output, n, channels // size, size, h, w)
    return rows


def label_losses(classes: Tensor, labels: Tensor) -> Tensor:
    """Return (M, A): the focal loss of each location if it had to predict each label.

    Parameters
    ----------
    classes
        Logits of one image, (A, classes).
    labels
        int64 (M,); negative ones mark padding, whose losses mean nothing.
    """
    absent = sigmoid_focal_loss(classes, torch.zeros_like(classes), alpha=0.25, gamma=2)
    present = sigmoid_focal_loss(classes, torch.ones_like(classes), alpha=0.25, gamma=2)
    losses: Tensor = absent.sum(1) + (present - absent)[:, labels.clamp(min=0)].T
    return losses


def focal_loss(classes: Tensor, matched: Tensor, truth: Truth) -> Tensor:
    """Return the sum of the focal losses of all anchors that are not ignored.

    alpha = 0.25 and gamma = 2 (RetinaNet).

    Parameters
    ----------
    classes
        Logits (N, A, classes).
    matched
        int64 (N, A): the box that each anchor must predict, or BACKGROUND or IGNORED.
    """
    labels = truth.labels.gather(1, matched.clamp(min=0)).masked_fill(matched < 0, -1)
    wanted = labels[..., None] == torch.arange(classes.shape[-1], device=classes.device)
    losses = sigmoid_focal_loss(classes, wanted.to(classes.dtype), alpha=0.25, gamma=2)
    total: Tensor = (losses * (matched != IGNORED)[..., None]).sum()
    return total
