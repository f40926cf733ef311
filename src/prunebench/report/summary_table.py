"""What a summary table shows, before it is Markdown, LaTeX or HTML."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunebench.experiments.spec import ratio_slug
from prunebench.report.cells import Cell, Style, number_cell
from prunebench.report.fairness import fairness
from prunebench.report.runs_csv import LATENCY_SPEEDUP, NETWORK, networks
from prunebench.report.summary import UNPRUNED, summarize


@dataclass(frozen=True)
class Column:
    """One printed column of numbers or words."""

    name: str  # in the summary
    head: str
    unit: str = ""
    style: Style = "text"
    spread: bool = False  # prints ± where there are two seeds or more
    beside: str = ""  # vanishes where it says what this column says


@dataclass(frozen=True)
class Line:
    """One printed row."""

    cells: tuple[Cell, ...]
    is_base: bool
    opens_ratio: bool  # the first of a block of rows with the same ratio


@dataclass(frozen=True)
class Section:
    """The rows of one network on one data set."""

    dataset: str
    architecture: str
    base: str
    fairness: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A title, the columns that have a value somewhere, and a section per network."""

    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]


def lay_out(frame: pd.DataFrame, title: str | None = None) -> Table:
    """Return the summary table of runs; without a title, their experiments are the title."""
    summary = summarize(frame)
    shown = _shown_columns(summary)
    sections = []
    for (dataset, architecture), runs in networks(frame):
        here = (summary[NETWORK] == [dataset, architecture]).all(axis=1)
        sections.append(
            Section(
                dataset,
                architecture,
                _base(runs),
                str(fairness(runs)),
                _lines(summary[here], shown),
                tuple(_notes(runs)),
            )
        )
    return Table(title or _experiments(frame), shown, tuple(sections))


def _shown_columns(summary: pd.DataFrame) -> tuple[Column, ...]:
    """Return the columns in reading order, without those that would be empty everywhere."""
    latencies = [name for name in summary.columns if _is_latency_mean(name)]
    candidates = (
        Column("method", "method"),
        Column("setting", "setting"),
        Column("ratio", "ratio"),
        Column("n", "n", style="count"),
        Column("top1", "top-1", "%", "points", spread=True),
        Column("drop", "drop", "points", "points", spread=True),
        Column("top1_masked", "masked", "top-1 %", "points", True, beside="top1"),
        Column("speedup_macs", "MACs", "speedup", "speedup"),
        Column("speedup_theoretical", "theoretical", "speedup", "speedup", beside="speedup_macs"),
        Column("sparsity_pct", "sparsity", "%", "percent"),
        Column("params_reduction_pct", "params", "removed %", "percent"),
        *(Column(n, f"latency {_place(n)}", "speedup", "speedup", True) for n in latencies),
        Column("selection_seconds", "selection", "s", "significant"),
        Column("magnitude_ratio", "magnitude", "kept/pruned", "significant"),
    )
    return tuple(c for c in candidates if c.name in summary and _says_something(summary, c))


def _is_latency_mean(name: str) -> bool:
    return name.startswith(LATENCY_SPEEDUP) and not name.endswith("_std")


def _place(latency: str) -> str:
    """Return device and batch size.

    >>> _place("latency_speedup_cpu_b64")
    'CPU b64'
    """
    device, _, batch = latency.removeprefix(LATENCY_SPEEDUP).rpartition("_")
    return f"{device.upper()} {batch}"


def _says_something(summary: pd.DataFrame, column: Column) -> bool:
    values = summary[column.name]
    if column.name == "setting":
        return bool((values != "default").any())
    if column.name == "sparsity_pct":
        return bool((values > 0).any())
    if column.beside:
        return bool((values.notna() & (values != summary[column.beside])).any())
    return bool(values.notna().any())


def _lines(summary: pd.DataFrame, shown: tuple[Column, ...]) -> tuple[Line, ...]:
    lines = []
    before: str | None = None
    for row in summary.to_dict("records"):
        block = _ratio(row)
        is_base = row["method"] == UNPRUNED
        cells = tuple(_cell(row, column) for column in shown)
        lines.append(Line(cells, is_base, not is_base and block != before))
        before = None if is_base else block
    return tuple(lines)


def _cell(row: Mapping[Hashable, Any], column: Column) -> Cell:
    if column.name == "ratio":
        return Cell(_ratio(row), key=2.0 if math.isnan(row["ratio"]) else row["ratio"])  # auto last
    if column.style == "text":
        return Cell(str(row[column.name]), key=str(row[column.name]))
    std = row[f"{column.name}_std"] if column.spread else math.nan
    return number_cell(row[column.name], column.style, std)


def _ratio(row: Mapping[Hashable, Any]) -> str:
    """Return the ratio as it is spelled in paths."""
    ratio = row["ratio"]
    return ratio_slug(None if math.isnan(ratio) else ratio, row["ratio_kind"])


def _base(runs: pd.DataFrame) -> str:
    """Return the base networks' accuracy, each seed's counted once."""
    bases = runs.drop_duplicates("seed")["base_top1"]
    return f"base {number_cell(bases.mean(), 'points', bases.std(ddof=1))} % (n = {len(bases)})"


def _notes(runs: pd.DataFrame) -> list[str]:
    """Return what a reader must know to read the rows rightly."""
    notes = []
    if "capped" in runs and (capped := runs[runs["capped"].notna()]).size:
        for (method, phases), rows in capped.groupby(["method", "capped"], sort=False):
            which = str(phases).replace(";", ", ")
            runs_in_words = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
            notes.append(f"{method}: {which} ended at its cap, unfinished ({runs_in_words}).")
    if "macs_theoretical" in runs:
        masked = runs[runs["macs_theoretical"] < runs["macs"]]
        for method in masked["method"].unique():
            notes.append(
                f"{method}: leaves zeros in place; MACs counts what was removed, "
                "theoretical the zeros too."
            )
    return notes


def _experiments(frame: pd.DataFrame) -> str:
    if "experiment" not in frame or frame["experiment"].isna().all():
        return "Summary"
    return ", ".join(str(name) for name in frame["experiment"].unique())
