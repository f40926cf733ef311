"""What methods wrote down about themselves: diagnostics.csv, made short enough for runs.csv."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunebench.core.errors import ResultError
from prunebench.core.files import read_csv

COLUMNS = ("phase", "step", "layer", "quantity", "value")
Short = dict[str, dict[str, list[Any]]]


@dataclass
class _Moments:
    """A quantity's finite values at each moment at which it was written down."""

    steps: list[int] = field(default_factory=list)  # over all phases that wrote anything
    values: list[list[float]] = field(default_factory=list)  # one per layer
    layers: list[str] = field(default_factory=list)  # of the last moment

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
        return {"step": self.steps} | {
            name: [_rounded(of(values)) for values in self.values]
            for name, of in (("low", min), ("middle", statistics.median), ("high", max))
        }


def read_insides(path: Path) -> Short:
    """Return {quantity: lists}; {} of a run that wrote nothing down.

    What was written at several moments has "step" (counted over the phases) and, over the layers,
    "low", "middle" (the median) and "high"; what was written once has "layer" and "value". Values
    that are not finite are left out. ResultError names a file that is missing or damaged.
    """
    found: dict[str, _Moments] = {}
    before, phase, last = 0, "", 0
    for row in read_csv(path, COLUMNS):
        step, value = _number(row, "step", path), _number(row, "value", path)
        if row["phase"] != phase or step < last:  # a new phase, or one of the same name again
            before, phase = before + last, row["phase"]
        last = int(step)
        if math.isfinite(value):
            found.setdefault(row["quantity"], _Moments()).add(before + last, row["layer"], value)
    return {quantity: moments.short() for quantity, moments in found.items()}


def _number(row: dict[str, str], name: str, path: Path) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError):
        raise ResultError(f"{path}: {name} is {row[name]!r}, not a number") from None


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
