"""The papers' ways of counting, so that a printed number is compared with the same count.

The first functions take the layer counts of one image (`measure.layer_counts.count_layers`). The
closed forms below them count a ResNet at a uniform keep ratio without building it. Conventions can
differ between the tables of one paper: compare reductions in percent, and plain
multiply-accumulates across papers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prunebench.measure.layer_counts import LayerCount


def macs(layers: Iterable[LayerCount]) -> int:
    """Count multiply-accumulates of convolution and linear layers; no norm, bias or pooling.

    Used by GReg's ImageNet captions, Group Fisher's F, and this project's own `macs`.
    """
    return sum(layer.macs for layer in layers)


def two_per_mac(layers: Iterable[LayerCount]) -> int:
    """Count two per multiply-accumulate: GReg's CIFAR captions (0.25G for ResNet-56) and code."""
    return 2 * macs(layers)


def conv_only(layers: Iterable[LayerCount]) -> int:
    """Count multiply-accumulates of convolutions only: SFP's and FPGM's CIFAR numbers."""
    return sum(layer.macs for layer in layers if layer.kind == "conv")


def thop(layers: Iterable[LayerCount], *, norm_factor: int = 4, pool_window: bool = True) -> int:
    """Count as thop does: EPruner's numbers.

    Convolution: multiply-accumulates, plus one per output if it has a bias; linear:
    (2 in - 1) out; normalization: `norm_factor` per element; average pooling: its window plus one
    per output. EPruner's tables mix releases of thop with factor 4 (all rows but one) and 2
    (ResNet-50 with beta 0.81). Later releases count plain average pooling by its outputs only
    (`pool_window` false): CLR-RNF's number for GoogLeNet, whose pooling has a fixed size.
    """
    total = 0
    for layer in layers:
        match layer.kind:
            case "conv":
                total += layer.macs + layer.outputs * layer.bias
            case "linear":
                total += 2 * layer.macs - layer.outputs
            case "norm":
                total += norm_factor * layer.outputs
            case "avg_pool":
                total += (layer.window * pool_window + 1) * layer.outputs
    return total


def thinet(layers: Sequence[LayerCount]) -> int:
    """Count as ThiNet's script does (ToolKit/FLOPs_and_size.py): two per multiply-accumulate.

    The script counts two operations per parameter of any other layer. Caffe splits batch norm into
    two layers, of which the script reads one parameter per channel each.
    """
    return two_per_mac(layers) + sum(4 * layer.weights for layer in layers if layer.kind == "norm")


def ptflops(layers: Iterable[LayerCount], *, relu_and_pooling: bool) -> int:
    """Count as ptflops 0.6.2 does: OrthoReg's numbers.

    Multiply-accumulates, one per output for a convolution's bias, two per element for
    normalization; with `relu_and_pooling` one per element of a ReLU and one per input of a
    pooling layer. ptflops counts ReLU and pooling only if they are modules: in OrthoReg's code
    that is VGG, while its MobileNet-V1 and ResNets call the functions.
    """
    total = 0
    for layer in layers:
        match layer.kind:
            case "conv":
                total += layer.macs + layer.outputs * layer.bias
            case "linear":
                total += layer.macs
            case "norm":
                total += 2 * layer.outputs
            case "relu" if relu_and_pooling:
                total += layer.outputs
            case "avg_pool" | "max_pool" if relu_and_pooling and layer.window > 1:
                # Our VGGs average over a window of one pixel; OrthoReg's have no pooling there.
                total += layer.inputs
    return total


def fractional_sfp(stem: int, blocks: Sequence[tuple[int, int]], keep: float) -> float:
    """Count the convolutions of a CIFAR ResNet at a uniform keep ratio as SFP and FPGM do.

    `stem` and `blocks` (first and second convolution of each block) are the multiply-accumulates
    of the whole network. Filter counts are not rounded: the stem and the first convolution of a
    block cost `keep`, since their input (the image, the residual sum) stays whole; the second
    costs `keep` squared, and so does the very first block's first, whose input is the stem's.
    """
    first, second = blocks[0]
    linear = stem + sum(block[0] for block in blocks[1:])
    squared = first + second + sum(block[1] for block in blocks[1:])
    return keep * linear + keep**2 * squared


def cifar_resnet_macs(depth: int) -> tuple[int, list[tuple[int, int]]]:
    """Count the multiply-accumulates of a CIFAR ResNet's stem and of each block's convolutions.

    Three stages of 16, 32 and 64 channels on 32x32, 16x16 and 8x8 outputs; depth is 6n + 2.

    >>> stem, blocks = cifar_resnet_macs(20)
    >>> stem, blocks[0], blocks[3], stem + sum(map(sum, blocks))
    (442368, (2359296, 2359296), (1179648, 2359296), 40550400)
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth {depth} of a CIFAR ResNet, expected 6n + 2: 8, 14, 20 ...")
    stem, inner = 9 * 3 * 16 * 32 * 32, 9 * 16 * 16 * 32 * 32
    blocks = [(inner, inner)] * ((depth - 2) // 2)
    for stage in (1, 2):
        # half the inputs of the other convolutions; twice the channels on a quarter of the area
        blocks[stage * (depth - 2) // 6] = (inner // 2, inner)
    return stem, blocks


CHANNELS = (64, 128, 256, 512)
SIDES = (56, 28, 14, 7)  # of a stage's maps, pixels
STEM = 3 * 7 * 7 * 64 * 112 * 112
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def fpgm_imagenet(depth: int, keep: float) -> int:
    """Count the convolutions of an ImageNet ResNet at a uniform keep ratio as FPGM does.

    He, Liu, Wang, Hu, Yang, Filter Pruning via Geometric Median, arXiv 1811.00250; official code,
    functions/cal_flop.py. `fractional_sfp` is the formula of SFP and FPGM for CIFAR.

    Filter counts are not rounded. A convolution that reads the residual sum costs `keep`, one
    inside a block `keep` squared, and a projection shortcut its full cost. Two properties of the
    script are reproduced, since the printed reductions come from it: with basic blocks the
    correction for the first convolution of the third stage, which reads half the channels, is
    overwritten by that of the fourth; and projections of basic blocks are not counted.

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
            total += one * (keep**2 - keep)  # the very first convolution reads the pruned stem
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
