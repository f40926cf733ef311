"""The columns of runs.csv: those of the published tables in their order, then ours.

What differs from the published schema (papers/published_rows): `paper` and `table` say beside which
printed table the run is put, and `printed` which of its rows it is; `task` is classification,
`flops_m` are millions of multiply-accumulates, `ratio` is the fraction
removed of what `ratio_kind` names and empty where the method decides, and `top1_std` is empty,
since a row is one run. `speedup_theoretical` counts zeros that are still there as saved
(base_macs / macs_theoretical), `speedup_macs` only what was removed (base_macs / macs).
`speedup_measured` stays empty: latencies have columns named after device and batch size, because
those of a CPU and a GPU never share one.

Read runs.csv back: one row per run, in the order in which it was collected.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from prunebench.core.errors import ResultError

PUBLISHED: tuple[str, ...] = (
    "paper",
    "table",
    "task",
    "dataset",
    "architecture",
    "method",
    "setting",
    "ratio",
    "ratio_kind",
    "base_top1",
    "top1",
    "top1_std",
    "base_top5",
    "top5",
    "base_map",
    "map",
    "flops_m",
    "flops_reduction_pct",
    "params_m",
    "params_reduction_pct",
    "speedup_theoretical",
    "speedup_measured",
    "note",
    "source",
)

NUMBERS: tuple[str, ...] = (
    "experiment",
    "seed",
    "macs",  # multiply-accumulates of one image, after removal
    "params",
    "base_macs",
    "base_params",
    "macs_theoretical",  # zeros that are still there are not counted
    "speedup_macs",  # base_macs / macs
    "sparsity_pct",  # of the convolution and linear weights left, those that are zero
    "activations",  # elements of all convolution outputs
    "val_top1",  # percent, as all accuracies
    "base_val_top1",
    "top1_best_val",
    "top1_best_test",
    "top1_masked",  # of the dense network with zeros, before removal
    "drop",  # base_top1 - top1, points
    "epochs",  # of all phases
    "epochs_scale",  # of a shortened experiment: share of its recipes' epochs
    "fine_tune_epochs",  # of the recipe with that role
    "training_seconds",
    "selection_seconds",
)
# Here stand the latencies, then the methods' own summary figures.
PROVENANCE: tuple[str, ...] = (
    "capped",  # phases that reached their cap unfinished, joined by ";"
    "start",  # base or fresh
    "recipes",  # JSON: {role: {"name": ..., the recipe}}
    "spec_hash",
    "base_hash",
    "device",
    "threads",
    "commit",
    "versions",  # JSON
    "widths",  # JSON: {layer: [kept, full]} in network order
    "stages",  # JSON: the layers' stages, in the same order
    "history",  # JSON: one list per name in HISTORY, one entry per row of history.csv
    "printed",  # JSON: architecture, method, setting, ratio of the printed row; null: the same
    "insides",  # JSON: what the method wrote down, as `insides.read_insides` shortens it
)
HISTORY: tuple[str, ...] = ("phase", "epoch", "event", "train_loss", "val_top1", "test_top1")
TEXT: tuple[str, ...] = (
    "paper",
    "table",
    "task",
    "dataset",
    "architecture",
    "method",
    "setting",
    "ratio_kind",
    "note",
    "source",
    "experiment",
    *(name for name in PROVENANCE if name != "threads"),
)

LATENCY = "latency_ms_"
BASE_LATENCY = "latency_base_ms_"
LATENCY_SPEEDUP = "latency_speedup_"


def latency_columns(device_kind: str, batch_size: int) -> tuple[str, str, str]:
    """Return the columns of the median, the base's median and their ratio.

    >>> latency_columns("cpu", 64)
    ('latency_ms_cpu_b64', 'latency_base_ms_cpu_b64', 'latency_speedup_cpu_b64')
    """
    where = f"{device_kind}_b{batch_size}"
    return LATENCY + where, BASE_LATENCY + where, LATENCY_SPEEDUP + where


def is_fixed(column: str) -> bool:
    """Whether every runs.csv has the column."""
    return column in _FIXED


def is_latency(column: str) -> bool:
    """Whether the column holds a latency or a ratio of two."""
    return column.startswith((LATENCY, BASE_LATENCY, LATENCY_SPEEDUP))


def ordered(columns: Iterable[str]) -> list[str]:
    """Return all fixed columns, with the given others in their place.

    Latencies are sorted by device, batch size and quantity, summary figures by name.
    """
    others = set(columns) - _FIXED
    latencies = sorted((name for name in others if is_latency(name)), key=_latency_key)
    figures = sorted(name for name in others if not is_latency(name))
    return [*PUBLISHED, *NUMBERS, *latencies, *figures, *PROVENANCE]


def _latency_key(column: str) -> tuple[str, int, int]:
    """Sort median, base's median, ratio of one device and batch size together."""
    quantities = (LATENCY, BASE_LATENCY, LATENCY_SPEEDUP)
    quantity = next(i for i, prefix in enumerate(quantities) if column.startswith(prefix))
    device, _, batch = column.removeprefix(quantities[quantity]).rpartition("_b")
    return device, int(batch), quantity


_FIXED = frozenset({*PUBLISHED, *NUMBERS, *PROVENANCE})


UNPRUNED = "unpruned"  # the method slug of the base network
NETWORK = ["dataset", "architecture"]
CELL = [*NETWORK, "method", "setting", "ratio", "ratio_kind"]  # what seeds are averaged over


def read_runs(path: Path) -> pd.DataFrame:
    """Read runs.csv; ResultError where it is missing, empty or no CSV.

    Names, hashes and JSON stay text (a setting may be called "none", a hash may look like a
    number); what remains are numbers, with NaN for an empty cell.
    """
    try:
        text = {name: str for name in TEXT}
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
