"""The epochs of a run as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prunebench.experiments.results import HistoryRow

if TYPE_CHECKING:
    import pandas as pd


def history_table(rows: Sequence[HistoryRow]) -> pd.DataFrame:
    """Return the epochs of a run: phase, epoch, step, lr, loss, accuracy in percent, seconds."""
    import pandas as pd

    cells = [
        (r.phase, r.epoch, r.step, r.lr, r.train_loss, r.train_accuracy, r.macs, r.seconds)
        for r in rows
        if not r.event
    ]
    columns = ["phase", "epoch", "step", "lr", "loss", "accuracy", "macs", "seconds"]
    return pd.DataFrame(cells, columns=columns)
