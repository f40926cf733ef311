"""One-shot pruning of columns: those with the smallest mean |w| become zero, then fine-tuning.

Source: the script repository of IncReg's first author (MingSun-Tse/Scripts): ceil(r K) of a
layer's K columns leave, at the ratios that IncReg has. With `unit: row` the same for filters.
"""

from __future__ import annotations

from collections.abc import Mapping

from prunebench.channels.plan import Plan
from prunebench.core.phases import Budget, Phase, training
from prunebench.core.recipe import Recipe
from prunebench.methods.columns import ColumnMethod, ColumnOptions
from prunebench.methods.run import Run


class L1Columns(ColumnMethod[ColumnOptions]):
    """Columns with the smallest mean absolute weight of their layer become zero."""

    summary = "one-shot, smallest mean |w| of an im2col column (IncReg's control)"
    Options = ColumnOptions

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, fine_tune."""
        return [Phase(name="select", then=budget), training("fine_tune", recipes["fine_tune"])]

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the lowest of each layer; sums rank as means do, all columns being as long."""
        return self.lowest_plan(run, self.layer_shares(run, budget))
