"""What the harness holds a method to; a breach is one sentence that names the method.

Most of these say that a plug-in is wrong. That NaN stops a run holds for all: a score that is not
a number sorts to one end, and the result would look like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGraph, ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.core.errors import MethodError


def check_scores(
    method: object, groups: Mapping[str, ChannelGroup], scores: Mapping[str, Tensor]
) -> None:
    """Raise MethodError unless there is a finite score for each unit of each group."""
    who = f"{type(method).__name__}.score"
    for name in groups:
        if name not in scores:
            raise MethodError(f"{who}: no scores for the group {name!r}")
    for name, values in scores.items():
        if name not in groups:
            raise MethodError(f"{who}: scores for {name!r}, which is no candidate")
        expected = (groups[name].n_units,)
        if tuple(values.shape) != expected:
            raise MethodError(
                f"{who}: the scores of {name!r} have shape {tuple(values.shape)}, "
                f"expected {expected}, one for each unit"
            )
    finite = [torch.isfinite(values).all() for values in scores.values()]
    if finite and not bool(torch.stack(finite).all()):
        bad = next(name for name, good in zip(scores, finite, strict=True) if not good)
        raise MethodError(f"{who}: the scores of {bad!r} are not all finite")


def check_plan(
    method: object, graph: ChannelGraph, params: Mapping[str, nn.Parameter], plan: Plan
) -> None:
    """Raise MethodError unless the plan fits the network and leaves a unit in each group."""
    who = f"{type(method).__name__}.select"
    for name, units in plan.removed.items():
        if not len(units):
            continue
        if name not in graph.groups:
            why = graph.frozen[name].frozen if name in graph.frozen else "there is no such group"
            raise MethodError(f"{who}: the group {name!r} cannot be pruned: {why}")
        n = graph.groups[name].n_units
        if int(units.max()) >= n:
            raise MethodError(
                f"{who}: unit {int(units.max())} of {name!r}, whose units are 0 to {n - 1}"
            )
        if len(units) == n:
            raise MethodError(f"{who}: all {n} units of {name!r} would leave; one must stay")
    for name, keep in plan.zeroed.items():
        if name not in params:
            raise MethodError(f"{who}: a mask for {name!r}, which is no parameter")
        if keep.shape != params[name].shape:
            raise MethodError(
                f"{who}: the mask of {name!r} has shape {tuple(keep.shape)}, "
                f"expected {tuple(params[name].shape)}"
            )
