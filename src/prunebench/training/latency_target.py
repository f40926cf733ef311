"""The latency that a run with a ratio of latency has reached, measured at its end.

The target is set by a prediction (`channels.predicted_latency`). Here the network is timed against
the whole one, in turns, several times over: the target is met if the median of the results is
within MET_WITHIN of it. If the results differ by more than that, they say nothing: the run is
unstable.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from statistics import median

import torch

from prunebench.experiments.latency_table import MET_WITHIN, LatencyTable
from prunebench.measure.latency import compare_latency
from prunebench.training.run import RunState

MEASUREMENTS = 3
REPEATS, WARMUP = {"cpu": 15, "cuda": 101}, {"cpu": 6, "cuda": 60}  # as for latency.json


@dataclass(frozen=True)
class LatencyReached:
    """The remaining share of the base's latency: asked for, predicted, and measured repeatedly.

    Rounded widths are not expected to meet the target.
    """

    asked: float
    predicted: float
    measured: tuple[float, ...]
    has_rounded_widths: bool = False

    @property
    def ratio(self) -> float:
        """Return the fraction of the base's latency that is removed."""
        return 1 - median(self.measured)

    @property
    def verdict(self) -> str:
        """Return "unstable", "met", "missed", or "not compared" for rounded widths.

        >>> LatencyReached(0.5, 0.5, (0.51, 0.52, 0.515)).verdict
        'met'
        >>> LatencyReached(0.5, 0.5, (0.56, 0.55, 0.55)).verdict
        'missed'
        >>> LatencyReached(0.5, 0.5, (0.5, 0.54, 0.5)).verdict
        'unstable'
        """
        if max(self.measured) > (1 + MET_WITHIN) * min(self.measured):
            return "unstable"
        if self.has_rounded_widths:
            return "not compared"
        is_near = abs(median(self.measured) - self.asked) <= MET_WITHIN * self.asked
        return "met" if is_near else "missed"

    def figures(self) -> dict[str, float]:
        """Return numbers for the result row, by column name."""
        found = {"ratio_reached": self.ratio, "ratio_predicted": 1 - self.predicted}
        marks = {"missed": {"ratio_missed": 1}, "unstable": {"ratio_unstable": 1}}
        return found | marks.get(self.verdict, {})

    def words(self) -> str:
        """Return one line for the terminal."""
        return (
            f"{self.ratio:.3f} of the latency removed ({1 - self.predicted:.3f} predicted, "
            f"{1 - self.asked:g} asked for): {self.verdict}"
        )


def latency_reached(
    run: RunState, table: LatencyTable, asked: float, *, has_rounded_widths: bool
) -> LatencyReached:
    """Time the network of a run against the whole one, on the device and batch of the table.

    `asked` is the share of the latency that should remain.
    """
    base, pruned = run.build(), copy.deepcopy(run.model)
    entries = [
        compare_latency(
            base,
            pruned,
            table.image,
            batch_size=table.batch_size,
            device=torch.device(table.device_kind),
            repeats=REPEATS[table.device_kind],
            warmup=WARMUP[table.device_kind],
            precision=table.precision,
        )
        for _ in range(MEASUREMENTS)
    ]
    return LatencyReached(
        asked=asked,
        predicted=run.cost("latency") / run.base_cost("latency"),
        measured=tuple(entry.median_ms / entry.base_median_ms for entry in entries),
        has_rounded_widths=has_rounded_widths,
    )
