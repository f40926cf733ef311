"""A network's structure as the papers' recipes give it, and the quantities counted of it.

What is counted, in whose way, has a name here; `measure.structures` counts it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prunebench.experiments.settings import Settings

Quantity = Literal[
    "macs",
    "two_per_mac",
    "conv_macs",
    "thop4",
    "thop2",
    "thop2_average_free",
    "norm2_conv_macs",
    "ptflops",
    "ptflops_modules",
    "params",
    "layer_params",
    "params_per_call",
    "outputs",
]
QUANTITIES: dict[str, str] = {
    "macs": "multiply-accumulates of convolution and linear layers",
    "two_per_mac": "two operations per multiply-accumulate",
    "conv_macs": "multiply-accumulates of convolutions",
    "thop4": "thop, 4 per batch-norm element",
    "thop2": "thop, 2 per batch-norm element",
    "thop2_average_free": "thop, 2 per batch-norm element, average pooling by its outputs",
    "norm2_conv_macs": "multiply-accumulates of convolutions, 2 per batch-norm element",
    "ptflops": "ptflops, layers and batch norm",
    "ptflops_modules": "ptflops, with ReLU and pooling",
    "params": "parameters",
    "layer_params": "parameters without batch norm and convolutions' biases",
    "params_per_call": "parameters, a shared layer's once per call",
    "outputs": "elements of the outputs of convolution and linear layers",
}
KeepRatio = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Patterns = Annotated[tuple[str, ...], Field(min_length=1)]


class Thinned(Settings):
    """How many units of some channel groups stay.

    Groups are named after their first layer; patterns are those of file names (`*.conv1`,
    `stages.[12].*`). Exactly one of the two ratios is given:

    Attributes
    ----------
    ratio
        ceil(ratio n) units leave and at least one stays: GReg's rounding.
    keep
        int(keep n) units stay, at least one: FilterSketch's rounding.
    """

    groups: Patterns
    ratio: Ratio | None = None
    keep: KeepRatio | None = None

    @model_validator(mode="after")
    def _one_ratio(self) -> Thinned:
        if (self.ratio is None) == (self.keep is None):
            raise ValueError("give either ratio or keep")
        return self


class Formula(Settings):
    """A paper's closed form for a uniform keep ratio, with filter counts that are fractions.

    `sfp_cifar` is that of SFP and FPGM for CIFAR ResNets; `fpgm_imagenet` is FPGM's script for
    ResNet-18, -34, -50 and -101, with its slip.
    """

    name: Literal["sfp_cifar", "fpgm_imagenet"]
    depth: Count
    keep: KeepRatio = 1.0


class CountedStructure(Settings):
    """A network of ours, and what is taken out of it; of a group by the first fitting entry."""

    architecture: str
    num_classes: Count
    image: tuple[Count, Count, Count]  # channels, height, width
    thinned: tuple[Thinned, ...] = ()
    formula: Formula | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> CountedStructure:
        if self.thinned and self.formula:
            raise ValueError("thinned and formula exclude each other")
        return self
