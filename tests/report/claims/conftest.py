"""Runs of two methods with known accuracies, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tests.report.conftest import few_runs


def runs_of(accuracies: Mapping[str, Sequence[float]], **more: Any) -> pd.DataFrame:
    """Return a run per method and seed, from accuracies by seed; 1000 test images."""
    rows = [
        {"method": method, "seed": seed, "accuracy": value, "test_images": 1000, **more}
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    return few_runs(*rows)


def write_runs(folder: Path, runs: pd.DataFrame) -> None:
    """Write runs as a runs.csv, with the names that accuracies have in a file."""
    folder.mkdir(parents=True)
    runs.rename(columns={"accuracy": "top1", "base_accuracy": "base_top1"}).to_csv(
        folder / "runs.csv", index=False
    )
