"""Pruning of columns and rows of convolutions, and its one-shot form, the method `l1_columns`.

A weight (c_out, c_in / groups, k_h, k_w) is a matrix of c_out rows, as in im2col. Each column is
one input channel at one position of the kernel; with groups, it is the same one in every group.
Pruned columns become zeros, which shorten the im2col product in theory only. A dense library gains
when all columns of an input channel are pruned in every layer that reads it: then nothing reads the
filter that produces the channel, and it is removed, which changes no output. A row is a filter. A
coupled channel is removed once all of its filters are pruned, and with it the constant that biases
and batch norm make of zeros.

Source of `l1_columns`: the script repository of IncReg's first author (MingSun-Tse/Scripts). The
ceil(r K) of a layer's K columns with the smallest mean |w| become zero, at the ratios that IncReg
uses, and the network is fine-tuned. With `unit: row`, the same is done to filters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.channels.removal import slice_tensor, slicing
from prunebench.channels.selections import select_layers
from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.methods.allocation import counted, lowest, pruned_count, shortest_prefix
from prunebench.methods.base import (
    Method,
    MethodOptions,
    Ratio,
    Rule,
    Run,
    by_pattern,
    out_of_reach,
)
from prunebench.methods.increg.layer_ratios import (
    pca_errors,
    redundancy_scores,
    weighted_ratios,
    worth_pruning,
)

ColumnOrRow = Literal["column", "row"]


class ColumnOptions(MethodOptions):
    """Options of methods that prune columns or rows."""

    unit: ColumnOrRow = Field(
        "column", description="Units that are pruned: column (default) or row, a filter."
    )
    layers: tuple[Rule, ...] = Field(
        ("convolutions",),
        description="Rules that select the pruned convolutions (default: all; the released list of "
        "VGG-16 leaves out the stem, a later note of the author also the last one).",
    )
    roles: tuple[Rule, ...] = Field(
        ("stem", "inside"),
        description="Groups, as selection rules, whose units are removed once nothing reads them; "
        "none: nothing is removed (the author's scripts). The released code leaves out layers with "
        "several producers or readers; here every reader is checked.",
    )
    layer_rule: Literal["redundancy", "uniform"] | dict[str, Ratio] = Field(
        "redundancy",
        description="Ratios of the layers for ratio_kind macs and params. redundancy (default): "
        "IncReg's rule of computation and PCA error; uniform: the same ratio for all; a "
        "dictionary: these ratios by pattern of layers times one common factor, where the first "
        "match counts and none means 0. The rule is linear, so the author's list for 2x serves "
        "every target.",
    )
    count_linear: bool = Field(
        True,
        description="Whether ratio_kind macs counts linear layers, which are not pruned (default: "
        "yes); false: convolutions only, as printed.",
    )


C = TypeVar("C", bound=ColumnOptions)


def unit_shape(weight: Tensor, unit: ColumnOrRow) -> tuple[int, ...]:
    """Return the shape of one number per unit that broadcasts over the weight.

    >>> unit_shape(torch.zeros(8, 4, 3, 3), "column"), unit_shape(torch.zeros(8, 4, 3, 3), "row")
    ((1, 4, 3, 3), (8, 1, 1, 1))
    """
    return (1, *weight.shape[1:]) if unit == "column" else (len(weight), *[1] * (weight.ndim - 1))


def unit_count(weight: Tensor, unit: ColumnOrRow) -> int:
    """Return the number of units of a weight."""
    return math.prod(unit_shape(weight, unit))


def unit_dims(weight: Tensor, unit: ColumnOrRow) -> tuple[int, ...]:
    """Return the dimensions over which a unit extends."""
    return (0,) if unit == "column" else tuple(range(1, weight.ndim))


def l1_norms(weight: Tensor, unit: ColumnOrRow, out: Tensor | None = None) -> Tensor:
    """Return the sum of |w| of each unit, in the shape of `unit_shape`.

    >>> l1_norms(torch.tensor([[1.0, -2.0], [3.0, 4.0]]), "column")
    tensor([[4., 6.]])
    """
    # Several times faster than vector_norm if the kernel's positions are not contiguous.
    return torch.sum(weight.detach().abs(), unit_dims(weight, unit), keepdim=True, out=out)


def count_to_prune(n_units: int, ratio: float) -> int:
    """Return ceil(ratio n_units), but at most n_units - 1.

    This is the smallest count whose share is at least the ratio, at which a layer stops: 7 of 25
    at 0.28, although the floating-point product exceeds 7.

    >>> count_to_prune(576, 0.5), count_to_prune(9, 0.5), count_to_prune(25, 0.28)
    (288, 5, 7)
    """
    count = pruned_count(n_units, ratio)
    return count - 1 if count and (count - 1) / n_units >= ratio else count


def units_unused(
    group: ChannelGroup, kept: Mapping[str, Tensor], role: Literal["in", "out"]
) -> Tensor:
    """Return the bool mask, (units,), of a group's units without weights in all members of a role.

    `kept` has a bool tensor by weight that broadcasts to the weight's shape; True is kept. A weight
    without one is kept entirely. At least one unit is reported as used.
    """
    members = [member for member in group.members if member.role == role]
    if not members or not all(member.parameters[0] in kept for member in members):
        return torch.zeros(group.n_units, dtype=torch.bool)
    masks = [kept[m.parameters[0]].movedim(m.dim, 0).flatten(1).any(dim=1) for m in members]
    places = [m.index.to(mask.device) for m, mask in zip(members, masks, strict=True)]
    used = [mask[index].any(dim=1) for mask, index in zip(masks, places, strict=True)]
    anywhere = torch.stack(used).any(dim=0)
    anywhere[0] |= ~anywhere.any()
    return ~anywhere


class ColumnMethod(Method[C]):
    """Base class of methods that prune columns or rows of convolutions."""

    stops_at_target: ClassVar[bool] = False  # when the target in MACs or parameters is met
    ratio_kinds: ClassVar[tuple[str, ...]] = ("units_per_group", "macs", "params", "auto")
    rounds_widths = False  # the columns that are left decide the widths

    def layers(self, run: Run) -> dict[str, str]:
        """Return the weight of each convolution that may lose units, by path, in network order.

        Transposed convolutions are left out: they have no columns of an im2col product.
        """
        return {
            path: weight
            for weight in select_layers(run.graph, self.options.layers)
            for path in [weight.rpartition(".")[0]]
            if _is_convolution(run, weight)
            and not isinstance(run.model.get_submodule(path), nn.modules.conv._ConvTransposeNd)
        }

    def chooses_widths(self, kind: RatioKind) -> bool:
        """Return True for rows: columns mostly stay as zeros."""
        return self.options.unit == "row"

    def zeroed_weights(self, run: Run) -> list[str] | None:
        """Return the weights of the pruned convolutions."""
        return list(self.layers(run).values())

    def layer_shares(self, run: Run, budget: Budget) -> dict[str, float]:
        """Return the share of units that each layer loses, by path."""
        layers = self.layers(run)
        if budget.kind == "auto":
            return {path: self.options.layer_ratio(path) for path in layers}
        assert budget.ratio is not None
        if budget.kind == "units_per_group":
            return dict.fromkeys(layers, budget.ratio)
        shares = self.shares_for(run, layers, budget)
        is_exact = self.stops_at_target and self.options.unit == "column"
        return shares if is_exact or not budget.ratio else self.scaled(run, shares, budget)

    def check_reach(self, run: Run, budget: Budget) -> None:
        """Leave it to the first phase, which finds the ratios of the layers before it trains."""

    def counted_macs(self, run: Run) -> dict[str, int]:
        """Return the MACs, by weight, of the layers that ratio_kind macs counts."""
        macs = run.costs.layer_macs()
        if self.options.count_linear:
            return macs
        return {weight: own for weight, own in macs.items() if _is_convolution(run, weight)}

    def counted_costs(self, run: Run, budget: Budget) -> dict[str, int]:
        """Return what the ratio counts, MACs by weight or the sizes of all parameters."""
        if budget.kind == "macs":
            return self.counted_macs(run)
        return {name: run.params[name].numel() for name in run.graph.trainable}

    def shares_for(self, run: Run, layers: Mapping[str, str], budget: Budget) -> dict[str, float]:
        """Return ratios of the layers that together save the budget's ratio.

        TrainingError if a layer would lose all of its units, or if there are no layers.
        """
        ratio = budget.ratio
        if not ratio:
            return dict.fromkeys(layers, 0.0)
        if not layers:
            raise TrainingError(
                f"phase {run.phase.name!r}: the rules {list(self.options.layers)} of `layers` "
                f"select no convolution, so a ratio {ratio} of {budget.kind} cannot be saved"
            )
        whole, macs = self.counted_costs(run, budget), self.counted_macs(run)
        saved, costs = ratio * sum(whole.values()), {p: whole[w] for p, w in layers.items()}
        if self.options.layer_rule == "uniform":
            found = dict.fromkeys(layers, saved / sum(costs.values()))
        elif self.options.layer_rule != "redundancy":
            found = self.listed_shares(run, costs, saved)
        else:
            total = sum(own for weight, own in macs.items() if _is_convolution(run, weight))
            own_macs = {path: macs[weight] for path, weight in layers.items()}
            worth = worth_pruning(own_macs, total)
            errors = [pca_errors(run.params[layers[path]].flatten(1)) for path in worth]
            scores = redundancy_scores(torch.stack(errors))
            weighted = weighted_ratios(
                [own_macs[path] for path in worth],
                total,
                scores,
                saved,
                [costs[path] for path in worth],
            )
            found = dict.fromkeys(layers, 0.0) | dict(zip(worth, weighted, strict=True))
        most = max(found, key=lambda path: found[path])
        if found[most] >= 1:
            limit = (
                f"with all {self.options.unit}s of {most!r} pruned; use a smaller ratio, more "
                "`layers` or another layer_rule"
            )
            raise out_of_reach(run, budget, ratio / found[most], limit)
        return found

    def listed_shares(self, run: Run, macs: Mapping[str, int], saved: float) -> dict[str, float]:
        """Return the ratios listed in `layer_rule` times the factor with which they save `saved`.

        TrainingError if all layers have ratio 0.
        """
        listed = self.options.layer_rule
        assert not isinstance(listed, str)
        shares = {path: by_pattern(listed, path, 0.0) for path in macs}
        at_once = sum(share * macs[path] for path, share in shares.items())
        if not at_once:
            raise TrainingError(
                f"phase {run.phase.name!r}: the patterns {list(listed)} of `layer_rule` give none "
                f"of {len(macs)} layers a ratio above 0"
            )
        return {path: share * saved / at_once for path, share in shares.items()}

    def scaled(self, run: Run, shares: Mapping[str, float], budget: Budget) -> dict[str, float]:
        """Return shares in the same proportions that meet the budget, to within a unit.

        The rule counts only what a layer loses itself. Removed filters shrink the next or previous
        layers too, so smaller shares suffice.
        """
        assert budget.ratio is not None
        sizes = {
            path: unit_count(run.params[weight], self.options.unit)
            for path, weight in self.layers(run).items()
        }
        times = [
            (k / (sizes[path] * share), layer, path)
            for layer, (path, share) in enumerate(shares.items())
            if share
            for k in range(1, sizes[path])
        ]
        whole = sum(self.counted_costs(run, budget).values())
        goal = (1 - budget.ratio) * whole

        def after(counts: Mapping[str, int]) -> dict[str, float]:
            return {path: counts.get(path, 0) / sizes[path] for path in shares}

        def left(counts: Mapping[str, int]) -> float:
            return self.cost_after(run, self.lowest_plan(run, after(counts)), budget)

        order = [path for *_, path in sorted(times)]
        try:
            counts = shortest_prefix(order, lambda counts: left(counts) <= goal)
        except ValueError:
            unit, n = self.options.unit, len(set(order))
            limit = f"with one {unit} left in each of {n} layers; use a smaller ratio or more "
            raise out_of_reach(
                run, budget, 1 - left(counted(order)) / whole, f"{limit}`layers`"
            ) from None
        return after(counts)

    def cost_after(self, run: Run, plan: Plan, budget: Budget) -> float:
        """Return the counted MACs or parameters that remain after a plan."""
        return self.macs_after(run, plan) if budget.kind == "macs" else params_after(run, plan)

    def macs_after(self, run: Run, plan: Plan) -> float:
        """Return the counted MACs that remain after a plan; zeroed weights count nothing."""
        left = {g: run.graph.groups[g].n_units - len(units) for g, units in plan.removed.items()}
        macs, cuts = run.costs.layer_macs(left), slicing(run.graph, plan.removed)
        kept = {
            weight: float(slice_tensor(mask, cuts.get(weight, [])).double().mean())
            for weight, mask in plan.zeroed.items()
        }
        return sum(macs[weight] * kept.get(weight, 1.0) for weight in self.counted_macs(run))

    def lowest_plan(self, run: Run, shares: Mapping[str, float]) -> Plan:
        """Return the plan that prunes the units with the smallest L1 norms of each layer."""
        layers, kept = self.layers(run), {}
        for path, share in shares.items():
            norms = l1_norms(run.params[layers[path]], self.options.unit).flatten()
            units = torch.ones_like(norms, dtype=torch.bool)
            units[lowest(norms, count_to_prune(len(norms), share)).to(units.device)] = False
            kept[layers[path]] = units
        return self.plan(run, kept)

    def kept_before(self, run: Run, weight: str) -> Tensor:
        """Return the bool mask, (units,), of a layer's units that are not yet zeroed."""
        tensor, mask = run.params[weight], run.masks.get(weight)
        if mask is None:
            mask = torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
        return (
            mask.any(dim=0).flatten() if self.options.unit == "column" else mask.flatten(1).any(1)
        )

    def plan(self, run: Run, kept: Mapping[str, Tensor]) -> Plan:
        """Return the plan that zeroes units that are not kept and removes unused channels.

        `kept` has a bool tensor (units,) by weight; layers without one do not change.
        """
        zeroed = {}
        for weight, units in kept.items():
            if not units.all():
                shape = unit_shape(run.params[weight], self.options.unit)
                zeroed[weight] = units.view(shape).expand(run.params[weight].shape)
        removed = {
            name: unused.nonzero()[:, 0].cpu()
            for name, unused in self.unused(run, {**run.masks, **zeroed}).items()
            if unused.any()
        }
        return Plan(removed=removed, zeroed=zeroed)

    def unused(self, run: Run, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return, by group, the mask of units that no column reads, or that no row produces."""
        role: Literal["in", "out"] = "in" if self.options.unit == "column" else "out"
        return {
            name: units_unused(group, kept, role) for name, group in self.candidates(run).items()
        }


def params_after(run: Run, plan: Plan) -> int:
    """Return the parameters that remain after a plan and are not masked."""
    left = {g: run.graph.groups[g].n_units - len(units) for g, units in plan.removed.items()}
    cuts = slicing(run.graph, plan.removed)
    masks = {**run.masks, **plan.zeroed}
    zeros = sum(int((~slice_tensor(m, cuts.get(w, []))).sum()) for w, m in masks.items())
    return run.costs.params(left) - zeros


def _is_convolution(run: Run, weight: str) -> bool:
    return weight in run.params and run.params[weight].ndim > 2


class L1Columns(ColumnMethod[ColumnOptions]):
    """Zero the columns with the smallest mean absolute weight of their layer, then fine-tune."""

    summary = "one-shot: im2col columns with the smallest mean |w| (IncReg's control)"
    Options = ColumnOptions

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the plan for the lowest columns of each layer; sums of |w| rank as means do."""
        return self.lowest_plan(run, self.layer_shares(run, budget))
