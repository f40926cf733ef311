"""What a run writes down while it trains: a row per epoch and per removal, diagnostics, times."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunebench.core.files import write_csv

HISTORY = (
    "phase",
    "epoch",  # 1 is a phase's first; a part of one at its end counts
    "step",  # of the phase
    "lr",
    "train_loss",
    "train_top1",  # percent, as all accuracies; of augmented images in training mode
    "val_top1",
    "test_top1",
    "macs",
    "seconds",  # since the row before
    "event",  # "pruned": just after a removal; otherwise empty
    "reportable",  # whether the network after this epoch may be a result
)
DIAGNOSTICS = ("phase", "step", "layer", "quantity", "value")
Row = dict[str, Any]


@dataclass
class Records:
    """Rows and sums of a run; all of it goes into checkpoints."""

    history: list[Row] = field(default_factory=list)
    diagnostics: list[Row] = field(default_factory=list)
    plans: list[Row] = field(default_factory=list)  # one per applied plan
    capped: list[str] = field(default_factory=list)  # phases that reached their cap unfinished
    seconds: dict[str, float] = field(default_factory=dict)  # by phase, measured
    epochs_trained: float = 0.0
    resumed_at: list[list[str | int]] = field(default_factory=list)  # [phase, step] of each time
    pending: list[tuple[int, str, str, Tensor]] = field(default_factory=list)

    def note(self, step: int, layer: str, quantity: str, value: Tensor) -> None:
        """Keep a diagnostic on its device until `flush`."""
        self.pending.append((step, layer, quantity, value.detach().clone()))

    def flush(self, phase: str) -> None:
        """Turn the pending diagnostics into rows, with one copy from the device."""
        if not self.pending:
            return
        values = torch.stack([v.reshape(()).double() for *_, v in self.pending]).tolist()
        for (step, layer, quantity, _), value in zip(self.pending, values, strict=True):
            self.diagnostics.append(
                dict(zip(DIAGNOSTICS, (phase, step, layer, quantity, value), strict=True))
            )
        self.pending.clear()

    def spend(self, phase: str, seconds: float) -> None:
        """Add to a phase's time."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def write(self, folder: Path) -> None:
        """Write history.csv and diagnostics.csv."""
        write_csv(folder / "history.csv", HISTORY, self.history)
        write_csv(folder / "diagnostics.csv", DIAGNOSTICS, self.diagnostics)
