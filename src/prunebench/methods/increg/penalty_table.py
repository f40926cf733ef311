"""IncReg's penalties of all layers as one table, in which a step is a few dozen operations.

Formulas are in `increg_schedule.py`, sources and disagreements in `increg.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from prunebench.experiments.settings import Grows, NonNegative, Positive, Shrinks
from prunebench.methods.increg.columns import ColumnOptions, l1_norms, unit_shape
from prunebench.methods.increg.formulas import (
    averaged_rank,
    discontinuous_increments,
    norm_increments,
    ranks,
    stage_base,
    symmetric_increments,
)

Count = Annotated[int, Field(ge=1)]
FRONT = 1e6  # puts the ranks of pruned columns before all others, oldest first


class IncRegOptions(ColumnOptions):
    """Options of IncReg, with the defaults of [multi] and its ImageNet files."""

    # largest increment; None: the weight decay while pruning, in [scripts] within 2e-5 and 1e-3
    A: Positive | None = None
    A_scale: Annotated[Positive, Grows()] = 1.0  # times A; more in a shortened run
    # of A in each step, down to 1e-8; OneStage_ManyPrune: 0.9e-9
    A_decrease: Annotated[NonNegative, Grows(power=2)] = 0.0
    u: Annotated[float, Field(gt=0, lt=1)] = 0.25  # share of A at the centre of symmetry
    # constant: the control, the ceiling itself from the first step on those lowest before it
    growth: Literal["symmetric", "discontinuous", "norms", "constant"] = "symmetric"
    pivot: Literal["R", "R+1"] = "R"
    k2: Positive | None = None  # of scheme 2; None: max(0.75 progress, 0.05)
    ceiling: Positive = 2.5  # target_reg; [scripts]: 5, LeNet: 0.05
    ceiling_factor: Literal["staged", "none"] = "staged"
    # cap of pruning; None: 30 x ceiling / A
    max_steps: Annotated[Count | None, Shrinks()] = None
    # [scripts]: 5000, LeNet: 1000
    loss_eval_steps: Annotated[int, Field(ge=0), Shrinks()] = 20_000

    def largest_increment(self, weight_decay: float) -> float:
        """Return A, in a phase with this weight decay."""
        return self.A_scale * (weight_decay if self.A is None else self.A)


@dataclass(frozen=True)
class Layer:
    """A layer that is to lose columns.

    Attributes
    ----------
    weight
        Name of its parameter.
    kept
        bool (columns,): which are not pruned yet.
    goal
        Columns that are to be pruned in the end, those that are so already included.
    """

    weight: str
    kept: Tensor
    goal: int


def new_state(layers: list[Layer], like: Tensor, *, A: float, ceiling: float) -> dict[str, Any]:
    """Return the state before the first step, on the device and in the type of `like`.

    `penalty`, the averaged `rank`, bool `kept` and `chosen`, what `lowest` was when last looked at,
    are (layers, columns), with places behind short layers that no column has. `size`, `goal`,
    `start`, the numbers of columns, of those that are to be pruned and of those that were before,
    `stopped`, `row_share`, the share of filters without a reader, and `left_over`, the norms that
    columns still had when they were pruned, over the mean of the others, are (layers, 1).
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
    """The steps over a state that `new_state` made; everything it changes lies in there.

    Attributes
    ----------
    norms
        L1 norms of the columns, (layers, columns).
    views
        By weight, its rows of `penalty`, `norms` and `kept` in the shape that multiplies it.
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
        """Return by layer the norm of columns that stayed over that of those that left, then.

        Of layers that lost columns; at most 1e12, where what left had become zero.
        """
        count = self.gone - self.state["start"]
        ratios = count / self.state["left_over"].clamp(min=1e-12)
        return ratios[count > 0].clamp(max=1e12)

    def measure(self, params: Mapping[str, Tensor]) -> None:
        """Take the norms of the weights as they are."""
        for weight, (_, norms, _) in self.views.items():
            l1_norms(params[weight], self.options.unit, out=norms)

    def listed_norms(self) -> Tensor:
        """Return the norms, with pruned columns before all and places without one behind all."""
        return self.norms.masked_fill(~self.state["kept"], -1).masked_fill(~self.real, torch.inf)

    def listed_ranks(self) -> Tensor:
        """Return the averaged ranks, with places without a column behind all."""
        return self.state["rank"].masked_fill(~self.real, torch.inf)

    def lowest(self) -> Tensor:
        """Return which columns are pruned, or would be next by their averaged ranks."""
        return ranks(self.listed_ranks()) < self.state["goal"]

    def rank_first(self) -> None:
        """Rank by the norms of before the first step, whose own ranks replace these."""
        self.state["rank"].copy_(ranks(self.listed_norms()))
        self.state["chosen"].copy_(self.lowest())

    def hold_penalty(self, steps: int) -> Tensor:
        """Count a step; return the penalized columns after so many, none before."""
        self.state["iteration"] += 1
        due = (self.state["penalty"] > 0) & (self.state["iteration"] >= steps)
        return due & self.state["kept"]

    def grow(self) -> Tensor:
        """Update ranks and penalties; return which columns have reached the ceiling."""
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
        # Whatever overshoots, the column that stands highest stays.
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
        """Prune columns, then stop the layers that have lost enough.

        Notes how large the columns still were, against the mean of those that stay behind.
        """
        self.state["kept"] &= ~reached
        kept = self.norms * self.state["kept"]
        mean = kept.sum(dim=1, keepdim=True) / self.state["kept"].sum(dim=1, keepdim=True)
        self.state["left_over"] += (self.norms * reached / mean).sum(dim=1, keepdim=True)
        self.stop(self.gone >= self.state["goal"])

    def stop(self, layers: Tensor) -> None:
        """Stop layers, bool (layers, 1); what is left in them loses its penalty at once."""
        self.state["stopped"] |= layers
        self.state["penalty"].masked_fill_(self.state["stopped"] & self.state["kept"], 0)
