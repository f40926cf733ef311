"""RetinaNet: Lin et al., Focal Loss for Dense Object Detection, arXiv 1708.02002.

Layers and training as in MMDetection, with which Group Fisher's authors trained: nine anchors of
4 * stride * 2^(0, 1/3, 2/3) pixels and ratios 1/2, 1, 2; the level P6 from the backbone's C5; an
anchor predicts a box from an overlap of 0.5 on and is background below 0.4; focal loss, and L1 loss
of the encoded boxes, both divided by the number of anchors in the batch that predict a box.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, encode_boxes
from torchvision.ops import box_iou

from prunebench.models.detection.anchors import cells, grid, match
from prunebench.models.detection.dense import STRIDES, Dense, OneStage, focal_loss
from prunebench.models.detection.detector import Truth

CELLS = tuple(
    cells([4 * stride * 2 ** (third / 3) for third in range(3)], (0.5, 1.0, 2.0))
    for stride in STRIDES
)


class RetinaNet(OneStage):
    """One-stage detector with nine anchors per location."""

    per_place = 9

    def loss(self, x: Tensor, truth: Truth) -> Tensor:
        """Return focal loss plus L1 loss, per anchor that predicts a box."""
        found = self.dense(x)
        anchors = self.anchors(found)
        matched = torch.stack(
            [
                match(box_iou(boxes, anchors), real, low=0.4, high=0.5)
                for boxes, real in zip(truth.boxes, truth.real, strict=True)
            ]
        )
        total = focal_loss(found.classes, matched, truth)
        total = total + box_loss(found.boxes, anchors, matched, truth)
        return total / (matched >= 0).sum().clamp(min=1)

    def scores_and_boxes(self, found: Dense) -> tuple[Tensor, Tensor, None]:
        """Return probabilities and decoded boxes."""
        anchors = self.anchors(found).repeat(len(found.boxes), 1)
        boxes = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(found.boxes.flatten(0, 1), anchors)
        return found.classes.sigmoid(), boxes.view_as(found.boxes), None

    def anchors(self, found: Dense) -> Tensor:
        """Return the anchors of all levels, (A, 4)."""
        return grid(found.shapes, STRIDES, CELLS, found.boxes.dtype, found.boxes.device)


def box_loss(codes: Tensor, anchors: Tensor, matched: Tensor, truth: Truth) -> Tensor:
    """Return the sum of |code - encoded box| over all anchors that predict a box.

    Parameters
    ----------
    codes
        Predicted (N, A, 4).
    anchors
        (A, 4).
    matched
        int64 (N, A): the box that each anchor must predict; negative for none.
    """
    predicts = (matched >= 0)[..., None]
    boxes = truth.boxes.gather(1, matched.clamp(min=0)[..., None].expand(-1, -1, 4))
    # An anchor that predicts nothing takes itself: the code of an empty box would be infinite.
    boxes = torch.where(predicts, boxes, anchors)
    repeated = anchors.repeat(len(boxes), 1)
    wanted = encode_boxes(boxes.flatten(0, 1), repeated, anchors.new_ones(4)).view_as(codes)
    total: Tensor = ((codes - wanted).abs() * predicts).sum()
    return total


NETWORKS = {
    "retinanet_r18_fpn": partial(RetinaNet, resnet="resnet18"),
    "retinanet_r50_fpn": partial(RetinaNet, resnet="resnet50"),
}
