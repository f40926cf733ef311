"""IncReg's options, and the penalties of all layers in one table.

A table makes a step a few dozen tensor operations, whatever the number of layers. The formulas are
in `formulas`, sources and disagreements between them in `to_ratios`, with the abbreviations [one],
[multi] and [scripts].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from prunebench.experiments.settings import Count, Grows, NonNegative, Positive, Shrinks
from prunebench.methods.increg.columns import ColumnOptions, l1_norms, unit_shape
from prunebench.methods.increg.formulas import (
    averaged_rank,
    discontinuous_increments,
    norm_increments,
    ranks,
    stage_base,
    symmetric_increments,
)

FRONT = 1e6  # subtracted from ranks of pruned columns, so that they precede all others


class IncRegOptions(ColumnOptions):
    """Options of IncReg, with the defaults of [multi] and its ImageNet files."""

    A: Positive | None = Field(
        None,
        description="Largest increment of a penalty per step (default: the weight decay while "
        "pruning; the author's scripts clip it to 2e-5 to 1e-3).",
    )
    A_scale: Annotated[Positive, Grows()] = Field(
        1.0, description="Factor of A; it grows in a shortened run."
    )
    A_decrease: Annotated[NonNegative, Grows(power=2)] = Field(
        0.0,
        description="Decrease of A in each step, down to 1e-8 (default: none; OneStage_ManyPrune: "
        "0.9e-9).",
    )
    u: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25,
        description="Increment at the center of symmetry, as a fraction of A (default: fixed in "
        "the code).",
    )
    growth: Literal["symmetric", "discontinuous", "norms", "constant"] = Field(
        "symmetric",
        description="Increments of the penalties. symmetric (default): scheme 1, by rank; "
        "discontinuous: scheme 2, by rank (the author's scripts); norms: by L1 norm (one-stage "
        "branch); constant: the control, in which the columns that are lowest at first get the "
        "ceiling as their penalty from the first step on.",
    )
    pivot: Literal["R", "R+1"] = Field(
        "R",
        description="Rank at which the increment is 0 (default: multi-stage branch; one-stage: "
        "R+1).",
    )
    k2: Positive | None = Field(
        None,
        description="Base k2 of scheme 2 (default: max(0.75 progress, 0.05), multi-stage branch; "
        "one-stage: 0.1).",
    )
    ceiling: Positive = Field(
        2.5,
        description="Penalty at which a column is pruned, before `ceiling_factor`; the code's "
        "target_reg (default: multi-stage branch on ImageNet; the author's scripts: 5, LeNet: "
        "0.05).",
    )
    ceiling_factor: Literal["staged", "none"] = Field(
        "staged",
        description="Factor of the ceiling. staged (default, multi-stage branch): m(x), up to a "
        "ceiling of 10; none (one-stage): 1.",
    )
    max_steps: Annotated[Count | None, Shrinks()] = Field(
        None, description="Largest number of steps of pruning (default: 30 x ceiling / A)."
    )
    loss_eval_steps: Annotated[int, Field(ge=0), Shrinks()] = Field(
        20_000,
        description="Steps of ordinary training between pruning and retraining (default: "
        "multi-stage branch on ImageNet; the author's scripts: 5000, LeNet: 1000).",
    )

    def largest_increment(self, weight_decay: float) -> float:
        """Return A times `A_scale`, in a phase with this weight decay."""
        return self.A_scale * (weight_decay if self.A is None else self.A)


@dataclass(frozen=True)
class PrunedLayer:
    """A layer that will lose columns.

    Attributes
    ----------
    weight
        Name of the layer's weight.
    kept
        Bool mask, (columns,), of the columns that are not pruned yet.
    goal
        Number of pruned columns at the end, including those that are pruned already.
    """

    weight: str
    kept: Tensor
    goal: int


def new_state(
    layers: list[PrunedLayer], like: Tensor, *, A: float, ceiling: float
) -> dict[str, Any]:
    """Return the state before the first step, on the device and in the type of `like`.

    These tensors have the shape (layers, columns), with padding at the end of short rows:
    `penalty`; `rank`, the averaged rank; `kept`, bool; and `chosen`, bool, the result of
    `PenaltyTable.lowest` at the last logging.

    These have the shape (layers, 1): `size`, `goal` and `start`, the numbers of columns, of columns
    to prune, and of columns pruned at the start; `stopped`, bool; `row_share`, the share of filters
    that nothing reads; and `left_over`, the sum over pruned columns of their norm when they were
    pruned, relative to the mean norm of the kept columns.
    """
    width, device = max((len(layer.kept) for layer in layers), default=1), like.device
    counts = [[len(own.kept), own.goal, int((~own.kept).sum())] for own in layers]
    numbers = torch.tensor(counts, device=device).reshape(-1, 3)
    kept = torch.zeros(len(layers), width, dtype=torch.bool, device=device)
    for row, layer in enumerate(layers):
        kept[row, : len(layer.kept)] = layer.kept
    return {
        "layers": [layer.weight for layer in layers],
        "penalty": like.new_zeros(kept.shape),
        "rank": torch.zeros(kept.shape, dtype=torch.float64, device=device),
        "kept": kept,
        "chosen": torch.zeros_like(kept),
        "size": numbers[:, 0:1].clone(),
        "goal": numbers[:, 1:2].clone(),
        "start": numbers[:, 2:3].clone(),
        "stopped": torch.zeros(len(layers), 1, dtype=torch.bool, device=device),
        "row_share": torch.zeros(len(layers), 1, dtype=torch.float64, device=device),
        "left_over": like.new_zeros(len(layers), 1),
        "iteration": torch.zeros((), dtype=torch.float64, device=device),
        "A": like.new_tensor(A),
        "ceiling": like.new_tensor(ceiling),
    }


class PenaltyTable:
    """Operations on a state made by `new_state`; all that must be saved is in that state.

    Attributes
    ----------
    norms
        L1 norms of the columns, (layers, columns).
    real
        Bool mask, (layers, columns), False in the padding.
    views
        By weight, views of its row of `penalty`, `norms` and `kept`, which broadcast over it.
    """

    def __init__(
        self, state: dict[str, Any], options: IncRegOptions, params: Mapping[str, Tensor]
    ) -> None:
        self.options = options
        self.state: dict[str, Tensor] = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        self.norms = torch.zeros_like(state["penalty"])
        places = torch.arange(self.norms.shape[1], device=self.norms.device)
        self.real = places < state["size"]
        self.views: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for row, weight in enumerate(state["layers"]):
            shape = unit_shape(params[weight], options.unit)
            penalty, norms, kept = (
                table[row, : math.prod(shape)].view(shape)
                for table in (state["penalty"], self.norms, state["kept"])
            )
            self.views[weight] = (penalty, norms, kept)

    @property
    def gone(self) -> Tensor:
        """Return the number of pruned columns of each layer, (layers, 1)."""
        return self.state["size"] - self.state["kept"].sum(dim=1, keepdim=True)

    def magnitude_ratios(self) -> Tensor:
        """Return the norm of kept over that of pruned columns when these were pruned.

        One value for each layer that lost columns; at most 1e12, if pruned columns were zero.
        """
        count = self.gone - self.state["start"]
        ratios = count / self.state["left_over"].clamp(min=1e-12)
        return ratios[count > 0].clamp(max=1e12)

    def measure(self, params: Mapping[str, Tensor]) -> None:
        """Update `norms` from the current weights."""
        for weight, (_, norms, _) in self.views.items():
            l1_norms(params[weight], self.options.unit, out=norms)

    def listed_norms(self) -> Tensor:
        """Return the norms with pruned columns before and padding behind all others."""
        return self.norms.masked_fill(~self.state["kept"], -1).masked_fill(~self.real, torch.inf)

    def listed_ranks(self) -> Tensor:
        """Return the averaged ranks with padding behind all columns."""
        return self.state["rank"].masked_fill(~self.real, torch.inf)

    def lowest(self) -> Tensor:
        """Return the mask of columns that are pruned or lowest by averaged rank, up to the goal."""
        return ranks(self.listed_ranks()) < self.state["goal"]

    def rank_first(self) -> None:
        """Set the ranks to those of the initial norms; the first step replaces them."""
        self.state["rank"].copy_(ranks(self.listed_norms()))
        self.state["chosen"].copy_(self.lowest())

    def hold_penalty(self, steps: int) -> Tensor:
        """Count a step; return the mask of penalized columns after `steps` steps, none before."""
        self.state["iteration"] += 1
        due = (self.state["penalty"] > 0) & (self.state["iteration"] >= steps)
        return due & self.state["kept"]

    def grow(self) -> Tensor:
        """Update ranks and penalties; return the mask of columns that have reached the ceiling."""
        state, penalty, gone = self.state, self.state["penalty"], self.gone
        live = state["kept"] & ~state["stopped"]
        state["iteration"] += 1
        norms = self.listed_norms()
        mean = averaged_rank(state["rank"], ranks(norms), state["iteration"])
        state["rank"].copy_(torch.where(live, mean, state["rank"]))
        position = ranks(self.listed_ranks()) - gone
        grown = (penalty + self.increments(position, gone, norms)).clamp(min=0)
        penalty.copy_(torch.where(live, grown, penalty))
        if self.options.A_decrease:
            floor = state["A"].clamp(max=1e-8)
            state["A"].copy_(torch.maximum(state["A"] - self.options.A_decrease, floor))
        # However many columns reach the ceiling, the one with the highest rank stays.
        reached = live & (penalty >= state["ceiling"]) & (position < state["size"] - gone - 1)
        front = state["iteration"] - FRONT - (penalty - state["ceiling"])
        state["rank"].copy_(torch.where(reached, front, state["rank"]))
        return reached

    def increments(self, position: Tensor, gone: Tensor, norms: Tensor) -> Tensor:
        """Return the change of each penalty, (layers, columns)."""
        state, options = self.state, self.options
        R, A, place = state["goal"] - gone, state["A"], position.to(norms.dtype)
        match options.growth:
            case "discontinuous":
                done = (gone - state["start"]) / (state["goal"] - state["start"])
                k2 = stage_base(done).to(norms.dtype) if options.k2 is None else options.k2
                return discontinuous_increments(place, R, state["size"] - gone, A, k2)
            case "norms":
                ordered = norms.sort(dim=1).values
                lowest = ordered.gather(1, gone.clamp(max=norms.shape[1] - 1))
                return norm_increments(norms, lowest, ordered.gather(1, state["goal"]), A)
            case _:
                pivot = (R + (options.pivot == "R+1")).to(norms.dtype)
                return symmetric_increments(place, pivot, A, options.u)

    def prune(self, reached: Tensor) -> None:
        """Prune columns, then stop the layers that have reached their goal.

        Records how large the columns still were relative to the mean of the kept ones.
        """
        self.state["kept"] &= ~reached
        kept = self.norms * self.state["kept"]
        mean = kept.sum(dim=1, keepdim=True) / self.state["kept"].sum(dim=1, keepdim=True)
        self.state["left_over"] += (self.norms * reached / mean).sum(dim=1, keepdim=True)
        self.stop(self.gone >= self.state["goal"])

    def stop(self, layers: Tensor) -> None:
        """Stop layers, bool (layers, 1); their kept columns lose their penalty at once."""
        self.state["stopped"] |= layers
        self.state["penalty"].masked_fill_(self.state["stopped"] & self.state["kept"], 0)
