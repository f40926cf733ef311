"""The flow between layers: which of them read which, and where their paths meet.

A layer is one call of a convolution's or linear layer's weight, numbered as in
`ChannelGraph.calls`. What lies between layers (normalization, activations, pooling, sums) belongs
to none: a tensor's *sources* are the layers from which it can be reached without another layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

aten = torch.ops.aten

NETWORK_INPUT = -1  # stands for the network's input among the sources
Sources = frozenset[int]
LayerKind = Literal["depthwise", "grouped", "pointwise", "full", "linear"]
JoinKind = Literal["sum", "product", "concatenation"]

PRODUCTS = {aten.mul, aten.mul_, aten.div, aten.div_}
OVERWRITES = {aten.copy_}


@dataclass(frozen=True)
class Join:
    """A place where paths of different sources meet.

    Attributes
    ----------
    kind
        "concatenation" is one of channels; "sum" is all that is neither that nor a product.
    operands
        Sources of each operand that has any.
    """

    kind: JoinKind
    operands: tuple[Sources, ...]


@dataclass(frozen=True)
class Flow:
    """What one traced pass says about the order of layers.

    Attributes
    ----------
    reads
        Per layer, the sources of what it reads.
    kinds
        Per layer, how its weight is applied.
    joins
        In the order in which they happened.
    outputs
        Sources of the network's outputs.
    """

    reads: tuple[Sources, ...] = ()
    kinds: tuple[LayerKind, ...] = ()
    joins: tuple[Join, ...] = ()
    outputs: Sources = frozenset()


@dataclass
class FlowNotes:
    """The flow as it is written down during a pass; fields as in `Flow`."""

    reads: list[Sources] = field(default_factory=list)
    kinds: list[LayerKind] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    outputs: Sources = frozenset()

    def layer(self, reads: Sources, kind: LayerKind) -> Sources:
        """Note a layer that reads these sources; return the sources of its result."""
        self.reads.append(reads)
        self.kinds.append(kind)
        return frozenset((len(self.reads) - 1,))

    def join(self, kind: JoinKind, operands: Sequence[Sources]) -> None:
        """Note a join, unless all operands come from the same layers."""
        some = tuple(sources for sources in operands if sources)
        if len(set(some)) > 1:
            self.joins.append(Join(kind, some))

    def finished(self) -> Flow:
        """Return what was noted."""
        return Flow(tuple(self.reads), tuple(self.kinds), tuple(self.joins), self.outputs)


def kind_of(func: Any, args: tuple[Any, ...], was_in_groups: bool) -> LayerKind:
    """Return how an operation applies its weight.

    `was_in_groups` is said of a convolution that had several groups before a removal.
    """
    if func.overloadpacket is not aten.convolution:
        return "linear"
    weight, groups = args[1], args[8]
    if groups > 1 or was_in_groups:
        return "depthwise" if weight.shape[1] == 1 else "grouped"
    return "pointwise" if all(n == 1 for n in weight.shape[2:]) else "full"


def join_kind(func: Any) -> JoinKind | None:
    """Return what an operation that works place by place makes of several operands, if anything."""
    if func.overloadpacket in OVERWRITES:
        return None
    return "product" if func.overloadpacket in PRODUCTS else "sum"
