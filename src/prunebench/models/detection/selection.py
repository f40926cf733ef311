"""From scores and boxes at all locations to the few boxes of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms

SCORE_THRESHOLD = 0.05
CANDIDATES = 1000  # of each level, before overlapping boxes are suppressed
DETECTIONS = 100


def select(
    scores: Tensor,
    boxes: Tensor,
    levels: Sequence[int],
    size: Tensor,
    *,
    overlap: float,
    factors: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the best boxes of one image that do not overlap much, best first.

    Candidates are the best 1000 pairs of location and class of each level, as in RetinaNet and
    torchvision. MMDetection takes the best 1000 locations with all their classes.

    Parameters
    ----------
    scores
        Probabilities (A, classes); those up to 0.05 are dropped.
    boxes
        (A, 4).
    levels
        Number of rows of each level; their sum is A.
    size
        Height and width of the image (2,), to which boxes are clipped.
    overlap
        Boxes of a class that overlap a better one more than this are dropped.
    factors
        (A,): the ranks, and the returned scores, are the scores times these.
    """
    ranks = scores if factors is None else scores * factors[:, None]
    ranks = torch.where(scores > SCORE_THRESHOLD, ranks, -1.0)
    tops, places, first = [], [], 0
    for rows in levels:
        level = ranks[first : first + rows].flatten()
        top, place = level.topk(min(CANDIDATES, len(level)))
        tops.append(top)
        places.append(place + first * scores.shape[1])
        first += rows
    rank, place = torch.cat(tops), torch.cat(places)
    label = place % scores.shape[1]
    candidates = clipped(boxes[place // scores.shape[1]], size)
    has_area = (candidates[:, 2:] > candidates[:, :2]).all(1)
    kept = ((rank >= 0) & has_area).nonzero()[:, 0]
    rank, label, candidates = rank[kept], label[kept], candidates[kept]
    kept = batched_nms(candidates, rank, label, overlap)[:DETECTIONS]
    return {"boxes": candidates[kept], "scores": rank[kept], "labels": label[kept]}


def clipped(boxes: Tensor, size: Tensor) -> Tensor:
    """Return boxes (k, 4) clipped to an image of this height and width (2,).

    >>> clipped(torch.tensor([[-1.0, 2, 9, 9]]), torch.tensor([8, 6]))
    tensor([[0., 2., 6., 8.]])
    """
    limit = size.flip(0).repeat(2).to(boxes)
    return boxes.clamp(min=0).minimum(limit)
