"""Anchors: boxes of fixed sizes around the locations of a pyramid's levels.

torchvision's generator rounds the sizes and derives the strides from the size of the input;
MMDetection, which Group Fisher's authors used, does neither. Location (i, j) of a level lies at
(i, j) times the stride, as in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

Cells = tuple[tuple[float, float], ...]  # width and height of each anchor at a location


def cells(sizes: Sequence[float], ratios: Sequence[float]) -> Cells:
    """Return width and height of anchors with the area size^2 and ratio = height / width.

    >>> cells([16.0], [0.25, 1.0])
    ((32.0, 8.0), (16.0, 16.0))
    """
    return tuple((s / math.sqrt(r), s * math.sqrt(r)) for s in sizes for r in ratios)


@lru_cache(maxsize=16)
def grid(
    shapes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    level_cells: tuple[Cells, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return the anchors of all levels, (A, 4); the anchors of a location are consecutive.

    The result is kept for further batches of this shape, because building it would synchronize
    with the GPU.

    >>> grid(((1, 2),), (8,), (((4.0, 2.0),),), torch.float, torch.device("cpu"))
    tensor([[-2., -1.,  2.,  1.],
            [ 6., -1., 10.,  1.]])
    """
    levels = []
    with torch.inference_mode(False):  # a kept tensor must serve in training, too
        for (h, w), stride, own in zip(shapes, strides, level_cells, strict=True):
            sizes = torch.tensor(own, dtype=dtype, device=device)
            half = torch.cat([-sizes, sizes], 1) / 2
            x = torch.arange(w, dtype=dtype, device=device) * stride
            y = torch.arange(h, dtype=dtype, device=device) * stride
            y, x = torch.meshgrid(y, x, indexing="ij")
            centers = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
            levels.append((centers + half).reshape(-1, 4))
        return torch.cat(levels)


BACKGROUND, IGNORED = -1, -2


def match(iou: Tensor, real: Tensor, low: float, high: float) -> Tensor:
    """Return the box that each anchor must predict, int64 (A,), or BACKGROUND or IGNORED.

    An anchor predicts the box that it overlaps most if the overlap is at least `high`; below `low`
    it is background, in between it is ignored. The best anchors of a box predict a box, too, even
    if they overlap it less. This is torchvision's `Matcher` with `allow_low_quality_matches`, but
    without reading the device and with padding.

    Parameters
    ----------
    iou
        Intersection over union of boxes and anchors, (M, A).
    real
        bool (M,): False marks padding.

    >>> iou = torch.tensor([[0.7, 0.45, 0.1, 0.0], [0.1, 0.2, 0.3, 0.0]])
    >>> match(iou, torch.tensor([True, True]), 0.4, 0.5).tolist()
    [0, -2, 1, -1]
    """
    iou = iou.masked_fill(~real[:, None], -1.0)
    best, box = iou.max(0)
    otherwise = torch.where(best < low, BACKGROUND, IGNORED)
    is_best_of_a_box = ((iou == iou.amax(1, keepdim=True)) & (iou > 0)).any(0)
    return torch.where((best >= high) | is_best_of_a_box, box, otherwise)


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of each pair of boxes (k, 4), shape (k,).

    >>> paired_iou(torch.tensor([[0.0, 0, 2, 1]]), torch.tensor([[1.0, 0, 3, 1]]))
    tensor([0.3333])
    """
    corner = torch.minimum(first[:, 2:], second[:, 2:])
    shared = (corner - torch.maximum(first[:, :2], second[:, :2])).clamp(min=0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return shared / (areas[0] + areas[1] - shared)
