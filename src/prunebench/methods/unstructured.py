"""Single weights as units: unstructured pruning, which leaves zeros and no smaller layer.

A unit is one entry of a convolution's weight, or of a linear layer's where the option `layers` asks
for these too; biases and batch norm have none. Layers are named by their paths. What is pruned
becomes a mask (`Plan.zeroed`) that the training loop applies after every step: sparsity and
theoretical multiply-accumulates follow from it, a latency does not.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from prunebench.channels.groups import ChannelGraph, MemberRole
from prunebench.channels.plan import Plan
from prunebench.channels.selections import select_layers
from prunebench.core.errors import TrainingError
from prunebench.criteria.base import Run
from prunebench.experiments.phases import Budget
from prunebench.methods.allocation import pruned_count
from prunebench.methods.base import MethodOptions, Rule


class WeightOptions(MethodOptions):
    """Options of methods that prune single weights too.

    With unit "weight", `layer_ratios` name layers and `roles` says nothing. GReg's unstructured
    pruning takes all layers but the stem: [convolutions, linear, not stem].
    """

    unit: Literal["filter", "channel", "weight"] = "filter"
    layers: tuple[Rule, ...] = ("convolutions",)  # unit "weight": those that lose weights

    @model_validator(mode="after")
    def _widths_are_of_groups(self) -> WeightOptions:
        if self.unit == "weight" and self.widths_from is not None:
            raise ValueError("widths_from goes with unit 'filter': single weights leave no width")
        return self


def check_unit(options: WeightOptions, budget: Budget) -> None:
    """Raise ValueError where the ratio's kind counts something else than the units."""
    is_weights = options.unit == "weight"
    if budget.kind != "auto" and (budget.kind == "weights") != is_weights:
        raise ValueError(f"unit {options.unit!r} does not go with ratio_kind {budget.kind!r}")


def member_role(options: WeightOptions) -> MemberRole:
    """Return which members of a group hold the unit's weights: those behind for input channels."""
    return "in" if options.unit == "channel" else "out"


def weight_layers(graph: ChannelGraph, options: WeightOptions) -> dict[str, str]:
    """Return the weights that may lose entries, by path of the layer, in network order."""
    chosen = select_layers(graph, options.layers)
    return {w.removesuffix(".weight"): w for w in chosen if w in graph.trainable}


def weight_name(layer: str, names: Container[str]) -> str:
    """Return the weight of a layer that `weight_layers` has named, among parameters' names."""
    return f"{layer}.weight" if f"{layer}.weight" in names else layer


def weight_magnitudes(params: Mapping[str, Tensor], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """Return |w| by layer, each of its weight's shape."""
    return {name: params[weight].detach().abs() for name, weight in layers.items()}


def smallest(scores: Tensor, count: int) -> Tensor:
    """Return a bool mask of the scores' shape, True for the `count` smallest; no host read.

    Ties go to the lower index.

    >>> smallest(torch.tensor([[3.0, 1.0], [1.0, 2.0]]), 1)
    tensor([[False,  True],
            [False, False]])
    """
    order = torch.argsort(scores.flatten(), stable=True)
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    chosen[order[:count]] = True
    # laid out in memory as the scores are, so that masks run along weights in channels-last
    return torch.empty_like(scores, dtype=torch.bool).copy_(chosen.view(scores.shape))


def weight_counts(
    scores: Mapping[str, Tensor], budget: Budget, options: MethodOptions
) -> dict[str, int]:
    """Return how many weights each layer loses; one always stays.

    A layer of n weights loses ceil(ratio n), as GReg's code rounds, where ratios are the layers'
    own or the allocation is uniform; ranked together, floor(ratio N) of all N candidates leave,
    and the largest of each layer does not.

    Raises
    ------
    TrainingError
        If the ratio asks for more than all but one weight of each layer, or a score is not finite.
    """
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise TrainingError(f"the scores of the weights of {name!r} are not all finite")
    if budget.ratio is None:
        return {
            name: pruned_count(s.numel(), options.layer_ratio(name)) for name, s in scores.items()
        }
    if options.allocation == "uniform":
        return {name: pruned_count(s.numel(), budget.ratio) for name, s in scores.items()}
    return global_counts(scores, budget.ratio)


def global_counts(scores: Mapping[str, Tensor], ratio: float) -> dict[str, int]:
    """Return how many of each layer are among the floor(ratio N) smallest of all N scores.

    >>> two = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([9.0, 8.0])}
    >>> global_counts(two, 0.5), global_counts(two, 0.6)
    ({'a': 2, 'b': 0}, {'a': 2, 'b': 1})
    """
    sizes = torch.tensor([s.numel() for s in scores.values()])
    goal = math.floor(ratio * int(sizes.sum()))
    if goal > int((sizes - 1).sum()):
        raise TrainingError(
            f"ratio {ratio} of weights is out of reach with one weight left in each of "
            f"{len(sizes)} layers"
        )
    ranked = []
    for score in scores.values():
        flat = score.detach().flatten().clone()
        flat[flat.argmax()] = math.inf
        ranked.append(flat)
    leaving = torch.argsort(torch.cat(ranked), stable=True)[:goal].cpu()
    layer = torch.repeat_interleave(torch.arange(len(sizes)), sizes)[leaving]
    counts = torch.bincount(layer, minlength=len(sizes)).tolist()
    return dict(zip(scores, counts, strict=True))


def zeroing(names: Container[str], pruned: Mapping[str, Tensor]) -> Plan:
    """Return the plan that zeroes what is True in `pruned`, by layer, of its weight's shape."""
    return Plan(zeroed={weight_name(layer, names): ~entries for layer, entries in pruned.items()})


def without_masked(run: Run, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores, by layer, with what is masked already below all others."""
    found = {}
    for layer, score in scores.items():
        keep = run.masks.get(weight_name(layer, run.params))
        found[layer] = score if keep is None else score.masked_fill(~keep, -1.0)
    return found
