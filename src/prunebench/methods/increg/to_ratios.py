"""IncReg: a penalty per column that grows or falls with the column's rank, to given ratios.

Source: Wang, Zhang, Wang, Yu, Hu, Structured Deep Neural Network Pruning by Varying Regularization
Parameters, arXiv 1804.09461, and Structured Pruning via Incremental Regularization, arXiv
1811.08390, as their code shows (MingSun-Tse/Caffe_IncReg): the method sections and tables of the
papers were not available. In every step the columns of a layer are ranked by L1 norm and the ranks
are averaged over the steps. The penalties of the columns to prune grow, faster at lower ranks;
those of the others fall to 0. A column whose penalty reaches a ceiling becomes zero. A layer stops
when the share of its pruned columns has reached its ratio.

The branches of the code disagree. The defaults are those of [multi] (MultiStage_RegCol_2), which
was released with the models of the printed table; [one] is OneStage_RegCol, [scripts] a repository
of settings.

- Increments are 0 at rank R (`pivot`); [one]: at R + 1, so that the first column to keep grows.
- The ceiling is multiplied by m(0.2) = 2.45, up to 10 (`ceiling_factor`); [one]: it is not.
- Scheme 2 (`growth: discontinuous`, used by [scripts]) has a base that follows the progress (`k2`);
  [one]: 0.1.
- A is constant (`A_decrease`); OneStage_ManyPrune: it falls by 0.9e-9 in each step.
- Filters that nothing reads are removed (`roles`); [scripts]: they are not.

All branches let several columns reach the ceiling together, beyond the ratio; so does this module,
but the last column of a layer stays, and a target in MACs or parameters is met to one column or
row. The weight decay applies to all weights. The code's penalty is
off where the weight decay is 0; here it is not. `n` of the averaged rank counts the steps of the
phase; starting from zeros, any n that counts up by one gives the same order. The code's row mode
does not work; here rows follow the same formulas. Filters that nothing reads become zero at the
next decision (every 25 steps), with a target in MACs at once.

Retraining follows a recipe, as in every method; [multi] divides the learning rate by 10 after six
tests (eight at first) without a new best. The code has no growth by a constant: `growth: constant`
is a control for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.channels.single_layers import entry_mask
from prunebench.channels.unit_weights import producers
from prunebench.experiments.phases import Budget, HookName, Phase, Steps, training, training_for
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Before, Run
from prunebench.methods.increg.columns import ColumnMethod, count_to_prune, units_unused
from prunebench.methods.increg.formulas import ranks, staged_ceiling
from prunebench.methods.increg.layer_ratios import macs_left
from prunebench.methods.increg.penalty_table import (
    IncRegOptions,
    PenaltyTable,
    PrunedLayer,
    new_state,
)

MAX_STEPS = 30  # in units of ceiling / A: the last columns of a layer take longest
RATIO_STAGE = 0.2  # x of the ceiling factor if ratios are given; [multi]


class IncReg(ColumnMethod[IncRegOptions]):
    """IncReg to given ratios.

    While pruning, the state is that of `penalty_table.new_state` with `hold`, the number of steps
    of the control. It always has `full`, the number of columns of each layer at the run's start.
    """

    summary = "a penalty per im2col column that grows by rank until it is zeroed (Wang et al.)"
    Options = IncRegOptions
    recipe_roles = ("regularize", "loss_eval", "fine_tune")
    interval = Steps(25)
    stops_at_target = True

    table: PenaltyTable

    def run_revision(self, budget: Budget) -> int:
        """Return one more than `revision` for a target in MACs, which is no longer exceeded."""
        return self.revision + (budget.kind == "macs")

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return prune, loss_eval (some steps of ordinary training) and fine_tune."""
        found = self.stage(recipes, budget)
        return [*found, training("fine_tune", recipes["fine_tune"])]

    def stage(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return prune and loss_eval."""
        options = self.options
        if options.A is None and not recipes["regularize"].weight_decay:
            raise ValueError("option A is required if the recipe 'regularize' has no weight decay")
        cap = options.max_steps or MAX_STEPS * self.hold(recipes["regularize"], RATIO_STAGE)
        within_steps: set[HookName] = {"before_optimizer_step", "after_optimizer_step"}
        prune = training_for(
            "prune",
            recipes["regularize"],
            Steps(cap),
            until_finished=True,
            hooks=frozenset({"attach", "decide", "after_epoch", *within_steps}),
            reportable_from=None,
            then=budget,
        )
        loss_eval = training_for(
            "loss_eval",
            recipes["loss_eval"],
            Steps(options.loss_eval_steps),
            optimizer="carry",
            reportable_from=None,
        )
        return [prune, loss_eval] if options.loss_eval_steps else [prune]

    def ceiling_at(self, x: float) -> float:
        """Return the penalty at which a column is pruned, in a stage that prunes a share x."""
        options = self.options
        if options.ceiling_factor == "none":
            return options.ceiling
        return staged_ceiling(options.ceiling, x)

    def hold(self, recipe: Recipe, x: float) -> int:
        """Return the number of steps to the ceiling of a column that always has the lowest rank."""
        return math.ceil(self.ceiling_at(x) / self.options.largest_increment(recipe.weight_decay))

    def before_phase(self, run: Run) -> None:
        """Begin pruning, with all penalties 0."""
        if run.phase.name == "prune":
            self.begin(run, self.layer_shares(run, self.budget(run)), RATIO_STAGE)

    def begin(self, run: Run, ratios: Mapping[str, float], x: float) -> None:
        """Make the table of the layers that will lose more columns.

        Ratios refer to the columns at the start of the run and include those removed or zeroed
        since.
        """
        recipe = run.phase.recipe
        assert recipe is not None
        weights = self.layers(run)
        kept = {path: self.kept_before(run, weight) for path, weight in weights.items()}
        full = self.state.setdefault("full", {path: len(units) for path, units in kept.items()})
        layers = []
        for path, ratio in ratios.items():
            goal = count_to_prune(full[path], ratio) - (full[path] - len(kept[path]))
            if goal > int((~kept[path]).sum()):
                layers.append(PrunedLayer(weights[path], kept[path], goal))
        like = next(iter(run.params.values()))
        A, ceiling = self.options.largest_increment(recipe.weight_decay), self.ceiling_at(x)
        self.state |= new_state(layers, like.detach(), A=A, ceiling=ceiling)
        self.state["hold"] = self.hold(recipe, x)
        table = PenaltyTable(self.state, self.options, run.params)
        table.measure(run.params)
        table.rank_first()
        if self.options.growth == "constant":
            chosen = self.state["chosen"] & self.state["kept"]
            self.state["penalty"].copy_(chosen * self.state["ceiling"])

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Build the tensors that steps read besides the state: views of the table, and costs."""
        self.table = PenaltyTable(self.state, self.options, run.params)
        self.read_groups = self.groups_with_columns(run)
        budget = self.budget(run)
        self.goal = None
        if budget.kind in ("macs", "params") and budget.ratio is not None:
            # All layers stop once their costs have fallen to this, whatever the ratio of each.
            counted = self.counted_costs(run, budget)
            own = [counted[weight] for weight in self.table.views]
            self.layer_costs = torch.tensor(own, dtype=torch.float64, device=run.device)[:, None]
            others = sum(counted.values()) - sum(own)
            self.goal = (1 - budget.ratio) * sum(counted.values()) - others
        return []

    def groups_with_columns(self, run: Run) -> list[ChannelGroup]:
        """Return the groups in which every reader may lose columns, on the run's device."""
        if self.options.unit == "row":
            return []
        pruned = {**run.masks, **self.kept()}
        return [
            replace(
                group,
                members=tuple(replace(m, index=m.index.to(run.device)) for m in group.members),
            )
            for group in self.candidates(run).values()
            if all(m.parameters[0] in pruned for m in group.members if m.role == "in")
        ]

    def before_optimizer_step(self, run: Run) -> None:
        """Update the penalties, prune columns at the ceiling, add penalty * w to the gradients.

        This is the gradient of penalty / 2 times a column's squared norm; biases have no penalty.
        """
        self.table.measure(run.params)
        if self.options.growth == "constant":
            reached = self.table.hold_penalty(self.state["hold"])
        else:
            reached = self.table.grow()
        self.table.prune(reached if self.goal is None else self.up_to_goal(reached, self.goal))
        if self.goal is not None:
            self.silence_unread(run)
            self.table.stop((self.cost_left() <= self.goal).view(1, 1))
        for weight, (penalty, _, _) in self.table.views.items():
            parameter = run.params[weight]
            assert parameter.grad is not None
            parameter.grad.addcmul_(parameter.detach(), penalty)

    def cost_left(self) -> Tensor:
        """Return the remaining MACs or parameters of the table's layers, a float64 scalar."""
        state = self.table.state
        rows, columns = state["row_share"], self.table.gone / state["size"]
        return macs_left(self.layer_costs, columns, rows).sum()

    def up_to_goal(self, reached: Tensor, goal: float) -> Tensor:
        """Return as many of the columns at the ceiling as the target needs, lowest ranks first.

        Many may reach it in one step. Rows also save MACs of other layers, which the number of rows
        of each layer takes into account. Bool, (layers, columns).
        """
        state = self.table.state
        if self.options.unit == "row":
            place = ranks(state["rank"].masked_fill(~reached, torch.inf))
            return reached & (place < state["goal"] - self.table.gone)
        each = self.layer_costs * (1 - state["row_share"]) / state["size"]
        order = state["rank"].masked_fill(~reached, torch.inf).flatten().argsort(stable=True)
        saved = (each * reached).flatten()[order]
        needed = saved.cumsum(0) - saved < self.cost_left() - goal
        chosen = torch.zeros_like(needed).scatter(0, order, needed)
        return reached & chosen.view_as(reached)

    @torch.no_grad()
    def silence_unread(self, run: Run) -> None:
        """Zero the filters whose columns are pruned in all readers; record their share by layer."""
        kept = {**run.masks, **self.kept()}
        for group in self.read_groups:
            used = ~units_unused(group, kept, "in")
            for member in producers(group):
                filters = entry_mask(run.params[member.parameters[0]], member, used)
                run.params[member.parameters[0]].mul_(filters)
                if member.parameters[0] in self.table.views:
                    row = list(self.table.views).index(member.parameters[0])
                    self.table.state["row_share"][row] = 1 - filters.double().mean()

    @torch.no_grad()
    def after_optimizer_step(self, run: Run) -> None:
        """Keep pruned columns at zero."""
        for weight, (_, _, kept) in self.table.views.items():
            run.params[weight].mul_(kept)

    def decide(self, run: Run) -> None:
        """Zero the filters that nothing reads, so that they do not affect the ranks of columns."""
        self.silence_unread(run)

    def kept(self) -> dict[str, Tensor]:
        """Return the mask of kept columns by weight, which broadcasts to the weight's shape."""
        return {weight: kept for weight, (_, _, kept) in self.table.views.items()}

    def finished(self, run: Run) -> bool:
        """Return whether all layers have stopped."""
        return bool(self.state["stopped"].all())

    def after_epoch(self, run: Run) -> None:
        """Log penalties of kept columns, pruned shares and the number of newly lowest columns.

        Until a layer stops, also log the magnitude ratio: the mean norm of the columns to keep over
        that of the columns to prune.
        """
        if run.phase.name != "prune":
            return
        self.table.measure(run.params)
        lowest, stopped = self.table.lowest(), self.state["stopped"].flatten().tolist()
        for row, weight in enumerate(self.table.views):
            layer, own = weight.rpartition(".")[0], slice(0, self.table.views[weight][0].numel())
            kept, penalty, norms, low, before = (
                table[row, own]
                for table in (
                    self.state["kept"],
                    self.state["penalty"],
                    self.table.norms,
                    lowest,
                    self.state["chosen"],
                )
            )
            run.log(layer, "penalty", penalty[kept].mean())
            run.log(layer, "penalty_max", penalty[kept].max())
            run.log(layer, "pruned_share", 1 - kept.double().mean())
            run.log(layer, "rank_changes", (low & ~before).sum())
            if not stopped[row]:
                ratio = norms[kept & ~low].mean() / norms[kept & low].mean()
                run.log(layer, "magnitude_ratio", ratio)
        self.state["chosen"].copy_(lowest)

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the plan for the pruned columns and the filters that nothing reads."""
        return self.plan(run, {weight: kept.flatten() for weight, kept in self.kept().items()})

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Drop the table; record the number of steps and the smallest magnitude ratio."""
        figures = dict(self.state.get("figures", {}))
        steps = float(self.state["iteration"])
        figures["prune_steps"] = figures.get("prune_steps", 0.0) + steps
        ratios = [*self.table.magnitude_ratios().tolist(), figures.get("magnitude_ratio")]
        if known := [ratio for ratio in ratios if ratio is not None]:
            figures["magnitude_ratio"] = min(known)
        for key in ("hold", *new_state([], torch.zeros(()), A=0.0, ceiling=0.0)):
            del self.state[key]
        self.state["figures"] = figures

    def figures(self) -> dict[str, float]:
        """Return the number of steps of pruning and the smallest magnitude ratio of a layer.

        The ratio is the norm of kept columns over that of pruned columns when these were pruned. It
        is near 1 if the ceiling is too low for the learning rate to make them small before.
        """
        return dict(self.state.get("figures", {}))
