"""ATSS: Zhang et al., Adaptive Training Sample Selection, arXiv 1912.02424.

Layers as Group Fisher prunes them: P6 from P5, one anchor per location, a branch for the
centerness, heads without group norm. Assignment and losses are the paper's, with MMDetection's
constants: square anchors of 8 * stride pixels; focal loss, and binary cross-entropy of the
centerness, both divided by the number of anchors in the batch that predict a box; 2 * (1 - GIoU)
weighted by the true centerness and divided by its sum. A detection's rank is its probability times
its centerness.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, generalized_box_iou_loss

from prunebench.models.detection.anchors import BACKGROUND, cells, grid
from prunebench.models.detection.dense import STRIDES, Dense, OneStage, focal_loss
from prunebench.models.detection.detector import Truth

CELLS = tuple(cells([8.0 * stride], [1.0]) for stride in STRIDES)
CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
CANDIDATES = 9  # of each level, the paper's k
GIOU_WEIGHT = 2.0


class ATSS(OneStage):
    """One-stage detector with one anchor per location and a branch for the centerness."""

    overlap = 0.6
    extra = "level"
    has_third = True

    def loss(self, x: Tensor, truth: Truth) -> Tensor:
        """Return the sum of the losses of classes, boxes and centerness."""
        found = self.dense(x)
        anchors = self.anchors(found)
        matched = torch.stack(
            [
                assign(anchors, found.rows, boxes, real)
                for boxes, real in zip(truth.boxes, truth.real, strict=True)
            ]
        )
        image, anchor = (matched != BACKGROUND).nonzero(as_tuple=True)
        own = truth.boxes[image, matched[image, anchor]]
        predicted = CODER.decode_single(found.boxes[image, anchor], anchors[anchor])
        centerness = centerness_of(middles(anchors[anchor]), own)
        giou = (generalized_box_iou_loss(predicted, own) * centerness).sum()
        assert found.third is not None
        logits = found.third[image, anchor, 0]
        entropy = F.binary_cross_entropy_with_logits(logits, centerness, reduction="sum")
        per_anchor = (focal_loss(found.classes, matched, truth) + entropy) / max(len(own), 1)
        total: Tensor = per_anchor + GIOU_WEIGHT * giou / centerness.sum().clamp(min=1)
        return total

    def scores_and_boxes(self, found: Dense) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities, decoded boxes, and centerness."""
        assert found.third is not None
        anchors = self.anchors(found).repeat(len(found.boxes), 1)
        boxes = CODER.decode_single(found.boxes.flatten(0, 1), anchors).view_as(found.boxes)
        return found.classes.sigmoid(), boxes, found.third[..., 0].sigmoid()

    def anchors(self, found: Dense) -> Tensor:
        """Return the anchors of all levels, (A, 4)."""
        return grid(found.shapes, STRIDES, CELLS, found.boxes.dtype, found.boxes.device)


def assign(anchors: Tensor, levels: Sequence[int], boxes: Tensor, real: Tensor) -> Tensor:
    """Return the box that each anchor must predict, int64 (A,), or BACKGROUND; Algorithm 1.

    The candidates of a box are, in each level, the nine anchors whose centers are nearest to its
    own. It is predicted by the candidates whose centers lie inside it and whose overlap with it is
    at least the mean plus the standard deviation of the overlaps of all its candidates. An anchor
    of several boxes takes the one that it overlaps most.

    Parameters
    ----------
    anchors
        (A, 4).
    levels
        Number of anchors of each level; their sum is A.
    boxes
        (M, 4).
    real
        bool (M,): False marks padding.
    """
    iou = box_iou(boxes, anchors)
    centers = middles(anchors)
    distances = torch.cdist(middles(boxes), centers)
    nearest, first = [], 0
    for rows in levels:
        level = distances[:, first : first + rows]
        nearest.append(level.topk(min(CANDIDATES, rows), largest=False).indices + first)
        first += rows
    candidates = torch.cat(nearest, 1)
    overlaps = iou.gather(1, candidates)
    threshold = overlaps.mean(1) + overlaps.std(1)
    sides = torch.cat(
        [centers[candidates] - boxes[:, None, :2], boxes[:, None, 2:] - centers[candidates]], 2
    )
    is_inside = sides.amin(2) > 0.01  # pixels; the official code
    is_positive = (overlaps >= threshold[:, None]) & is_inside & real[:, None]
    quality = torch.full_like(iou, -1.0)
    quality.scatter_(1, candidates, torch.where(is_positive, overlaps, -1.0))
    best, box = quality.max(0)
    return torch.where(best >= 0, box, BACKGROUND)


def middles(boxes: Tensor) -> Tensor:
    """Return the centers (k, 2) of boxes (k, 4)."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def centerness_of(points: Tensor, boxes: Tensor) -> Tensor:
    """Return how central each point (k, 2) lies in its box (k, 4): 1 in the middle, 0 at a side.

    The root of min(l, r) / max(l, r) * min(t, b) / max(t, b), the distances to the four sides.

    >>> centerness_of(torch.tensor([[2.0, 5.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    tensor([0.5000])
    """
    before, behind = points - boxes[:, :2], boxes[:, 2:] - points
    return (torch.minimum(before, behind) / torch.maximum(before, behind)).prod(1).sqrt()


NETWORKS = {
    "atss_r18_fpn": partial(ATSS, resnet="resnet18"),
    "atss_r50_fpn": partial(ATSS, resnet="resnet50"),
}
