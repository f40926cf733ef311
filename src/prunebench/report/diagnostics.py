"""The diagnostics of a run (diagnostics.csv), shortened for one cell of runs.csv."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prunebench.experiments.results import DiagnosticRow

Short = dict[str, dict[str, list[Any]]]


@dataclass
class _Moments:
    """The finite values of a quantity at each step at which it was logged."""

    steps: list[int] = field(default_factory=list)  # counted over all phases
    values: list[list[float]] = field(default_factory=list)  # one per layer
    layers: list[str] = field(default_factory=list)  # of the last step

    def add(self, step: int, layer: str, value: float) -> None:
        if not self.steps or self.steps[-1] != step:
            self.steps.append(step)
            self.values.append([])
            self.layers.clear()
        self.values[-1].append(value)
        self.layers.append(layer)

    def short(self) -> dict[str, list[Any]]:
        if len(self.steps) == 1:
            return {"layer": self.layers, "value": [_rounded(v) for v in self.values[0]]}
        ordered = [sorted(values) for values in self.values]
        return {
            "step": self.steps,
            "low": [_rounded(values[0]) for values in ordered],
            "middle": [_rounded(_median(values)) for values in ordered],
            "high": [_rounded(values[-1]) for values in ordered],
        }


def summarize_diagnostics(rows: Iterable[DiagnosticRow]) -> Short:
    """Return {quantity: lists}, rounded to five digits.

    A quantity logged at several steps has "step" (counted over the phases) and, over the layers,
    "low", "middle" (the median) and "high". A quantity logged once has "layer" and "value". Values
    that are not finite are omitted.
    """
    found: defaultdict[str, _Moments] = defaultdict(_Moments)
    before, last_phase, last = 0, "", 0
    for phase, step, layer, quantity, value in rows:
        if phase != last_phase or step < last:  # a new phase, possibly of the same name
            before, last_phase = before + last, phase
        last = step
        if math.isfinite(value):
            found[quantity].add(before + step, layer, value)
    return {quantity: moments.short() for quantity, moments in found.items()}


def _median(ordered: Sequence[float]) -> float:
    """Return the median of values in ascending order; faster than `statistics.median`."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
