"""Record the flow between layers during a traced pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from prunebench.channels.flow import Flow, Join, JoinKind, LayerKind, Sources
from prunebench.channels.trace.ids import Value
from prunebench.channels.trace.operation import Operation, is_pointwise

aten = torch.ops.aten
PRODUCTS = {aten.mul, aten.mul_, aten.div, aten.div_}


@dataclass
class FlowRecorder:
    """A `Flow` under construction, with the same fields."""

    reads: list[Sources] = field(default_factory=list)
    kinds: list[LayerKind] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    outputs: Sources = frozenset()

    def layer(self, op: Operation, operands: Sequence[Value], was_grouped: bool) -> Sources:
        """Record a layer and return the sources of its result, which is the layer itself.

        `was_grouped` says that a convolution had several groups before a removal.
        """
        self.reads.append(sources_of(operands))
        self.kinds.append(kind_of(op, was_grouped))
        return frozenset((len(self.reads) - 1,))

    def other(self, op: Operation, operands: Sequence[Value], result: Value) -> Sources:
        """Record the join that another operation makes, if any; return its result's sources."""
        parts = tuple(value.sources for value in operands if value.sources)
        if len(set(parts)) > 1 and (kind := join_kind(op, result)):
            self.joins.append(Join(kind, parts))
        return sources_of(operands)

    def finished(self) -> Flow:
        """Return the recorded flow."""
        return Flow(tuple(self.reads), tuple(self.kinds), tuple(self.joins), self.outputs)


def sources_of(values: Sequence[Value]) -> Sources:
    """Return the sources of all these tensors together."""
    return frozenset[int]().union(*(value.sources for value in values))


def kind_of(op: Operation, was_grouped: bool) -> LayerKind:
    """Return how a layer applies its weight."""
    if op.func.overloadpacket is not aten.convolution:
        return "linear"
    weight, groups = op.args[1], op.args[8]
    if groups > 1 or was_grouped:
        return "depthwise" if weight.shape[1] == 1 else "grouped"
    return "pointwise" if all(n == 1 for n in weight.shape[2:]) else "full"


def join_kind(op: Operation, result: Value) -> JoinKind | None:
    """Return how an operation joins its operands, or None if it does not."""
    func = op.func.overloadpacket
    if func is aten.cat:
        dim = op.arg("dim") % op.out.ndim
        return "concatenation" if any(axis.dims == (dim,) for axis in result.axes) else None
    if not is_pointwise(op.func) or func is aten.copy_:
        return None
    return "product" if func in PRODUCTS else "sum"
