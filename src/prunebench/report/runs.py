"""Read runs.csv back: one row per run, in the order in which it was collected."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from prunebench.core.errors import ResultError
from prunebench.report import columns

NETWORK = ["dataset", "architecture"]
CELL = [*NETWORK, "method", "setting", "ratio", "ratio_kind"]  # what seeds are averaged over


def read_runs(path: Path) -> pd.DataFrame:
    """Read runs.csv; ResultError where it is missing, empty or no CSV.

    Names, hashes and JSON stay text (a setting may be called "none", a hash may look like a
    number); what remains are numbers, with NaN for an empty cell.
    """
    try:
        text = {name: str for name in columns.TEXT}
        frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file") from None
    except ValueError as error:  # not UTF-8, no header, or rows of other lengths
        raise ResultError(f"{path}: not a table of runs ({error})") from None
    require(frame, CELL, str(path))
    return frame


def require(frame: pd.DataFrame, names: Iterable[str], where: str = "runs.csv") -> None:
    """Raise ResultError where the frame has no rows, or lacks one of the columns."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ResultError(f"{where}: the column {missing[0]!r} is missing")
    if frame.empty:
        raise ResultError(f"{where}: holds no runs")


def networks(frame: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Return ((dataset, architecture), rows) in the order of first appearance."""
    groups = frame.groupby(NETWORK, sort=False)
    return [((str(name[0]), str(name[1])), rows) for name, rows in groups]


def json_cells(runs: pd.DataFrame, column: str) -> list[Any]:
    """Return the column's cells read as JSON, None for an empty one.

    ResultError names method and seed of a damaged cell.
    """
    require(runs, [column, "method", "seed"])
    found = []
    for text, method, seed in zip(runs[column], runs["method"], runs["seed"], strict=True):
        try:
            found.append(None if pd.isna(text) else json.loads(text))
        except json.JSONDecodeError as error:
            where = f"runs.csv: {column} of {method}, seed {seed}"
            raise ResultError(f"{where}, is not valid JSON ({error})") from None
    return found
