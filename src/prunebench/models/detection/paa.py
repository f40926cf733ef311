"""PAA: Kim, Lee, Probabilistic Anchor Assignment with IoU Prediction, arXiv 2007.08103.

The layers are those of ATSS; the third output predicts the overlap of the predicted box with the
true one. Which anchors predict a box depends on their losses, to which a mixture of two Gaussians
is fitted. Constants are MMDetection's: anchors from an overlap of 0.1 on are candidates; focal
loss, and half of the binary cross-entropy of the overlap, divided by the number of anchors in the
batch that predict a box; 1.3 * (1 - GIoU) weighted by the overlap and divided by its sum.

The mixture is fitted by a fixed number of steps, so that the device is not read. A detection's rank
is probability times overlap, whose order is that of the paper's square root. The paper's score
voting, which moves the boxes that were found, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou, generalized_box_iou_loss

from prunebench.models.detection.anchors import BACKGROUND, match, paired_iou
from prunebench.models.detection.atss import ATSS, CODER
from prunebench.models.detection.dense import focal_loss, label_losses
from prunebench.models.detection.detector import Truth

CANDIDATES = 9  # of each level, the paper's K
OVERLAP = 0.1
GIOU_WEIGHT, THIRD_WEIGHT = 1.3, 0.5
FITTING_STEPS = 30
LEAST_VARIANCE = 1e-6  # added to each variance, as scikit-learn does


class PAA(ATSS):
    """ATSS's layers; anchors are assigned by their losses."""

    def loss(self, x: Tensor, truth: Truth) -> Tensor:
        """Return the sum of the losses of classes, boxes and overlaps."""
        found = self.dense(x)
        anchors = self.anchors(found)
        predicted = CODER.decode_single(
            found.boxes.flatten(0, 1), anchors.repeat(len(x), 1)
        ).view_as(found.boxes)
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
        image, anchor = (matched != BACKGROUND).nonzero(as_tuple=True)
        own, boxes = truth.boxes[image, matched[image, anchor]], predicted[image, anchor]
        overlap = paired_iou(boxes, own).detach()
        assert found.third is not None
        logits = found.third[image, anchor, 0]
        entropy = F.binary_cross_entropy_with_logits(logits, overlap, reduction="sum")
        giou = (generalized_box_iou_loss(boxes, own) * overlap).sum()
        per_anchor = focal_loss(found.classes, matched, truth) + THIRD_WEIGHT * entropy
        least = torch.finfo(x.dtype).eps  # all overlaps may be 0
        per_box = giou / overlap.sum().clamp(min=least)
        total: Tensor = per_anchor / max(len(own), 1) + GIOU_WEIGHT * per_box
        return total


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
    """Return the box that each anchor must predict, int64 (A,), or BACKGROUND; Algorithm 1.

    The candidates of a box are, in each level, the nine anchors with the least losses among those
    that overlap it by 0.1 and no other box more.

    Parameters
    ----------
    classes, predicted
        Logits (A, classes) and boxes (A, 4) of one image.
    anchors
        (A, 4).
    levels
        Number of anchors of each level; their sum is A.
    boxes, labels, real
        (M, 4), (M,) and bool (M,): False marks padding.
    """
    owner = match(box_iou(boxes, anchors), real, low=OVERLAP, high=OVERLAP)
    losses = label_losses(classes, labels)
    losses = losses + GIOU_WEIGHT * (1 - generalized_box_iou(boxes, predicted))
    numbers = torch.arange(len(boxes), device=boxes.device)[:, None]
    losses = torch.where(owner == numbers, losses, torch.inf)
    least, places, first = [], [], 0
    for rows in levels:
        level = losses[:, first : first + rows].topk(min(CANDIDATES, rows), largest=False)
        least.append(level.values)
        places.append(level.indices + first)
        first += rows
    candidates, order = torch.cat(least, 1).sort(1)
    anchor = torch.cat(places, 1).gather(1, order)
    wanted = torch.where(separated(candidates), numbers, BACKGROUND)
    background = torch.full_like(owner, BACKGROUND)
    return background.scatter_reduce(0, anchor.flatten(), wanted.flatten(), "amax")


def separated(losses: Tensor) -> Tensor:
    """Return which candidates predict their box, bool (M, K); section 3.2 and figure 3 (c).

    A mixture of two Gaussians is fitted to the losses of each box. Candidates of the one with the
    smaller mean predict the box, up to the candidate with the greatest likelihood. A single
    candidate predicts its box.

    Parameters
    ----------
    losses
        (M, K), rising; infinite where a box has fewer candidates.

    >>> separated(torch.tensor([[0.1, 0.2, 0.3, 5.0, 5.1, torch.inf]])).tolist()
    [[True, True, False, False, False, False]]
    """
    exists = losses.isfinite()
    x = torch.where(exists, losses, 0.0)[..., None]  # (M, K, 1); the last axis is the component
    count = exists.sum(1)
    means = torch.stack([x[:, 0, 0], x.amax((1, 2))], -1)[:, None]
    variances, weights = torch.ones_like(means), torch.full_like(means, 0.5)
    for _ in range(FITTING_STEPS):
        share = log_densities(x, means, variances, weights).softmax(-1) * exists[..., None]
        total = share.sum(1, keepdim=True) + torch.finfo(x.dtype).eps
        means = (share * x).sum(1, keepdim=True) / total
        variances = (share * (x - means).square()).sum(1, keepdim=True) / total + LEAST_VARIANCE
        weights = total / total.sum(-1, keepdim=True)
    densities = log_densities(x, means, variances, weights)
    is_first = (densities[..., 0] >= densities[..., 1]) & exists
    likelihood = densities.logsumexp(-1).masked_fill(~is_first, -torch.inf)
    place = torch.arange(losses.shape[1], device=losses.device)
    up_to_mode = is_first & (place <= likelihood.argmax(1, keepdim=True))
    return torch.where(count[:, None] < 2, exists, up_to_mode)


def log_densities(x: Tensor, means: Tensor, variances: Tensor, weights: Tensor) -> Tensor:
    """Return the logarithms of weighted Gaussian densities, (M, K, 2)."""
    return weights.log() - (2 * math.pi * variances).log() / 2 - (x - means) ** 2 / (2 * variances)


NETWORKS = {
    "paa_r18_fpn": partial(PAA, resnet="resnet18"),
    "paa_r50_fpn": partial(PAA, resnet="resnet50"),
}
