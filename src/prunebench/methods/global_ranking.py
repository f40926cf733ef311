"""Global ranking of the units of all layers, with OrthoReg's ways of counting as options.

Source: official code of Lubana et al., arXiv 2009.05014. It counts and protects units differently
for each network. Each rule is an option here, off by default, that an experiment switches on:

- VGG-13: `roles: [stem, inside]`, `protected_share: 0.05`.
- MobileNet-V1: the same and `count: channels`.
- ResNet-34: `zeroed: [last, shortcut]`, `targets: percent`. Every filter is ranked; a layer that
  would lose all of them keeps its best one, and nothing is removed in its place, so a round can
  remove fewer filters than it chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from prunebench.channels.groups import ChannelGroup, Member
from prunebench.channels.plan import Plan
from prunebench.channels.selections import select_layers
from prunebench.channels.single_layers import convolutions, entry_mask, norms_behind
from prunebench.channels.unit_weights import bias_name
from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import Budget
from prunebench.methods.base import Method, MethodOptions, Ratio, Rule, Run, check_scores


class RankingOptions(MethodOptions):
    """Options for ratio_kind units_global; they are not allowed with other kinds."""

    count: Literal["units", "channels"] = Field(
        "units",
        description="The population that a ratio refers to. units: of all ranked groups; channels: "
        "of every convolution, so that a unit read by a depthwise convolution counts twice, as a "
        "channel of both layers (OrthoReg's MobileNet-V1).",
    )
    targets: Literal["exact", "percent"] = Field(
        "exact",
        description="Target of a round. exact: remove floor(ratio x present units), and the next "
        "unit of the ranking in place of a layer's most important one; percent (OrthoReg's "
        "ResNet-34): round the remaining percentage p down in each round, choose the lowest "
        "floor(present units - p percent of the first number of units), and keep the most "
        "important unit of a layer that would lose all.",
    )
    protected_share: Ratio | None = Field(
        None,
        description="Fraction s of a layer's first width: floor(s x width) + 1 units, those of the "
        "highest indices, are never removed (OrthoReg: 0.05); null: the most important unit of "
        "each layer is kept.",
    )
    zeroed: tuple[Rule, ...] = Field(
        (),
        description="Convolutions, as selection rules, that are ranked too but each on its own: "
        "chosen filters are set to zero, with scale and shift of batch norm. For layers whose "
        "channels a residual sum couples to others (OrthoReg's ResNet-34). If given, all "
        "convolutions count towards the population.",
    )

    @model_validator(mode="after")
    def _zeroed_filters_keep_widths(self) -> Self:
        if self.zeroed and self.round_to > 1:
            raise ValueError("round_to does not go with `zeroed`, whose layers keep all widths")
        return self


O = TypeVar("O", bound=RankingOptions)  # noqa: E741


def protected_count(first_width: int, share: float) -> int:
    """Return how many units of a layer are never removed.

    >>> [protected_count(n, 0.05) for n in (32, 64, 128, 256, 512, 1024)]
    [2, 4, 7, 13, 26, 52]
    """
    return int(share * first_width) + 1


def left_after(population: int, ratios: Sequence[float]) -> int:
    """Return how many units remain if each round removes floor(ratio x present).

    Each round may leave one unit more than the exact ratio would.

    >>> left_after(2944, [1 / 3]), left_after(2944, [1 / 3, 1 / 4])
    (1963, 1473)
    """
    for ratio in ratios:
        population -= int(ratio * population)
    return population


def percent_after(ratios: Sequence[float]) -> int:
    """Return the remaining percentage, rounded down to an integer in each round.

    >>> percent_after([1 / 3]), percent_after([1 / 3, 1 / 4])
    (66, 49)
    """
    percent = 100
    for ratio in ratios:
        percent = int(percent * (1 - ratio))
    return percent


def removed_to_percent(first: int, present: int, percent: int) -> int:
    """Return how many of `present` units to remove if `percent` of the `first` ones are kept.

    The number removed is rounded down, not the number kept.

    >>> removed_to_percent(512, 512, 66), removed_to_percent(8512, 8512, 66)
    (174, 2894)
    """
    return present + -percent * first // 100


def free_units(scores: Tensor, gone: Tensor, protected: int | None) -> Tensor:
    """Return the units of a layer that are ranked, int64, ascending.

    Parameters
    ----------
    scores, gone
        (units,) each; units in `gone` are still present but zero.
    protected
        Number of units kept, those of the highest indices; 0: the most important unit is kept;
        None: no unit, all are ranked.

    >>> free_units(torch.tensor([3.0, 5.0, 1.0]), torch.tensor([False, False, True]), 0)
    tensor([0])
    """
    free = ~gone
    if protected:
        free[max(0, len(free) - protected) :] = False
    elif protected is not None and free.any():
        free[torch.argsort(scores.masked_fill(gone, -torch.inf), stable=True)[-1]] = False
    return free.nonzero()[:, 0]


@dataclass(frozen=True)
class Ranked:
    """A layer whose units are ranked together with all others.

    Attributes
    ----------
    first_width
        Units at the start of the run.
    gone
        Bool (units,), True for units that are zero already.
    weight
        How often each unit counts.
    zeroed
        Whether chosen units are set to zero instead of removed.
    """

    group: ChannelGroup
    first_width: int
    gone: Tensor
    weight: int = 1
    zeroed: bool = False


class GlobalRanking(Method[O]):
    """A method that ranks globally for ratio_kind units_global."""

    def run_revision(self, budget: Budget) -> int:
        """Return one more than `revision` for targets "percent", whose counts have changed."""
        return self.revision + (self.options.targets == "percent")

    def check(self, budget: Budget) -> None:
        """Raise ValueError if options and the kind of ratio do not go together."""
        for name, field in RankingOptions.model_fields.items():
            is_own = name not in MethodOptions.model_fields
            value = getattr(self.options, name)
            if is_own and value != field.default and budget.kind != "units_global":
                raise ValueError(
                    f"{name} {value!r} goes with ratio_kind 'units_global', not {budget.kind!r}"
                )

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the lowest units of all layers for units_global; otherwise as any method."""
        if budget.kind != "units_global" or run.source_kept is not None:
            return super().select(run, budget)
        layers = self.ranked(run)
        groups = {name: layer.group for name, layer in layers.items()}
        scores = self.score(run, groups)
        check_scores(self, groups, scores)
        chosen = self.lowest_of_all(run, layers, scores, self.goal(run, budget, layers))
        removed = {n: units for n, units in chosen.items() if len(units) and not layers[n].zeroed}
        zeroed: dict[str, Tensor] = {}
        for name, units in chosen.items():
            if len(units) and layers[name].zeroed:
                zeroed |= filter_masks(run, layers[name], units)
        return Plan(removed=removed, zeroed=zeroed)

    def check_reach(self, run: Run, budget: Budget) -> None:
        """Leave units_global to the ranking, which counts units by its own rules."""
        if budget.kind != "units_global":
            super().check_reach(run, budget)

    def ranked(self, run: Run) -> dict[str, Ranked]:
        """Return the layers that may lose units."""
        found = {
            name: Ranked(
                group,
                run.sizes[name],
                torch.zeros(group.n_units, dtype=torch.bool),
                self.weight(group),
            )
            for name, group in self.candidates(run).items()
        }
        if self.options.zeroed:
            chosen = select_layers(run.graph, self.options.zeroed)
            norms = norms_behind(run.model, run.example)
            for path, layer in self.beside(run).items():
                if layer.producers[0] in chosen:
                    gone = zero_filters(run, layer)
                    whole = with_vectors(run, layer, norms.get(path))
                    found[path] = Ranked(whole, layer.n_units, gone, zeroed=True)
        return found

    def goal(self, run: Run, budget: Budget, layers: Mapping[str, Ranked]) -> int:
        """Return how much of the population to remove now."""
        assert budget.ratio is not None
        first, present = self.population(run, layers)
        ratios = budget.round_ratios or (budget.ratio,)
        if self.options.targets == "percent":
            return removed_to_percent(first, present, percent_after(ratios))
        return present - left_after(first, ratios)

    def counted_units(self, run: Run) -> tuple[int, int]:
        """Return the size of the population at the start of the run, and its present size."""
        return self.population(run, self.ranked(run))

    def population(self, run: Run, layers: Mapping[str, Ranked]) -> tuple[int, int]:
        """Return the size of the population at the start of the run, and its present size."""
        groups = {**run.graph.groups, **run.graph.frozen}
        first = present = 0
        for name, width in run.sizes.items():
            # A group with a single unit left is no longer ranked, but it still counts.
            is_ranked = name in layers and not layers[name].zeroed
            if is_ranked or len(run.kept[name]) < width:
                weight = self.weight(groups[name])
                first += weight * width
                present += weight * len(run.kept[name])
        if self.options.zeroed:
            for layer in self.beside(run).values():
                first += layer.n_units
                present += layer.n_units - int(zero_filters(run, layer).sum())
        return first, present

    def beside(self, run: Run) -> dict[str, ChannelGroup]:
        """Return the convolutions whose channels are not removed, each as its own group."""
        groups = {**run.graph.groups, **run.graph.frozen}
        mine = [*self.candidates(run), *(n for n, k in run.kept.items() if len(k) < run.sizes[n])]
        taken = {m.parameters[0] for n in mine for m in groups[n].members if m.role != "in"}
        return {
            path: layer
            for path, layer in convolutions(run.graph).items()
            if layer.producers[0] not in taken
        }

    def weight(self, group: ChannelGroup) -> int:
        """Return how often each unit of a group counts."""
        if self.options.count == "units":
            return 1
        return sum(m.index.shape[1] for m in group.members if m.role in ("out", "pass"))

    def lowest_of_all(
        self, run: Run, layers: Mapping[str, Ranked], scores: Mapping[str, Tensor], goal: int
    ) -> dict[str, Tensor]:
        """Return the lowest units of each layer, int64: as few as weigh at least `goal`.

        With targets "percent", they can be fewer: a layer's most important unit is ranked too, but
        stays.
        """
        share = self.options.protected_share
        unprotected = None if self.options.targets == "percent" else 0
        owners, units, keys, weights = [], [], [], []
        for number, (name, layer) in enumerate(layers.items()):
            kept = unprotected if share is None else protected_count(layer.first_width, share)
            own = scores[name].detach().double().cpu()
            free = free_units(own, layer.gone.cpu(), kept)
            owners.append(torch.full_like(free, number))
            units.append(free)
            keys.append(own[free])
            weights.append(torch.full_like(free, layer.weight))
        if not layers:
            return {}
        order = torch.argsort(torch.cat(keys), stable=True)
        reached = torch.cat(weights)[order].cumsum(0)
        most = int(reached[-1]) if len(reached) else 0
        if most < goal:
            raise TrainingError(
                f"phase {run.phase.name!r}: {goal} units must be removed, but only {most} units of "
                f"{len(layers)} layers may be; use a smaller ratio, more roles, or a smaller "
                "protected_share"
            )
        chosen = order[: int((reached < goal).sum()) + 1] if goal > 0 else order[:0]
        owner, unit = torch.cat(owners)[chosen], torch.cat(units)[chosen]
        found = {name: unit[owner == i] for i, name in enumerate(layers)}
        counts = {name: min(len(own), remaining(layers[name]) - 1) for name, own in found.items()}
        # In the order of the ranking, the best of a layer is its last.
        return {n: found[n][:count].sort().values for n, count in self.rounded(run, counts).items()}


def remaining(layer: Ranked) -> int:
    """Return how many units of a layer are not zero yet."""
    return int((~layer.gone).sum())


def zero_filters(run: Run, layer: ChannelGroup) -> Tensor:
    """Return a bool mask (units,) of a convolution's filters, True if all weights are masked."""
    weight = layer.producers[0]
    if weight not in run.masks:
        return torch.zeros(layer.n_units, dtype=torch.bool)
    member = layer.members[0]
    return ~run.masks[weight].movedim(member.dim, 0).flatten(1).any(dim=1).cpu()


def with_vectors(run: Run, layer: ChannelGroup, norm: str | None) -> ChannelGroup:
    """Return a convolution's group with its bias and the scale and shift of its batch norm."""
    names = [bias_name(layer.members[0])]
    names += [f"{norm}.weight", f"{norm}.bias"] if norm else []
    index = torch.arange(layer.n_units)[:, None]
    vectors = [Member((name,), 0, "vector", index) for name in names if name in run.params]
    return replace(layer, members=(*layer.members, *vectors))


def filter_masks(run: Run, layer: Ranked, units: Tensor) -> dict[str, Tensor]:
    """Return masks that zero these filters and those already zero.

    The masks cover weights, biases, and batch norm's scale and shift.
    """
    kept = ~layer.gone.to(run.device)
    kept[units.to(run.device)] = False
    return {
        member.parameters[0]: entry_mask(run.params[member.parameters[0]], member, kept)
        for member in layer.group.members
    }
