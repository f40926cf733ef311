"""Incremental regularization: a penalty per column that rises and falls with the column's rank.

Source: Wang, Zhang, Wang, Yu, Hu, Structured Deep Neural Network Pruning by Varying
Regularization Parameters, arXiv 1804.09461, and Structured Pruning via Incremental
Regularization, arXiv 1811.08390, as far as their code says (MingSun-Tse/Caffe_IncReg): the
papers' own sections and tables could not be had. In every step the columns of a layer are ranked
by L1 norm and the ranks averaged; the penalty of those that are to leave grows, the more the lower
they stand, that of the others falls to 0. A column whose penalty reaches a ceiling becomes zero. A
layer stops when the share of its pruned columns is its ratio.

The branches disagree. Defaults are those of [multi] (MultiStage_RegCol_2), which was released
with the models of the printed table; [one] is OneStage_RegCol, [scripts] a repository of settings.
- Increments are 0 at rank R (`pivot`); [one]: at R + 1, so that the first column to stay grows.
- The ceiling is multiplied by m(0.2) = 2.45, up to 10 (`ceiling_factor`); [one]: it is not.
- Scheme 2 (`growth: discontinuous`, used by [scripts]) has a base that follows the progress
  (`k2`); [one]: 0.1.
- A stays as it is (`A_decrease`); OneStage_ManyPrune: 0.9e-9 less in each step.
- Filters that nothing reads are removed (`roles`); [scripts]: not.
All branches let several columns reach the ceiling together, beyond the ratio; so does this, but
the last column of a layer stays. The weight decay goes on for all weights; the code's penalty is
off where it is 0, here it is not. `n` of the averaged rank counts the steps of the phase: from
zeros, every n that counts on by one gives the same order. The code's row mode does not work; here
rows follow the same formulas. Filters that nothing reads become zero at the next look (25 steps),
with a target in MACs at once.
Retraining follows a recipe, as with every method; [multi] divides the learning rate by 10 where
six tests (eight at first) bring no new best. No scheme of growth with a constant factor is in the
code: `growth: constant` is the control that the comparison asks for.
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
from prunebench.experiments.phases import Budget, HookName, Phase, Steps, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Before, Run
from prunebench.methods.increg.columns import ColumnMethod, count_to_prune, units_unused
from prunebench.methods.increg.formulas import staged_ceiling
from prunebench.methods.increg.layer_ratios import macs_left
from prunebench.methods.increg.penalty_table import (
    IncRegOptions,
    Layer,
    PenaltyTable,
    new_state,
)

STEPS: tuple[HookName, ...] = ("before_optimizer_step", "after_optimizer_step")
CAP = 30  # times ceiling / A: the last columns of a layer take longest
RATIO_STAGE = 0.2  # x of the ceiling factor where the ratio is given; [multi]


class IncReg(ColumnMethod[IncRegOptions]):
    """IncReg to given ratios.

    State while pruning: that of `increg_table.new_state`, and `hold`, the steps of the control.
    Always: `full`, the columns of each layer at the start of the run.
    """

    summary = "a penalty per column that grows by rank until it leaves (IncReg, Wang et al.)"
    Options = IncRegOptions
    recipe_roles = ("regularize", "loss_eval", "fine_tune")
    interval = Steps(25)
    stops_by_macs = True

    table: PenaltyTable

    # --- over time
    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return prune, loss_eval, fine_tune; the second trains as usual for some steps."""
        found = self.stage(recipes, budget)
        return [*found, training("fine_tune", recipes["fine_tune"])]

    def stage(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return prune, loss_eval."""
        options = self.options
        for role in ("regularize", "loss_eval"):
            if recipes[role].epochs is not None:
                raise ValueError(f"the method decides how long {role!r} is; its recipe must not")
        if options.A is None and not recipes["regularize"].weight_decay:
            raise ValueError("without a weight decay in 'regularize', option A must be given")
        cap = options.max_steps or CAP * self.hold(recipes["regularize"], RATIO_STAGE)
        prune = Phase(
            name="prune",
            recipe=recipes["regularize"],
            length=Steps(cap),
            until_finished=True,
            hooks=frozenset({"attach", "decide", "after_epoch", *STEPS}),
            reportable_from=None,
            then=budget,
        )
        if not options.loss_eval_steps:
            return [prune]
        return [
            prune,
            Phase(
                name="loss_eval",
                recipe=recipes["loss_eval"],
                length=Steps(options.loss_eval_steps),
                optimizer="carry",
                reportable_from=None,
            ),
        ]

    def ceiling_at(self, x: float) -> float:
        """Return the penalty at which a column leaves, in a stage that prunes a share x."""
        options = self.options
        if options.ceiling_factor == "none":
            return options.ceiling
        return staged_ceiling(options.ceiling, x)

    def hold(self, recipe: Recipe, x: float) -> int:
        """Return the steps that a column needs which always stands lowest."""
        return math.ceil(self.ceiling_at(x) / self.options.largest_increment(recipe.weight_decay))

    def before_phase(self, run: Run) -> None:
        """Begin pruning, with no penalty yet."""
        if run.phase.name == "prune":
            self.begin(run, self.layer_shares(run, self.budget(run)), RATIO_STAGE)

    def budget(self, run: Run) -> Budget:
        """Return what the phase is to prune."""
        assert run.phase.then is not None
        return run.phase.then

    def begin(self, run: Run, ratios: Mapping[str, float], x: float) -> None:
        """Make the table of the layers that are to lose more columns.

        Ratios are of the columns at the start of the run; those removed and zeroed since count.
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
                layers.append(Layer(weights[path], kept[path], goal))
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
        """Make what steps read besides the state: views of the table, and costs."""
        self.table = PenaltyTable(self.state, self.options, run.params)
        self.read_groups = self.groups_with_columns(run)
        counted, budget = self.counted_macs(run), self.budget(run)
        own = [counted[weight] for weight in self.table.views]
        self.layer_macs = torch.tensor(own, dtype=torch.float64, device=run.device)[:, None]
        self.macs_goal = None
        if budget.kind == "macs" and budget.ratio is not None:
            # All layers stop once theirs have fallen to this, whatever the ratio of each.
            others = sum(counted.values()) - sum(own)
            self.macs_goal = (1 - budget.ratio) * sum(counted.values()) - others
        return []

    def groups_with_columns(self, run: Run) -> list[ChannelGroup]:
        """Return the groups of which every reader may lose columns, on the run's device."""
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

    # --- within a step
    def before_optimizer_step(self, run: Run) -> None:
        """Change the penalties, prune what has reached the ceiling, add penalty * w to gradients.

        The objective's term is penalty / 2 times the column's squared norm; biases have none.
        """
        self.table.measure(run.params)
        if self.options.growth == "constant":
            reached = self.table.hold_penalty(self.state["hold"])
        else:
            reached = self.table.grow()
        self.table.prune(reached)
        if self.macs_goal is not None:
            self.silence_unread(run)
            self.table.stop((self.macs_left() <= self.macs_goal).view(1, 1))
        for weight, (penalty, _, _) in self.table.views.items():
            parameter = run.params[weight]
            assert parameter.grad is not None
            parameter.grad.addcmul_(parameter.detach(), penalty)

    def macs_left(self) -> Tensor:
        """Return the multiply-accumulates of the table's layers, float64 ()."""
        state = self.table.state
        rows, columns = state["row_share"], self.table.gone / state["size"]
        return macs_left(self.layer_macs, columns, rows).sum()

    @torch.no_grad()
    def silence_unread(self, run: Run) -> None:
        """Zero filters whose columns have gone in all layers, and note their share."""
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

    # --- between steps
    def decide(self, run: Run) -> None:
        """Zero the filters that nothing reads any more, so that they rank no columns."""
        self.silence_unread(run)

    def kept(self) -> dict[str, Tensor]:
        """Return what is kept of each weight, in a shape that broadcasts to the weight's."""
        return {weight: kept for weight, (_, _, kept) in self.table.views.items()}

    def finished(self, run: Run) -> bool:
        """Whether all layers have stopped."""
        return bool(self.state["stopped"].all())

    def after_epoch(self, run: Run) -> None:
        """Log penalties of live columns, pruned shares, and how many columns came to the lowest.

        While a layer prunes, also the mean norm of live columns that are to stay over that of
        those that are to leave.
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

    # --- afterwards
    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the columns that have been pruned, and the filters that they leave unread."""
        return self.plan(run, {weight: kept.flatten() for weight, kept in self.kept().items()})

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Drop the table; note how long it took, and how large columns were when they left."""
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
        """Return the steps of pruning, and the smallest magnitude ratio of a layer.

        That is the norm of columns that stayed over the norm of those that left, when they did:
        near 1 where the ceiling is too low for the learning rate to make them small before.
        """
        return dict(self.state.get("figures", {}))
