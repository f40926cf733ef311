"""The groups of a network of the user, those that layers read in training alone included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from prunebench.channels.examples import Batch, Example, arguments, larger
from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ModelError

IN_TRAINING = "runs in training alone"


@dataclass(frozen=True)
class OwnTrace:
    """A network's groups, and how it was traced.

    Attributes
    ----------
    graph
        The groups. Those of layers that run in training alone are frozen.
    example, modes
        The inputs and the modes that it was traced with.
    skipped
        Parameters that training alone uses, such as those of auxiliary classifiers.
    """

    graph: ChannelGraph
    example: Example
    modes: Sequence[Literal["eval", "train"]] = ("eval",)
    skipped: tuple[str, ...] = ()


def trace_own(model: nn.Module, example: Example, *, grouped: Grouping) -> OwnTrace:
    """Trace a network, in train mode too if evaluation leaves layers out.

    Such layers lose the channels that they read, so that the smaller network still trains. A
    network that does not run in train mode on the example, such as a detector without targets, is
    traced in evaluation mode alone. ModelError as for `trace`.
    """
    graph = trace(model, example, grouped=grouped)
    if not graph.unused:
        return OwnTrace(graph, example)
    # One image more: batch norm cannot normalize over a single value.
    inputs = larger(arguments(example), Batch(graph.batch, graph.arrangement))
    try:
        both = trace(model, inputs, grouped=grouped, modes=("eval", "train"))
    except ModelError:
        return OwnTrace(graph, example)
    skipped = tuple(name for name in graph.unused if name not in both.unused)
    if not skipped:
        return OwnTrace(graph, example)
    own = [name for name in both.groups if name not in graph.groups]
    frozen = both.with_frozen(dict.fromkeys(own, IN_TRAINING))
    return OwnTrace(frozen, inputs, ("eval", "train"), skipped)
