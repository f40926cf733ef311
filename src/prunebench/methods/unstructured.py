"""Unstructured pruning: masks of single weights, which leave every layer's shape unchanged.

A unit is one entry of a convolution's weight, and of a linear layer's if the option `layers`
includes these; biases and batch norm are never pruned. Layers are named by their paths. A method
returns masks (`Plan.zeroed`), which the training loop applies after every step. Sparsity and
theoretical multiply-accumulates are counted from the masks; a latency is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from prunebench.channels.groups import ChannelGraph, MemberRole
from prunebench.channels.plan import Plan
from prunebench.channels.selections import select_layers
from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget
from prunebench.methods.allocation import pruned_count
from prunebench.methods.base import MethodOptions, Rule, Run


class WeightOptions(MethodOptions):
    """Options of methods that can also prune input channels or single weights."""

    unit: Literal["filter", "channel", "weight"] = Field(
        "filter",
        description="Unit of pruning: filters, input channels, or single weights. With weight, "
        "the patterns of `layer_ratios` match layers, and `roles` is unused.",
    )
    layers: tuple[Rule, ...] = Field(
        ("convolutions",),
        description="Layers pruned with unit weight, as selection rules. GReg's unstructured "
        "pruning takes all but the stem: [convolutions, linear, not stem].",
    )

    @model_validator(mode="after")
    def _widths_are_of_groups(self) -> WeightOptions:
        for name, is_given in {
            "widths_from": self.widths_from is not None,
            "round_to": self.round_to > 1,
        }.items():
            if self.unit == "weight" and is_given:
                raise ValueError(f"{name} does not go with unit 'weight', which keeps all widths")
        return self


def check_unit(options: WeightOptions, budget: Budget) -> None:
    """Raise ValueError if the kind of ratio does not count the option's units."""
    is_weights = options.unit == "weight"
    if budget.kind != "auto" and (budget.kind == "weights") != is_weights:
        raise ValueError(f"unit {options.unit!r} does not go with ratio_kind {budget.kind!r}")


def member_role(options: WeightOptions) -> MemberRole:
    """Return the role of the members that hold a unit's weights: "in" for input channels."""
    return "in" if options.unit == "channel" else "out"


def weight_layers(graph: ChannelGraph, options: WeightOptions) -> dict[str, str]:
    """Return the names of the weights to prune, by path of the layer, in network order."""
    chosen = select_layers(graph, options.layers)
    return {w.removesuffix(".weight"): w for w in chosen if w in graph.trainable}


def zeroed_layers(run: Run, options: WeightOptions) -> list[str] | None:
    """Return the pruned weights for unit "weight"; None for filters and input channels."""
    return list(weight_layers(run.graph, options).values()) if options.unit == "weight" else None


def weight_name(layer: str, names: Container[str]) -> str:
    """Return the parameter's name of a layer from `weight_layers`; `names` are all parameters."""
    return f"{layer}.weight" if f"{layer}.weight" in names else layer


def smallest(scores: Tensor, count: int) -> Tensor:
    """Return a bool mask of the scores' shape, True for the `count` smallest.

    Ties go to the lower index. The CPU does not synchronize with the GPU.

    >>> smallest(torch.tensor([[3.0, 1.0], [1.0, 2.0]]), 1)
    tensor([[False,  True],
            [False, False]])
    """
    order = torch.argsort(scores.flatten(), stable=True)
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    chosen[order[:count]] = True
    # in the memory format of the scores, so that masks match weights in channels-last
    return torch.empty_like(scores, dtype=torch.bool).copy_(chosen.view(scores.shape))


def weight_counts(
    scores: Mapping[str, Tensor], budget: Budget, options: MethodOptions
) -> dict[str, int]:
    """Return how many weights to prune in each layer; one always stays.

    With `layer_ratios` or the uniform allocation, ceil(ratio n) of a layer's n weights, rounded as
    in GReg's code. With the global allocation, floor(ratio N) of all N weights, ranked together;
    the largest of each layer stays.

    Raises
    ------
    TrainingError
        If the ratio exceeds all but one weight of each layer, or a score is not finite.
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
    """Return how many of each layer's scores are among the floor(ratio N) smallest of all N.

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
    """Return a plan that zeroes the entries True in `pruned`, by layer, of the weight's shape."""
    return Plan(zeroed={weight_name(layer, names): ~entries for layer, entries in pruned.items()})


def without_masked(run: Run, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores by layer, with those of masked weights below all others."""
    found = {}
    for layer, score in scores.items():
        keep = run.masks.get(weight_name(layer, run.params))
        found[layer] = score if keep is None else score.masked_fill(~keep, -1.0)
    return found
