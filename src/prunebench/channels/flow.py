"""The flow between layers: which layer reads which, and where their paths meet.

A layer is one call of a convolution's or linear layer's weight, numbered as in
`ChannelGraph.calls`. Operations between layers (normalization, activations, pooling, sums) belong
to no layer: a tensor's *sources* are the layers that it is computed from without another layer in
between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NETWORK_INPUT = -1  # stands for the network's input among the sources
Sources = frozenset[int]
LayerKind = Literal["depthwise", "grouped", "pointwise", "full", "linear"]
JoinKind = Literal["sum", "product", "concatenation"]


@dataclass(frozen=True)
class Join:
    """An operation in which paths from different sources meet.

    Attributes
    ----------
    kind
        "concatenation" along channels, "product", or "sum" for every other operation.
    operands
        Sources of each operand that has any.
    """

    kind: JoinKind
    operands: tuple[Sources, ...]


@dataclass(frozen=True)
class Flow:
    """The order of the layers in one traced pass.

    Attributes
    ----------
    reads
        Sources of the input of each layer.
    kinds
        How each layer applies its weight.
    joins
        The joins, in the order in which they ran.
    outputs
        Sources of the network's outputs.
    """

    reads: tuple[Sources, ...] = ()
    kinds: tuple[LayerKind, ...] = ()
    joins: tuple[Join, ...] = ()
    outputs: Sources = frozenset()
