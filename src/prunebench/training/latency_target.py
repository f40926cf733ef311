"""The latency that a run with a ratio of latency has reached, measured at its end.

The target is set by a prediction (`channels.predicted_latency`). Here the network is timed against
the whole one by the protocol of every latency (`measure.latency`). The target is met if the result
is within MET_WITHIN of it; an unstable measurement is repeated a few times and then says nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from prunebench.experiments.latency_table import MET_WITHIN, LatencyTable
from prunebench.measure.latency import compare_latency
from prunebench.training.run import RunState

MEASUREMENTS = 3  # at most, until one is stable


@dataclass(frozen=True)
class LatencyReached:
    """The remaining share of the base's latency: asked for, predicted, and measured.

    Rounded widths are not expected to meet the target.
    """

    asked: float
    predicted: float
    measured: float
    is_unstable: bool = False
    has_rounded_widths: bool = False

    @property
    def ratio(self) -> float:
        """Return the fraction of the base's latency that is removed."""
        return 1 - self.measured

    @property
    def verdict(self) -> str:
        """Return "unstable", "met", "missed", or "not compared" for rounded widths.

        >>> LatencyReached(0.5, 0.5, 0.52).verdict, LatencyReached(0.5, 0.5, 0.55).verdict
        ('met', 'missed')
        """
        if self.is_unstable:
            return "unstable"
        if self.has_rounded_widths:
            return "not compared"
        is_near = abs(self.measured - self.asked) <= MET_WITHIN * self.asked
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
    for _ in range(MEASUREMENTS):
        entry = compare_latency(
            base,
            pruned,
            table.image,
            batch_size=table.batch_size,
            device=torch.device(table.device_kind),
            precision=table.precision,
        )
        if not entry.unstable:
            break
    return LatencyReached(
        asked=asked,
        predicted=run.cost("latency") / run.base_cost("latency"),
        measured=entry.median_ms / entry.base_median_ms,
        is_unstable=bool(entry.unstable),
        has_rounded_widths=has_rounded_widths,
    )
