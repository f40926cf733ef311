"""The ratio that is asked for, the one that is reached, and the largest that can be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from prunebench.core.errors import ConfigError, TrainingError
from prunebench.core.names import unknown_name
from prunebench.experiments.phases import Budget, RatioKind, is_cost
from prunebench.experiments.validation import validate
from prunebench.methods.base import Method, MethodOptions
from prunebench.own_network.own_run import OwnRun
from prunebench.training.pruning import reached_ratio

WORDS: dict[str, str] = {
    "macs": "the MACs",
    "params": "the parameters",
    "activations": "the activations",
    "units_global": "all units",
    "units_per_group": "the units of each group",
}
STEPS = 30  # of a bisection over ratios: a millionth of the ratio


@dataclass(frozen=True)
class Target:
    """The ratio that is asked for.

    Attributes
    ----------
    kind
        What the ratio is a fraction of, as in experiments; "auto" for ratios by group.
    ratio
        Fraction to remove, in [0, 1); None for ratios by group and if the method decides it.
    """

    kind: RatioKind
    ratio: float | None

    @property
    def budget(self) -> Budget:
        """Return it as the budget of a phase."""
        return Budget(kind=self.kind, ratio=self.ratio)

    def __str__(self) -> str:
        return "ratios by group" if self.ratio is None else f"{self.ratio:g} of {WORDS[self.kind]}"


def target_of(
    kind: type[Method[Any]],
    name: str,
    ratio: float | None,
    ratio_kind: str,
    ratios: Mapping[str, float] | None,
    *,
    is_searched: bool = False,
) -> Target:
    """Return the target of the arguments; ConfigError in one line if they do not go together.

    The ratio may be missing if it is searched.
    """
    if is_searched and ratios is not None:
        raise ConfigError("max_drop and ratios exclude each other; max_drop searches one ratio")
    if ratio is not None and ratios is not None:
        raise ConfigError("ratio and ratios exclude each other; a pattern '*' is for the rest")
    for pattern, own in (ratios or {}).items():
        if not 0 <= own < 1:
            raise ConfigError(
                f"ratios: {pattern!r}: {own} is not in [0, 1), the fraction to remove"
            )
    if ratio is None and not is_searched:
        if ratios is None and not kind.decides_ratio:
            raise ConfigError("ratio: missing; give ratio=, or ratios= by group")
        return Target("auto", None)
    allowed = [own for own in kind.ratio_kinds if own not in ("auto", "latency", "weights")]
    if ratio_kind not in allowed:
        raise ConfigError(unknown_name(f"ratio_kind of {name}", ratio_kind, allowed))
    if ratio is not None and kind.ratios is not None and ratio not in kind.ratios:
        raise ConfigError(f"ratio: {name} allows {', '.join(map(str, kind.ratios))}, not {ratio}")
    if ratio is not None and not 0 <= ratio < 1:
        raise ConfigError(f"ratio: {ratio} is not in [0, 1), the fraction to remove")
    return Target(ratio_kind, ratio)  # type: ignore[arg-type]


def options_of(kind: type[Method[Any]], name: str, given: Mapping[str, Any]) -> MethodOptions:
    """Return the options of a method; ConfigError in one line for an unknown or invalid one."""
    if given.get("round_to", 1) > 1 and not kind.rounds_widths:
        raise ConfigError(f"{name} cannot round widths; remove round_to")
    if given.get("widths_from") is not None:
        raise ConfigError("widths_from names a run of an experiment; give ratios= by group")
    return validate(kind.Options, given, name)


def check_reach(method: Method[Any], run: OwnRun, target: Target) -> None:
    """Raise TrainingError with the largest ratio, and what limits it, if it is below the target."""
    is_shared = target.kind == "units_global" or is_cost(target.kind)
    if not is_shared or not target.ratio:
        return
    least, _ = method.least(run)
    whole, now = method.counted(run, target.budget, least)
    if now > (1 - target.ratio) * whole:
        raise out_of_reach(run, target, 1 - now / whole, len(least))


def out_of_reach(run: OwnRun, target: Target, largest: float, groups: int) -> TrainingError:
    """Return the error of a target whose ratio can be `largest` at most."""
    kept = f"; keep= leaves {len(run.whole)} groups whole" if run.whole else ""
    return TrainingError(
        f"ratio {target} is out of reach; the largest is "
        f"{math.floor(largest * 1e4) / 1e4:g}, with as few units as possible in each of {groups} "
        f"groups{kept}"
    )


def asked_for(method: Method[Any], run: OwnRun, target: Target) -> Budget:
    """Return the budget whose rounded widths reach the target.

    Rounding widths up keeps more than the ratio allows, so the method is asked for a larger ratio:
    the smallest, up to a millionth, with which the rounded widths meet the target.

    Raises
    ------
    TrainingError
        If the rounded widths of no ratio reach it.
    """
    budget = target.budget
    is_scored = type(method).score is not Method.score
    if (
        method.options.round_to == 1
        or not is_scored
        or not is_cost(budget.kind)
        or not budget.ratio
    ):
        return budget
    scores = method.score(run, method.candidates(run))
    low, high = budget.ratio, max(budget.ratio, unrounded(method, run, target))
    if reached_by(method, run, scores, replace(budget, ratio=low)) >= budget.ratio:
        return budget
    most = reached_by(method, run, scores, replace(budget, ratio=high))
    if most < budget.ratio:
        raise out_of_reach(run, target, most, len(scores))
    for _ in range(STEPS):
        middle = (low + high) / 2
        if reached_by(method, run, scores, replace(budget, ratio=middle)) >= budget.ratio:
            high = middle
        else:
            low = middle
    return replace(budget, ratio=high)


def unrounded(method: Method[Any], run: OwnRun, target: Target) -> float:
    """Return the largest ratio before widths are rounded, with one unit left in each group.

    A little less than that, which its own rounding could put out of reach.
    """
    whole, now = method.counted(run, Target(target.kind, 0.0).budget, method.least(run)[0])
    return (1 - 1e-9) * (1 - now / whole)


def most_ratio(method: Method[Any], run: OwnRun, target: Target) -> float:
    """Return the largest ratio that can be reached, widths rounded."""
    if not is_cost(target.kind):
        return 1 - 1 / max(group.n_units for group in method.candidates(run).values())
    ratio = unrounded(method, run, target)
    if method.options.round_to == 1:
        return ratio
    scores = method.score(run, method.candidates(run))
    # Less than the ratio that is reached, so that it is reached again.
    return (1 - 1e-9) * reached_by(method, run, scores, Budget(kind=target.kind, ratio=ratio))


def reached_by(
    method: Method[Any], run: OwnRun, scores: Mapping[str, Tensor], budget: Budget
) -> float:
    """Return the ratio that the rounded widths of a budget reach."""
    counts = method.allocate(run, scores, budget)
    left = {name: len(run.kept[name]) - count for name, count in counts.items()}
    whole, now = method.counted(run, budget, left)
    return 1 - now / whole


def achieved(method: Method[Any], run: OwnRun, target: Target) -> float | None:
    """Return the ratio that a run has reached; None for ratios by group."""
    if target.kind == "auto":
        return None
    if target.kind == "units_per_group":
        sizes = {name: run.sizes[name] for name in method.candidates(run)}
        whole, left = sum(sizes.values()), sum(len(run.kept[name]) for name in sizes)
        return 1 - left / whole if whole else 0.0
    return reached_ratio(method, run, target.budget)
