"""Group Fisher pruning: every few steps, remove the unit with the least importance per saved cost.

Source: Liu et al., Group Fisher Pruning for Practical Network Compression, ICML 2021, arXiv
2108.00708; official code (one-stage detection only) and MMRazor's. While the trained network goes
on training, the squared gradients of each unit's mask are summed (`criteria.masks`). Every d steps
the unit with the least sum per saved memory or computation is silenced: the weights that read it
become zero. At the target all silent units are removed and the network is fine-tuned.

Paper and codes differ in linear layers, the last unit and the memory of grouped convolutions; each
of these is an option. The defaults are the paper's rules, which produced its numbers, with two
exceptions: the last unit of a group stays (MMRazor's rule), and memory and computation are those
that really disappear. The paper's sums differ from them if a unit has several channels or a layer
both produces and reads it.

Other differences cannot change a decision here, where all images have the same size. The released
code divides by the cost of the interval's last step only, times its batch, MMRazor at every step;
the released code also sums scores of silent units, which it never chooses, and stops at no target.
Neither trains on a smaller last batch; here its images count like all others.

The layers that share a mask are the coupled groups of `channels`, since the paper's greedy grouping
depends on the order of layers. If a grouped convolution has fewer groups than channels in one, a
unit is the same channel of every group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.costs import Costs
from prunebench.channels.groups import ChannelGroup, Member
from prunebench.channels.plan import Plan
from prunebench.channels.unit_weights import along, producers
from prunebench.core.errors import TrainingError
from prunebench.criteria.masks import (
    MaskGradients,
    Normalize,
    is_linear,
    places,
    readers,
    saved_by_a_unit,
)
from prunebench.experiments.phases import (
    COST_KINDS,
    Budget,
    Length,
    Phase,
    RatioKind,
    Steps,
    training,
    training_for,
)
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Count, Shrinks
from prunebench.methods.base import Before, Method, MethodOptions, Rule, Run, is_met


class GroupFisherOptions(MethodOptions):
    """Options of Group Fisher, with the defaults of the paper's classification experiments."""

    roles: tuple[Rule, ...] = Field(
        ("stem", "stream", "inside"),
        description="Rules that select the groups that may be pruned (default: all, the paper).",
    )
    interval_steps: Annotated[Count, Shrinks()] = Field(
        25,
        description="Steps between two decisions, the paper's d (default: classification; "
        "detection: 10).",
    )
    units_at_once: Count = Field(
        1,
        description="Number of units removed at a decision (default: the paper); more only in a "
        "shortened run.",
    )
    normalize: Normalize = Field(
        "memory",
        description="Cost that a score is divided by. memory (default, -M, the proposed method): "
        "output elements; macs (-F): multiply-accumulates of the units that remain at that time; "
        "none (-U): nothing.",
    )
    coupled: bool = Field(
        True,
        description="Whether coupled units may be removed (default: yes); false (-I): only units "
        "with one producer and one reader.",
    )
    linear: Literal["masked", "ignored", "protected"] = Field(
        "masked",
        description="Treatment of linear layers. masked (default, the paper): like all other "
        "layers; ignored (the released code): they have neither mask nor cost; protected "
        "(MMRazor): masked, but the units that they read stay.",
    )
    memory: Literal["exact", "printed"] = Field(
        "exact",
        description="Memory that a unit saves. exact (default): the output elements that "
        "disappear; printed: the paper's n (c / g) h w per producer, which counts one channel of "
        "an ungrouped producer even if a whole group of channels is removed.",
    )
    protect_last: bool = Field(
        True,
        description="Whether the last unit of a group stays (default: yes, MMRazor; the released "
        "code: no).",
    )

    def shortened(self, scale: float) -> Self:
        """Return the options of a run with a share of the steps.

        If there is less than one step for each unit, several units are removed at once.
        """
        at_once = max(1, round(self.units_at_once / min(1, scale * self.interval_steps)))
        return super().shortened(scale).model_copy(update={"units_at_once": at_once})


def least_important(scores: Tensor, delta: Tensor, kept: Tensor) -> tuple[int, float]:
    """Return the kept unit with the least score / delta, and that quotient.

    All tensors have the shape (units,); `kept` is bool. A unit whose delta is 0 saves nothing and
    is never chosen. Of equal quotients, the first is chosen. If no unit can be chosen, the quotient
    is infinite.

    >>> scores, kept = torch.tensor([8.0, 3.0, 1.0]), torch.tensor([True, True, False])
    >>> least_important(scores, torch.tensor([4.0, 1.0, 1.0]), kept)
    (0, 2.0)
    """
    normalized = torch.where(kept & (delta > 0), scores.double() / delta, math.inf)
    value, unit = normalized.min(dim=0)
    found = torch.stack([unit.double(), value]).tolist()
    return int(found[0]), found[1]


def printed_memory(run: Run, costs: Costs, group: ChannelGroup) -> int:
    """Return the paper's memory of a unit: the sum of (c / g) h w over its producers.

    c, h and w are the channels, height and width of the producer's output. g is the number of
    groups of a grouped convolution, and c in an ungrouped layer.
    """
    total = 0
    for member in group.members:
        if member.role not in ("out", "pass"):
            continue
        weight = member.parameters[0]
        channels = run.graph.shapes[weight][member.dim]
        layer = run.model.get_submodule(weight.rpartition(".")[0])
        groups = getattr(layer, "groups", 1)
        positions = sum(call.outputs for call in costs.calls if call.weight == weight) // channels
        total += positions * (channels // groups if groups > 1 else 1)
    return total // costs.batch


class GroupFisher(Method[GroupFisherOptions]):
    """Remove one unit every d steps of training, until the target is met; Algorithm 2.

    The state has, for the units of all groups in a row, `score`, summed since the last decision,
    and the bool `kept`, both of shape (units,); `left` is the number of kept units by group.
    """

    summary = "remove one coupled unit every d steps by squared mask gradients (Liu et al.)"
    Options = GroupFisherOptions
    recipe_roles = ("prune", "fine_tune")
    ratio_kinds = (*COST_KINDS, "units_global")
    sees_parts = True
    rounds_widths = False  # units are removed until the target is met

    def __init__(self, options: GroupFisherOptions) -> None:
        super().__init__(options)
        self.interval = Steps(options.interval_steps)
        self.gradients: MaskGradients | None = None
        self.columns: dict[str, Tensor] = {}  # weight -> 1 or 0 per input channel, broadcastable

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return prune, which ends at the target, and fine_tune."""
        if budget.kind not in self.ratio_kinds:
            raise ValueError(f"ratio_kind {budget.kind!r}; allowed: {', '.join(self.ratio_kinds)}")
        return [
            training_for(
                "prune",
                recipes["prune"],
                Steps(self.options.interval_steps),  # at most: see `phase_length`
                until_finished=True,
                hooks=frozenset({"attach", "decide", "after_optimizer_step", "after_epoch"}),
                reportable_from=None,
                then=budget,
            ),
            training("fine_tune", recipes["fine_tune"]),
        ]

    def phase_length(self, run: Run, phase: Phase) -> Length:
        """Return, for prune, the number of steps by which every unit would be removed."""
        if phase.name != "prune":
            return super().phase_length(run, phase)
        units = sum(group.n_units for group in self.candidates(run).values())
        return Steps(units * self.options.interval_steps + 1)

    def candidates(self, run: Run) -> dict[str, ChannelGroup]:
        """Return the groups that may lose units."""
        found = super().candidates(run)
        return {name: group for name, group in found.items() if self._is_candidate(run, group)}

    def _is_candidate(self, run: Run, group: ChannelGroup) -> bool:
        reading, producing = readers(group), producers(group)
        if self.options.linear == "protected" and any(is_linear(run.graph, m) for m in reading):
            return False
        if self.options.linear == "ignored":
            reading, producing = _not_linear(run, reading), _not_linear(run, producing)
        passing = any(member.role == "pass" for member in reading)
        is_isolated = len(reading) == len(producing) == 1 and not passing
        return bool(reading and producing) and (self.options.coupled or is_isolated)

    def before_phase(self, run: Run) -> None:
        """Start with all units kept; raise TrainingError if the target is out of reach."""
        if run.phase.name != "prune":
            return
        groups = self.candidates(run)
        weight = next(iter(run.params.values()))
        kept = torch.ones(sum(g.n_units for g in groups.values()), dtype=torch.bool)
        self.state = {
            "score": torch.zeros(len(kept), dtype=weight.dtype, device=run.device),
            "kept": kept.to(run.device),
            "left": {name: group.n_units for name, group in groups.items()},
        }
        self.check_reach(run, self.budget(run))

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Watch the layers that read units, and build the masks of their input channels."""
        groups = self.candidates(run)
        counted = {name: readers(group) for name, group in groups.items()}
        if self.options.linear == "ignored":
            counted = {name: _not_linear(run, members) for name, members in counted.items()}
        assert run.phase.recipe is not None
        self.gradients = MaskGradients(run.model, groups, counted, run.phase.recipe.batch_size)
        self.gradients.check_called(run.example)
        self.columns = {}
        for name, place in self.gradients.places.items():
            self._silence(run, groups[name], ~self.state["kept"][place])
        return self.gradients.watch()

    def _silence(self, run: Run, group: ChannelGroup, silent: Tensor) -> None:
        """Mask the input channels that read the silent units, a bool tensor of shape (units,)."""
        for member in group.members:
            if member.role != "in":  # a grouped convolution passes units on: silenced behind it
                continue
            weight = run.params[member.parameters[0]]
            ones = along(weight.new_ones(weight.shape[member.dim]), member.dim, weight.ndim)
            columns = self.columns.setdefault(member.parameters[0], ones).view(-1)
            columns[member.index.to(silent.device)] *= ~silent[:, None]

    def decide(self, run: Run) -> None:
        """Silence the least important unit and reset the scores; Algorithm 2.

        With `units_at_once`, further units follow by the same scores, up to the target.
        """
        left, kept = self.state["left"], self.state["kept"]
        if run.clock == 0:
            self.after_epoch(run)
            return
        groups = self.candidates(run)
        where = places(groups)
        touched: set[str] = set()
        for _ in range(self.options.units_at_once):
            if touched and self.finished(run):
                break
            unit, value = least_important(self.state["score"], self.delta(run, groups), kept)
            if not math.isfinite(value):
                raise TrainingError(
                    f"phase {run.phase.name!r}, step {run.clock}: the least score of all units is "
                    f"{value}; try a smaller learning rate in the recipe 'prune'"
                )
            name = next(name for name, place in where.items() if unit < place.stop)
            kept[unit] = False
            left[name] -= 1
            touched.add(name)
        self.state["score"].zero_()
        for name in sorted(touched):
            self._silence(run, groups[name], ~kept[where[name]])
        self.zero(run)

    def after_epoch(self, run: Run) -> None:
        """Log the number of remaining units of each group."""
        for name, left in self.state["left"].items():
            run.log(name, "kept_units", torch.tensor(float(left), device=run.device))

    def delta(self, run: Run, groups: Mapping[str, ChannelGroup]) -> Tensor:
        """Return the cost that each unit saves in the current network, shape (units,).

        In output elements or multiply-accumulates of one image; 0 if the unit must stay.
        """
        left, least = self.state["left"], 1 if self.options.protect_last else 0
        costs = self._costs(run)
        saved = [
            self._saved(run, costs, group) if left[name] > least else 0
            for name, group in groups.items()
        ]
        sizes = torch.tensor([group.n_units for group in groups.values()])
        return torch.tensor(saved, dtype=torch.float64).repeat_interleave(sizes).to(run.device)

    def _saved(self, run: Run, costs: Costs, group: ChannelGroup) -> int:
        options = self.options
        if options.normalize == "memory" and options.memory == "printed":
            return printed_memory(run, costs, group)
        return saved_by_a_unit(costs, group.name, options.normalize, self.state["left"])

    def _costs(self, run: Run) -> Costs:
        if self.options.linear != "ignored":
            return run.costs
        shapes = run.graph.shapes
        calls = tuple(c for c in run.costs.calls if len(shapes.get(c.weight, ())) != 2)
        return replace(run.costs, calls=calls)

    def finished(self, run: Run) -> bool:
        """Return whether the target is met."""
        return is_met(run, self.budget(run), self.state["left"])

    def after_optimizer_step(self, run: Run) -> None:
        """Add the step's squared mask gradients to the scores; keep silent units silent."""
        assert self.gradients is not None
        squares = run.summed(self.gradients.squares())
        self.state["score"].add_(squares, alpha=run.divisor**2)
        self.zero(run)

    @torch.no_grad()
    def zero(self, run: Run) -> None:
        """Zero the weights that read silent units."""
        for name, columns in self.columns.items():
            run.params[name].mul_(columns)

    def chooses_widths(self, kind: RatioKind) -> bool:
        """Return True: all units are ranked together."""
        return True

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the removal of the silent units."""
        kept = self.state["kept"].cpu()
        removed = {
            name: (~kept[place]).nonzero()[:, 0]
            for name, place in places(self.candidates(run)).items()
        }
        return Plan(removed={name: units for name, units in removed.items() if len(units)})

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Drop the state; scores are no longer summed."""
        self.state, self.gradients, self.columns = {}, None, {}

    def figures(self) -> dict[str, float]:
        """Return d, on which the results depend, as `interval_steps`."""
        return {"interval_steps": float(self.options.interval_steps)}


def _not_linear(run: Run, members: list[Member]) -> list[Member]:
    return [member for member in members if not is_linear(run.graph, member)]
