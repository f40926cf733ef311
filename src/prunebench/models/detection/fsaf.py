"""FSAF: Zhu et al., Feature Selective Anchor-Free Module, arXiv 1903.00621.

The anchor-free branch alone, as Group Fisher prunes it: RetinaNet's layers with one prediction per
location. Each box is learned at one level only, the one that predicts it best at present. Sections
and equations are the paper's; where it prints no constant, MMDetection's is taken. Two rules are
ours: a cell of a level belongs to a region if the region touches it, so that a box has a cell in
every level; and the classification loss is the sum over a location's classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from prunebench.models.detection.anchors import BACKGROUND, IGNORED, cells, grid, paired_iou
from prunebench.models.detection.dense import STRIDES, Dense, OneStage, focal_loss, label_losses
from prunebench.models.detection.detector import Truth

CELLS = tuple(cells([float(stride)], [1.0]) for stride in STRIDES)
EFFECTIVE, IGNORING = 0.2, 0.5  # sides of the regions as fractions of the box's
NORMALIZER = 4.0  # the paper's S: an output of 1 is 4 strides
LEAST_IOU = 1e-6  # MMDetection; the logarithm of 0 would be infinite


class FSAF(OneStage):
    """One-stage detector that predicts the distances from a location to the sides of its box."""

    box_bias = 0.25  # one stride (MMDetection)

    def loss(self, x: Tensor, truth: Truth) -> Tensor:
        """Return focal loss plus IoU loss, per location that predicts a box; section 3.1."""
        found = self.dense(x)
        anchors = self.anchors(found)
        predicted = decoded(found.boxes, anchors)
        matched = torch.stack(
            [
                assign(
                    found.classes[i],
                    predicted[i],
                    anchors,
                    found.rows,
                    truth.boxes[i],
                    truth.labels[i],
                    truth.real[i],
                )
                for i in range(len(x))
            ]
        )
        image, place = (matched >= 0).nonzero(as_tuple=True)
        own = truth.boxes[image, matched[image, place]]
        total = focal_loss(found.classes, matched, truth)
        total = total + iou_loss(predicted[image, place], own).sum()
        return total / max(len(own), 1)

    def scores_and_boxes(self, found: Dense) -> tuple[Tensor, Tensor, None]:
        """Return probabilities and boxes."""
        return found.classes.sigmoid(), decoded(found.boxes, self.anchors(found)), None

    def anchors(self, found: Dense) -> Tensor:
        """Return a square of the stride's size around each multiple of the stride, (A, 4).

        Its lower right corner is the center of a location's cell.
        """
        return grid(found.shapes, STRIDES, CELLS, found.boxes.dtype, found.boxes.device)


def decoded(codes: Tensor, anchors: Tensor) -> Tensor:
    """Return boxes from outputs (N, A, 4): the distances up, left, down, right, over 4 strides.

    >>> decoded(torch.tensor([[[0.5, 0.25, 1.0, -3.0]]]), torch.tensor([[-4.0, -4.0, 4.0, 4.0]]))
    tensor([[[ -4., -12.,   4.,  36.]]])
    """
    center, stride = anchors[:, 2:], anchors[:, 2:] - anchors[:, :2]
    up, left, down, right = (NORMALIZER * stride[:, :1] * F.relu(codes)).unbind(-1)
    x, y = center.unbind(-1)
    return torch.stack([x - left, y - up, x + right, y + down], -1)


def touched(boxes: Tensor, anchors: Tensor, fraction: float) -> Tensor:
    """Whether each box (M, 4), with sides scaled by `fraction`, touches each cell; (M, A)."""
    center, stride = anchors[:, 2:], anchors[:, 2:] - anchors[:, :2]
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    gaps = (center - middle[:, None]).abs()
    return (gaps < fraction * sides[:, None] / 2 + stride / 2).all(2)


@torch.no_grad()
def assign(
    classes: Tensor,
    predicted: Tensor,
    anchors: Tensor,
    levels: Sequence[int],
    boxes: Tensor,
    labels: Tensor,
    real: Tensor,
) -> Tensor:
    """Return the box that each location must predict, int64 (A,), or BACKGROUND or IGNORED.

    A box is learned in the effective region of its level; of several boxes the smallest is. The
    rest of the ignoring region, there and in the adjacent levels, is ignored.

    Parameters
    ----------
    classes, predicted
        Logits (A, classes) and boxes (A, 4) of one image.
    anchors
        (A, 4).
    levels
        Number of locations of each level; their sum is A.
    boxes, labels, real
        (M, 4), (M,) and bool (M,): False marks padding.
    """
    effective = touched(boxes, anchors, EFFECTIVE) & real[:, None]
    losses = location_losses(classes, predicted, boxes, labels)
    level = torch.cat(
        [torch.full((rows,), i, device=boxes.device) for i, rows in enumerate(levels)]
    )
    distance = (level - best_levels(losses, effective, levels)[:, None]).abs()
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1, keepdim=True)
    areas = torch.where(effective & (distance == 0), area, torch.inf)
    smallest, box = areas.min(0)
    ignored = touched(boxes, anchors, IGNORING) & (distance <= 1) & real[:, None]
    otherwise = torch.where(ignored.any(0), IGNORED, BACKGROUND)
    return torch.where(smallest < torch.inf, box, otherwise)


def location_losses(classes: Tensor, predicted: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Return (M, A): focal loss plus IoU loss of each location if it had to predict each box."""
    overlap: Tensor = box_iou(boxes, predicted).clamp(min=LEAST_IOU)
    return label_losses(classes, labels) - overlap.log()


def best_levels(losses: Tensor, effective: Tensor, levels: Sequence[int]) -> Tensor:
    """Return the level with the least mean loss over the effective region, int64 (M,); eq. 1-3.

    >>> losses = torch.tensor([[4.0, 2.0, 3.5]])
    >>> best_levels(losses, torch.ones(1, 3, dtype=torch.bool), [2, 1])
    tensor([0])
    """
    means, first = [], 0
    for rows in levels:
        own = effective[:, first : first + rows]
        sums = (losses[:, first : first + rows] * own).sum(1)
        counts = own.sum(1)
        means.append(torch.where(counts > 0, sums / counts, torch.inf))
        first += rows
    return torch.stack(means, 1).argmin(1)


def iou_loss(predicted: Tensor, boxes: Tensor) -> Tensor:
    """Return -ln IoU of each pair of boxes, (k,).

    >>> iou_loss(torch.tensor([[0.0, 0, 2, 1]]), torch.tensor([[1.0, 0, 3, 1]]))  # ln 3
    tensor([1.0986])
    """
    return -paired_iou(predicted, boxes).clamp(min=LEAST_IOU).log()


NETWORKS = {
    "fsaf_r18_fpn": partial(FSAF, resnet="resnet18"),
    "fsaf_r50_fpn": partial(FSAF, resnet="resnet50"),
}
