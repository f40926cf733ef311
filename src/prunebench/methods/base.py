"""The life cycle of a pruning method: what it sees of a run, declares, and may fill in.

A method is a list of phases (`experiments.phases`), a selection of units, and the hooks that its
phases switch on. The training loop runs them and knows no method by name. It checks the scores and
plans that a method returns; an error is one sentence that names the method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar, get_args

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGraph, ChannelGroup, Grouping
from prunebench.channels.plan import Plan
from prunebench.channels.selections import check_rule, select_groups
from prunebench.core.errors import ConfigError, MethodError, TrainingError
from prunebench.criteria.base import Criterion, ScoringRun
from prunebench.experiments.phases import (
    COST_KINDS,
    Budget,
    CostKind,
    Epochs,
    HookName,
    Length,
    Phase,
    RatioKind,
    is_cost,
    training,
)
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Count, Settings, shortened
from prunebench.methods.allocation import (
    Allocation,
    leaving_order,
    lowest,
    pruned_count,
    rounded_up,
    shortest_prefix,
)


class Run(ScoringRun, Protocol):
    """A run as a method sees it: a criterion's view of the run, and the run's progress."""

    masks: dict[str, Tensor]  # parameter -> bool, True is kept; masked entries are zero
    sizes: dict[str, int]  # group -> units at the start of the run
    kept: dict[str, Tensor]  # group -> remaining units, numbered as at the start
    source_kept: dict[str, Tensor] | None  # the same of the run that `widths_from` names
    phases: tuple[Phase, ...]  # all of them, as the method listed them
    phase: Phase
    clock: int  # steps done in this phase
    epoch: int  # epochs begun in this phase, from 0
    epochs: float  # length of this phase
    base_macs: int  # of the network that the run started from
    base_params: int

    def cost(self, kind: CostKind, left: Mapping[str, int] | None = None) -> float:
        """Return a cost of the present network if some groups keep `left` units.

        macs, params and activations as `costs` counts them; latency: predicted milliseconds.
        """

    def base_cost(self, kind: CostKind) -> float:
        """Return a cost of the network that the run started from."""

    def log(self, layer: str, quantity: str, value: Tensor) -> None:
        """Record a diagnostic, a device tensor of one element; it is read once an epoch."""

    @property
    def divisor(self) -> float:
        """Return the divisor of a single image's loss in the loss that a step differentiates.

        In this process: the images of the batch, divided by the processes that share it.
        """

    @property
    def epochs_before(self) -> float:
        """Return the epochs trained in the phases before this one."""

    def scored(self, what: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the result of `compute`, or that of an earlier run of this process.

        `compute` returns scores by group that depend on the present network, the seed, the phase,
        the images, and on `what`: the criterion with its options, in words.
        """

    def summed(self, tensor: Tensor) -> Tensor:
        """Return the sum over the processes that share the step's batch."""

    def keep(self, slot: Literal["best", "accepted"]) -> None:
        """Store the present structure, masks and weights for a later phase's `start`."""

    def validate(self) -> float:
        """Return the accuracy on the validation split, a fraction; TrainingError without one."""

    def initialize(self) -> None:
        """Initialize every parameter of the present network anew, as its architecture does."""


def counted(run: Run, budget: Budget, left: Mapping[str, int]) -> tuple[float, float]:
    """Return the units or the cost that a budget counts, at the run's start and later.

    Later is when some groups keep `left` units and the others do not change.
    """
    if is_cost(budget.kind):
        return run.base_cost(budget.kind), run.cost(budget.kind, left)
    now = {name: len(units) for name, units in run.kept.items()} | dict(left)
    # A group with a single unit left cannot lose more, but it still counts.
    names = [name for name, n in run.sizes.items() if name in left or now[name] < n]
    return sum(run.sizes[name] for name in names), sum(now[name] for name in names)


def is_enough(budget: Budget, whole: float, now: float) -> bool:
    """Return whether a budget is met if `now` is left of `whole` units or costs.

    units_global: at least floor(ratio N) of N units are removed. Costs: at most (1 - ratio) of the
    starting network's remain.
    """
    assert budget.ratio is not None
    if budget.kind == "units_global":
        return whole - now >= int(budget.ratio * whole)
    return now <= (1 - budget.ratio) * whole


def is_met(run: Run, budget: Budget, left: Mapping[str, int]) -> bool:
    """Return whether a budget is met if some groups keep `left` units and the others do not change.

    One rule for a selection at once and for a network that shrinks during training.
    """
    return is_enough(budget, *counted(run, budget, left))


def out_of_reach(run: Run, budget: Budget, largest: float, limit: str) -> TrainingError:
    """Return the error of a budget whose ratio can be `largest` at most; `limit` says why."""
    return TrainingError(
        f"phase {run.phase.name!r}: ratio {budget.ratio:g} of {budget.kind} is out of reach; the "
        f"largest is {math.floor(largest * 1e4) / 1e4:g}, {limit}"
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
    """Return the number of the first pattern that matches a layer's or group's name.

    >>> by_pattern({"stages.3.*": 0.2, "*": 0.5}, "stages.3.0.conv1", 0.0)
    0.2
    """
    return next((n for pattern, n in numbers.items() if fnmatchcase(name, pattern)), otherwise)


def last_training(phases: Sequence[Phase]) -> Phase | None:
    """Return the last phase that trains, None if there is none."""
    return next((phase for phase in reversed(phases) if phase.recipe is not None), None)


class MethodOptions(Settings):
    """The options of every method; each method's own class adds more.

    A layer is named by its path or by a pattern of it, such as "stages.2.*".
    """

    roles: tuple[Rule, ...] = Field(
        ("inside",), description="Groups that may be pruned, as selection rules."
    )
    layer_ratios: dict[str, Ratio] = Field(
        {},
        description="Pruning ratio by pattern of a group's name, for ratio_kind auto; the first "
        "matching pattern counts, and groups without one are not pruned.",
    )
    allocation: Allocation = "uniform"
    round_to: Count = Field(
        1,
        description="Kept channels of each layer are rounded up to a multiple of this number, such "
        "as 8 for tensor cores, or to all of them where there are fewer. A ratio is then not met "
        "exactly: each layer first gets the width that meets it.",
    )
    widths_from: str | None = Field(
        None,
        description="Another run of the same ratio and seed, as method/setting: each group keeps "
        "as many units as it has there (default: none).",
    )
    grouped: Grouping = Field(
        "auto",
        description="Units of grouped convolutions: whole groups, or the same position in all "
        "groups; auto: by shape.",
    )
    total_epochs: float | None = Field(
        None,
        gt=0,
        description="Epochs of the whole run: the last phase gets those that are left, with the "
        "schedule of its recipe stretched to them (default: the recipe's own epochs). Methods "
        "whose pruning takes a different number of epochs are then trained equally long.",
    )

    @model_validator(mode="after")
    def _widths_of_another_run_stay(self) -> Self:
        if self.round_to > 1 and self.widths_from is not None:
            raise ValueError("round_to does not go with widths_from; round the widths of that run")
        return self

    def shortened(self, scale: float) -> Self:
        """Return the options of a run with a fraction `scale` of the epochs.

        Lengths in steps shrink, and increments grow so that they reach the same ceiling; fields
        marked `Shrinks` and `Grows` say which; `total_epochs` stays at least 1, as a recipe's
        epochs do. The algorithm stays the same.
        """
        found = shortened(self, scale)
        if self.total_epochs is None:
            return found
        return found.model_copy(update={"total_epochs": max(1.0, scale * self.total_epochs)})

    def layer_ratio(self, group: str) -> float:
        """Return the ratio that `layer_ratios` assigns to a group; 0 if it assigns none."""
        return by_pattern(self.layer_ratios, group, 0.0)


O = TypeVar("O", bound=MethodOptions)  # noqa: E741


@dataclass(frozen=True)
class Before:
    """The network just before a removal, for methods that use the removed weights."""

    graph: ChannelGraph
    tensors: Mapping[str, Tensor]  # parameters and buffers by name
    cuts: Mapping[str, list[tuple[int, Tensor]]]  # name -> (dimension, kept indices)


class Method(Generic[O]):
    """A pruning method. Subclasses set class variables and define the hooks they need."""

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    summary: ClassVar[str]  # one line for `prunebench list methods`
    start: ClassVar[Start] = "base"
    revision: ClassVar[int] = 1  # raise it when the method's results change
    recipe_roles: ClassVar[tuple[str, ...]] = ("fine_tune",)
    # Kinds of ratio that the method accepts. "auto": `layer_ratios`, or the method's own decision
    # if it `decides_ratio`
    ratio_kinds: ClassVar[tuple[str, ...]] = (
        "units_per_group",
        "units_global",
        *COST_KINDS,
        "auto",
    )
    # Whether "auto" leaves the ratio to the method's options; a setting without a kind is "auto"
    decides_ratio: ClassVar[bool] = False
    ratios: ClassVar[tuple[float, ...] | None] = None  # the only valid ratios; None: all
    tolerance: ClassVar[int] = 1  # units of one group by which the result may miss the ratio
    takes_widths: ClassVar[bool] = False  # whether the option `widths_from` is allowed
    # Whether the option `round_to` is allowed: counts come from `allocate`, or from `rounded`
    rounds_widths: ClassVar[bool] = True
    needs_validation: ClassVar[bool] = False  # whether it calls `run.validate`
    # Whether handles returned by `attach` work when a step processes its batch in parts: several
    # passes under gradient accumulation, or one share of the batch in each of several processes
    sees_parts: ClassVar[bool] = False
    # Defined hooks that no phase enables under some options; all others must be enabled
    optional_hooks: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: O) -> None:
        self.options = options
        self.state: dict[str, Any] = {}  # everything the method changes; saved in checkpoints

    # --- over time
    def starts_from(self) -> Start:
        """Return the network that a run starts from: `start`, unless options decide otherwise."""
        return self.start

    def run_revision(self, budget: Budget) -> int:
        """Return the revision of a run: `revision`, more if only some runs' results changed."""
        return self.revision

    def needs_labels(self) -> bool:
        """Return whether a criterion among the options needs images of one class each."""
        given = (self.options, *vars(self.options).values())
        return any(isinstance(one, Criterion) and one.needs_labels for one in given)

    def chooses_widths(self, kind: RatioKind) -> bool:
        """Return whether the method decides how many units each group keeps, given a kind of ratio.

        False if the ratio or another run decides it, or if pruned weights stay as zeros.
        """
        if self.options.widths_from is not None or self.options.layer_ratios:
            return False
        is_ranked = is_cost(kind) and self.options.allocation == "global"
        return is_ranked or kind in ("units_global", "auto")

    def needed_roles(self) -> tuple[str, ...]:
        """Return the roles whose recipes a run needs: `recipe_roles`, fewer by some options."""
        return self.recipe_roles

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return the method's phases, by default select and fine_tune.

        ValueError if recipes, options and budget do not go together.
        """
        return [Phase(name="select", then=budget), training("fine_tune", recipes["fine_tune"])]

    def phase_length(self, run: Run, phase: Phase) -> Length:
        """Return the length of `phase`; called once at its beginning and again on resume.

        By default the phase's own, or what `total_epochs` leaves for the last phase that trains;
        TrainingError if that is nothing.
        """
        assert phase.length is not None
        total = self.options.total_epochs
        if total is None or phase is not last_training(run.phases):
            return phase.length
        left = total - run.epochs_before
        if left <= 0:
            raise TrainingError(
                f"phase {phase.name!r}: total_epochs is {total:g}, but the phases before took "
                f"{run.epochs_before:g} epochs"
            )
        return Epochs(left)

    def next_phase(self, run: Run, index: int) -> int | None:
        """Return the phase that follows phase `index`; None or one past the last ends the run."""
        return index + 1

    # --- selection
    def budget(self, run: Run) -> Budget:
        """Return the budget of the current phase or, if it has none, the first of the run."""
        return run.phase.then or next(phase.then for phase in run.phases if phase.then is not None)

    def candidates(self, run: Run) -> dict[str, ChannelGroup]:
        """Return the groups that may lose units, in network order."""
        return select_groups(run.graph, self.options.roles)

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit, shape (units,); higher is kept."""
        raise NotImplementedError

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return how many of `n_units` to remove at `ratio`."""
        return pruned_count(n_units, ratio)

    def allocate(self, run: Run, scores: Mapping[str, Tensor], budget: Budget) -> dict[str, int]:
        """Return how many units to remove from each group now; budgets count from the run's start.

        The widths of a run named by `widths_from` take precedence over the budget. Otherwise the
        widths that meet the budget are rounded up by `round_to`.
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
                    f"phase {run.phase.name!r}: the run named by widths_from has pruned {name!r}, "
                    f"which roles {list(self.options.roles)} exclude here"
                )
        return {name: max(0, excess.get(name, 0)) for name in scores}

    def rounded(self, run: Run, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the counts of units to remove, lowered so that the widths that stay are rounded.

        See the option `round_to`. Where a unit has several channels, as in grouped convolutions,
        the channels of every layer that produces it count.
        """
        multiple = self.options.round_to
        if multiple == 1:
            return dict(counts)
        found = {}
        for name, count in counts.items():
            group = run.graph.groups[name]
            channels = [m.index.shape[1] for m in group.members if m.role in ("out", "pass")]
            left = rounded_up(group.n_units - count, group.n_units, channels, multiple)
            found[name] = group.n_units - left
        return found

    def _to_shares(self, run: Run, ratios: Mapping[str, float]) -> dict[str, int]:
        counts = {
            name: max(0, self.pruned_count(run.sizes[name], ratio) - _gone(run, name))
            for name, ratio in ratios.items()
        }
        return self.rounded(run, counts)

    def _to_target(self, run: Run, scores: Mapping[str, Tensor], budget: Budget) -> dict[str, int]:
        """Return the smallest counts, in the order of the allocation, that meet the budget.

        Then the widths that are left are rounded up.
        """
        gone = {name: _gone(run, name) for name in run.sizes}
        allocation = "global" if budget.kind == "units_global" else self.options.allocation
        order = leaving_order(scores, gone, allocation)

        def reached(counts: Mapping[str, int]) -> bool:
            left = {name: len(own) - counts.get(name, 0) for name, own in scores.items()}
            return is_enough(budget, *self.counted(run, budget, left))

        self.check_reach(run, budget)
        counts = shortest_prefix(order, reached)
        return self.rounded(run, {name: counts.get(name, 0) for name in scores})

    def counted(self, run: Run, budget: Budget, left: Mapping[str, int]) -> tuple[float, float]:
        """Return the units or the cost that the ratio counts, at the start and later.

        Later is when the groups, or the layers whose filters become zero, keep `left` units.
        """
        return counted(run, budget, left)

    def least(self, run: Run) -> tuple[dict[str, int], str]:
        """Return the fewest units that may be left, by group or layer, and the limit in words."""
        groups = self.candidates(run)
        words = f"with one unit left in each of {len(groups)} groups"
        return dict.fromkeys(groups, 1), f"{words}; use a smaller ratio or more roles"

    def check_reach(self, run: Run, budget: Budget) -> None:
        """Raise TrainingError if a ratio of all units or of a cost exceeds the largest one.

        Called before a run trains, with its last budget.
        """
        is_shared = budget.kind == "units_global" or is_cost(budget.kind)
        if not is_shared or not budget.ratio or run.source_kept is not None:
            return
        least, limit = self.least(run)
        whole, now = self.counted(run, budget, least)
        if not is_enough(budget, whole, now):
            raise out_of_reach(run, budget, 1 - now / whole, limit)

    # --- what a run has reached, compared with its ratio
    def zeroed_weights(self, run: Run) -> list[str] | None:
        """Return the weights whose masked entries the ratio counts; None: units are removed."""
        return None

    def counted_macs(self, run: Run) -> dict[str, int]:
        """Return the present MACs of each weight that ratio_kind macs counts."""
        return run.costs.layer_macs()

    def counted_units(self, run: Run) -> tuple[int, int]:
        """Return the units that ratio_kind units_global counts: at the start, and now."""
        names = list(self.candidates(run))
        return sum(run.sizes[n] for n in names), sum(len(run.kept[n]) for n in names)

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the units to remove for `budget`: as many as `allocate` says, lowest scores first.

        It must depend on weights, state and seed alone, since a resumed run calls it again.
        """
        groups = self.candidates(run)
        scores = self.score(run, groups)
        check_scores(self, groups, scores)
        counts = self.allocate(run, scores, budget)
        return Plan(removed={name: lowest(scores[name], n) for name, n in counts.items() if n})

    # --- between steps: the CPU may synchronize with the GPU
    interval: Length | None = None  # of `decide`

    def before_phase(self, run: Run) -> None:
        """Initialize the state of a phase; not called on resume."""

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Derive what is not saved; called at a phase's start, after a removal and on resume.

        Return the handles of hooks on the network's passes. A hook may see a part of the batch at
        a time, in each process its own; `sees_parts` declares that the method allows for it. Hooks
        leave outputs as they are: the accuracy of a network is that of its weights.
        """
        return []

    def decide(self, run: Run) -> None:
        """Act before the steps that are multiples of `interval`, step 0 included."""

    def finished(self, run: Run) -> bool:
        """Return whether a phase `until_finished` ends here; called right after `decide`."""
        return False

    def after_epoch(self, run: Run) -> None:
        """Act between an epoch's last step and its evaluation."""

    # --- within a step: tensor operations only, which CUDA graphs can capture
    def loss_term(self, run: Run) -> Tensor:
        """Return a term to add to the loss, a tensor of one element."""
        raise NotImplementedError

    def before_optimizer_step(self, run: Run) -> None:
        """Change gradients."""

    def after_optimizer_step(self, run: Run) -> None:
        """Change weights."""

    # --- after a removal, and at the end
    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Slice the method's state, or change the weights that the smaller network starts with."""

    def figures(self) -> dict[str, float]:
        """Return numbers for the result row, by column name."""
        return {}


def check_hooks(method: Method[Any], phases: Sequence[Phase]) -> None:
    """Raise MethodError if the method defines a hook that would never be called.

    Hooks of a phase are called while it trains, `finished` in a phase `until_finished`. The
    method's `optional_hooks` are exempt.
    """
    enabled: set[str] = set()
    for phase in phases:
        if phase.recipe is not None:
            enabled |= phase.hooks | ({"finished"} if phase.until_finished else set())
    kind = type(method)
    for hook in (*get_args(HookName), "finished"):
        is_defined = getattr(kind, hook) is not getattr(Method, hook)
        if is_defined and hook not in enabled | kind.optional_hooks:
            raise MethodError(
                f"{kind.__name__} defines {hook}, but no phase enables it: enable it in a phase "
                "that trains, or name it in optional_hooks if it depends on options"
            )


def _gone(run: Run, group: str) -> int:
    return run.sizes[group] - len(run.kept[group])


def check_scores(
    method: object, groups: Mapping[str, ChannelGroup], scores: Mapping[str, Tensor]
) -> None:
    """Raise MethodError unless there is a finite score for each unit of each group.

    NaN must stop every run: it sorts to one end, and the result would look like any other.
    """
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
            raise MethodError(f"{who}: all {n} units of {name!r} are removed; one must stay")
    for name, keep in plan.zeroed.items():
        if name not in params:
            raise MethodError(f"{who}: a mask for {name!r}, which is no parameter")
        if keep.shape != params[name].shape:
            raise MethodError(
                f"{who}: the mask of {name!r} has shape {tuple(keep.shape)}, "
                f"expected {tuple(params[name].shape)}"
            )
