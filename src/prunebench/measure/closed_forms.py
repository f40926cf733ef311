"""FPGM's closed form for the ResNets of ImageNet, as its authors' script computes it.

He, Liu, Wang, Hu, Yang, Filter Pruning via Geometric Median, arXiv 1811.00250; official code,
functions/cal_flop.py. SFP's and FPGM's form for CIFAR stands in `counting.fractional_sfp`.
"""

from __future__ import annotations

CHANNELS = (64, 128, 256, 512)
SIDES = (56, 28, 14, 7)  # of a stage's maps, pixels
STEM = 3 * 7 * 7 * 64 * 112 * 112
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def fpgm_imagenet(depth: int, keep: float) -> int:
    """Count the convolutions of an ImageNet ResNet at a uniform keep ratio as FPGM prints it.

    Filter counts are not rounded. A convolution that reads the residual sum costs `keep`, one
    inside a block `keep` squared, a projection shortcut all. Two facts of the script are kept,
    since the printed reductions come from it: with basic blocks the correction for the first
    convolution of the third stage, which reads half the channels, is overwritten by that of the
    fourth; and projections of basic blocks are left out.

    >>> [round(100 * (1 - fpgm_imagenet(d, 0.7) / fpgm_imagenet(d, 1)), 1) for d in (18, 34, 50)]
    [41.8, 41.1, 42.2]
    """
    if depth not in BLOCKS:
        known = ", ".join(str(known) for known in BLOCKS)
        raise ValueError(f"depth {depth} of an ImageNet ResNet, expected one of {known}")
    stages = zip(BLOCKS[depth], CHANNELS, SIDES, strict=True)
    count = _basic if depth < 50 else _bottleneck
    return int(STEM * keep + count(list(stages), keep))


def _basic(stages: list[tuple[int, int, int]], keep: float) -> float:
    total = 0.0
    for index, (blocks, channels, side) in enumerate(stages):
        one = (3 * channels * side) ** 2
        total += blocks * one * (keep + keep**2)
        if index == 0:
            total += one * (keep**2 - keep)  # the very first convolution reads the thinned stem
        if index in (1, 3):  # and not 2: the script's slip
            total -= keep * one / 2
    return total


def _bottleneck(stages: list[tuple[int, int, int]], keep: float) -> float:
    total, c_in = 0.0, 64 * keep
    for blocks, channels, side in stages:
        area = side * side
        total += 4 * channels * area * c_in  # the projection of the first block
        for _ in range(blocks):
            total += channels * area * (c_in * keep + (9 + 4) * channels * keep**2)
            c_in = 4.0 * channels
    return total
