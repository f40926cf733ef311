"""What the harness holds a method to; a breach is one sentence that names the method.

Most of these say that a plug-in is wrong. That NaN stops a run holds for all: a score that is not
a number sorts to one end, and the result would look like any other.

The life cycle of a pruning method: what it declares, and what it may fill in.

A method is a list of phases (`core.phases`), a selection, and the hooks that its phases switch
on. The one training loop runs them; it knows no method by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGraph, ChannelGroup, Grouping
from prunebench.channels.plan import Plan
from prunebench.channels.selections import check_rule, select_groups
from prunebench.core.errors import ConfigError, MethodError, TrainingError
from prunebench.criteria.base import Run
from prunebench.experiments.phases import Budget, Length, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Settings, shortened
from prunebench.methods.allocation import (
    Allocation,
    is_met,
    leaving_order,
    lowest,
    out_of_reach,
    pruned_count,
    shortest_prefix,
)


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


Ratio = Annotated[float, Field(ge=0, lt=1)]
Start = Literal["base", "fresh"]


def _rule(rule: str) -> str:
    try:
        check_rule(rule)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return rule


Rule = Annotated[str, AfterValidator(_rule)]  # of `channels.selections`


def by_pattern(numbers: Mapping[str, float], name: str, otherwise: float) -> float:
    """Return the number of the first pattern that fits a layer's or group's name.

    >>> by_pattern({"stages.3.*": 0.2, "*": 0.5}, "stages.3.0.conv1", 0.0)
    0.2
    """
    return next((n for pattern, n in numbers.items() if fnmatchcase(name, pattern)), otherwise)


class MethodOptions(Settings):
    """The options that every method has; each method's own class adds its own.

    A layer is named by its path or by a pattern of it, such as "stages.2.*".
    """

    roles: tuple[Rule, ...] = ("inside",)  # groups that may be pruned
    # ratio_kind auto: what leaves of each group; of several patterns that fit, the first counts
    layer_ratios: dict[str, Ratio] = {}
    # ratio_kind macs, params or weights. uniform: the same share of every group or layer; global:
    # all ranked together
    allocation: Allocation = "uniform"
    # method/setting: each group keeps as many units as that run's has, at the same ratio and seed
    widths_from: str | None = None
    # units of grouped convolutions: whole groups, or the same place in all of them; auto: by shape
    grouped: Grouping = "auto"

    def shortened(self, scale: float) -> Self:
        """Return the options of a run with a share of the epochs: lengths in steps shrink too.

        The algorithm stays: what must grow to a ceiling grows by larger steps. Which numbers
        these are, their fields say (`Shrinks`, `Grows`).
        """
        return shortened(self, scale)

    def layer_ratio(self, group: str) -> float:
        """Return the ratio that `layer_ratios` gives a group, 0 where it gives none."""
        return by_pattern(self.layer_ratios, group, 0.0)


O = TypeVar("O", bound=MethodOptions)  # noqa: E741


@dataclass(frozen=True)
class Before:
    """The network just before a removal, for methods that build on what left."""

    graph: ChannelGraph
    tensors: Mapping[str, Tensor]  # parameters and buffers by name
    cuts: Mapping[str, list[tuple[int, Tensor]]]  # name -> (dimension, kept indices)


class Method(Generic[O]):
    """A pruning method. Subclasses declare the class variables and fill in what they need."""

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    summary: ClassVar[str]  # one line for `prunebench list`
    start: ClassVar[Start] = "base"
    revision: ClassVar[int] = 1  # raised when the method's results change
    recipe_roles: ClassVar[tuple[str, ...]] = ("fine_tune",)
    # What a ratio may be of. "auto": `layer_ratios`, or alone: the method decides itself.
    ratio_kinds: ClassVar[tuple[str, ...]] = (
        "units_per_group",
        "units_global",
        "macs",
        "params",
        "auto",
    )
    ratios: ClassVar[tuple[float, ...] | None] = None  # the only ones that make sense
    tolerance: ClassVar[int] = 1  # units of one group by which what left may miss the ratio
    takes_widths: ClassVar[bool] = False  # whether the option `widths_from` may be given
    # Whether handles that `attach` returns see right what a step passes in parts: several passes
    # under gradient accumulation, and a share of the batch in each of several processes.
    sees_parts: ClassVar[bool] = False

    def __init__(self, options: O) -> None:
        self.options = options
        self.state: dict[str, Any] = {}  # everything the method changes; goes into checkpoints

    # --- over time
    def starts_from(self) -> Start:
        """Return what a run starts from: `start`, unless a method's options say otherwise."""
        return self.start

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return the method's phases; ValueError where recipes and options do not fit."""
        raise NotImplementedError

    def phase_length(self, run: Run, phase: Phase) -> Length:
        """Return how long `phase` lasts; asked once at its beginning and again on resume."""
        assert phase.length is not None
        return phase.length

    def next_phase(self, run: Run, index: int) -> int | None:
        """Return the phase that follows phase `index`; None or one past the last ends the run."""
        return index + 1

    # --- what leaves
    def candidates(self, run: Run) -> dict[str, ChannelGroup]:
        """Return the groups that may lose units, in network order."""
        return select_groups(run.graph, self.options.roles)

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit, shape (units,); higher is kept."""
        raise NotImplementedError

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return how many of `n_units` leave at `ratio`."""
        return pruned_count(n_units, ratio)

    def allocate(self, run: Run, scores: Mapping[str, Tensor], budget: Budget) -> dict[str, int]:
        """Return how many units each group loses now; budgets count from the run's start.

        A run that `widths_from` names comes before any budget.
        """
        if run.source_kept is not None:
            return self._to_widths(run, scores, run.source_kept)
        ratio = budget.ratio
        if budget.kind == "units_per_group" and ratio is not None:
            return self._to_shares(run, dict.fromkeys(scores, ratio))
        if budget.kind == "auto" and self.options.layer_ratios:
            return self._to_shares(run, {name: self.options.layer_ratio(name) for name in scores})
        if budget.kind == "weights" or ratio is None:
            raise ValueError(f"no allocation for ratio_kind {budget.kind!r}")
        return self._to_target(run, scores, budget)

    def _to_widths(
        self, run: Run, scores: Mapping[str, Tensor], source: Mapping[str, Tensor]
    ) -> dict[str, int]:
        excess = {name: len(run.kept[name]) - len(units) for name, units in source.items()}
        for name, count in excess.items():
            if count > 0 and name not in scores:
                raise TrainingError(
                    f"phase {run.phase.name!r}: the run that widths_from names has pruned "
                    f"{name!r}, which roles {list(self.options.roles)} leave alone here"
                )
        return {name: max(0, excess.get(name, 0)) for name in scores}

    def _to_shares(self, run: Run, ratios: Mapping[str, float]) -> dict[str, int]:
        return {
            name: max(0, self.pruned_count(run.sizes[name], ratio) - _gone(run, name))
            for name, ratio in ratios.items()
        }

    def _to_target(self, run: Run, scores: Mapping[str, Tensor], budget: Budget) -> dict[str, int]:
        """Return the fewest units, in the order of the allocation, with which the budget is met."""
        gone = {name: _gone(run, name) for name in run.sizes}
        allocation = "global" if budget.kind == "units_global" else self.options.allocation
        order = leaving_order(scores, gone, allocation)

        def reached(counts: Mapping[str, int]) -> bool:
            left = {name: len(run.kept[name]) - counts.get(name, 0) for name in scores}
            return is_met(run, budget, left)

        try:
            counts = shortest_prefix(order, reached)
        except ValueError:
            raise out_of_reach(run, budget, len(scores)) from None
        return {name: counts.get(name, 0) for name in scores}

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return what leaves for `budget`: the `allocate` lowest of `score`.

        A function of weights, state and seed alone, since it is repeated after a resume.
        """
        groups = self.candidates(run)
        scores = self.score(run, groups)
        check_scores(self, groups, scores)
        counts = self.allocate(run, scores, budget)
        return Plan(removed={name: lowest(scores[name], n) for name, n in counts.items() if n})

    # --- between steps: the host may read the device
    interval: Length | None = None  # of `decide`

    def before_phase(self, run: Run) -> None:
        """Make the state of a phase; not called on resume."""

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Derive what is not saved; called at a phase's start, after a removal and on resume.

        Handles that look into the network's passes are returned. They see a part of the batch at a
        time, in each process its own: `sees_parts` says that the method reckons with that.
        """
        return []

    def decide(self, run: Run) -> None:
        """Act before the steps that are multiples of `interval`, step 0 included."""

    def finished(self, run: Run) -> bool:
        """Say, right after `decide`, whether a phase `until_finished` ends here."""
        return False

    def after_epoch(self, run: Run) -> None:
        """Act between an epoch's last step and its evaluation."""

    # --- inside a step: tensors only, fit for a captured step
    def loss_term(self, run: Run) -> Tensor:
        """Return what is added to the loss, a tensor of one element."""
        raise NotImplementedError

    def before_optimizer_step(self, run: Run) -> None:
        """Change gradients."""

    def after_optimizer_step(self, run: Run) -> None:
        """Change weights."""

    # --- afterwards
    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Slice own state, or change what the smaller network starts from."""

    def figures(self) -> dict[str, float]:
        """Return numbers for the result row, by column name."""
        return {}


def _gone(run: Run, group: str) -> int:
    return run.sizes[group] - len(run.kept[group])
