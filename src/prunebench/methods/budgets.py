"""Whether a budget is met: one rule for a selection at once and for what shrinks in training."""

from __future__ import annotations

from collections.abc import Mapping

from prunebench.core.errors import TrainingError
from prunebench.core.phases import Budget
from prunebench.methods.run import Run


def is_met(run: Run, budget: Budget, left: Mapping[str, int]) -> bool:
    """Return whether a budget is met with so many units left of some groups, and the rest as is.

    Units of all groups: floor(ratio N) have left, of what may leave at all. Multiply-accumulates
    and parameters: at most (1 - ratio) of the network's that the run started from.
    """
    assert budget.ratio is not None
    if budget.kind == "units_global":
        now = {name: len(units) for name, units in run.kept.items()} | dict(left)
        # A group of which one unit is left cannot lose more; it counts all the same.
        counted = [name for name, n in run.sizes.items() if name in left or now[name] < n]
        population = sum(run.sizes[name] for name in counted)
        return population - sum(now[name] for name in counted) >= int(budget.ratio * population)
    if budget.kind == "macs":
        return run.costs.macs(left) <= (1 - budget.ratio) * run.base_macs
    return run.costs.params(left) <= (1 - budget.ratio) * run.base_params


def out_of_reach(run: Run, budget: Budget, groups: int) -> TrainingError:
    """Return the error of a budget that one unit in each of so many groups does not meet."""
    return TrainingError(
        f"phase {run.phase.name!r}: ratio {budget.ratio} of {budget.kind} is out of reach with "
        f"one unit left in each of {groups} groups; a smaller ratio, or more roles"
    )
