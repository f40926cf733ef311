"""A table of how each row was trained, and the fairness level of every pair of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import pandas as pd

from prunebench.core.files import write_texts
from prunebench.report.fairness import Row, Training, fairness, level_of, trainings
from prunebench.report.headings import titled
from prunebench.report.runs_csv import CELL, NETWORK, networks, read_runs
from prunebench.report.seed_statistics import REFERENCE, averages
from prunebench.report.summary_table import base_words, experiments_in, lines_of
from prunebench.report.table import Column, Section, Table
from prunebench.report.table_formats import to_markdown
from prunebench.report.training_cost import training_costs

LEGEND = (
    "Means over n seeds. The cost of the training is in epochs of the unpruned network "
    "(multiply-accumulates × samples), without the training of the base network and without "
    "scoring; a dash: the network's size between several removals is not recorded. Level: the "
    f"fairness level (arXiv 2301.05219) to {REFERENCE} at the same ratio, or to its first row. "
    "fairness.csv has the level of every pair of rows."
)
_ROW = CELL[len(NETWORK) :]
_OTHER = [f"other_{name}" for name in _ROW]
_COST, _LEVEL = "training_cost", "level"
COLUMNS = (
    Column("method", "method"),
    Column("setting", "setting"),
    Column("ratio", "ratio"),
    Column("n", "n", style="count"),
    Column("epochs", "epochs", "all", "significant"),
    Column("fine_tune_epochs", "epochs", "fine-tuning", "significant"),
    Column(_COST, "cost", "epochs of the base", "significant"),
    Column(_LEVEL, "level", f"to {REFERENCE}"),
)


def write_fairness(runs_csv: Path, out: Path, title: str | None = None) -> list[Path]:
    """Write fairness.csv, a row per pair of rows, and fairness.md, a row per cell."""
    frame = read_runs(runs_csv)
    texts = {
        "fairness.csv": pairs_of_rows(frame).to_csv(index=False, lineterminator="\n"),
        "fairness.md": to_markdown(fairness_table(frame, title)),
    }
    return write_texts(out, texts)


def pairs_of_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the level of each pair of rows of a network, and what they share."""
    found = [
        (*network, *one, *other, level.level, level.shared, level.differing)
        for network, runs in networks(frame)
        for (one, first), (other, second) in combinations(trainings(runs).items(), 2)
        for level in [level_of([first, second])]
    ]
    return pd.DataFrame(found, columns=[*NETWORK, *_ROW, *_OTHER, _LEVEL, "shared", "differing"])


def fairness_table(frame: pd.DataFrame, title: str | None = None) -> Table:
    """Return the epochs and the cost of each cell's training, with a section per network."""
    costs = frame.assign(**{_COST: training_costs(frame)})
    summary = averages(costs, ["epochs", "fine_tune_epochs", _COST])
    sections = []
    for network, runs in networks(frame):
        here = summary[(summary[NETWORK] == list(network)).all(axis=1)]
        levels = dict(_levels(trainings(runs)))
        rows = here[_ROW].itertuples(index=False, name=None)
        here = here.assign(level=[levels.get(_key(row), "") for row in rows])
        lines = tuple(lines_of(here, COLUMNS))
        notes = tuple(filter(None, [str(fairness(runs))]))
        sections.append(Section(" · ".join(network), base_words(runs), lines, notes))
    heading = titled(f"{title or experiments_in(frame)} · fairness", frame)
    return Table(heading, LEGEND, COLUMNS, tuple(sections))


def _levels(rows: Mapping[Row, Training]) -> Iterator[tuple[Row, str]]:
    """Yield the level of each row to the reference at the same ratio, or else to its first row."""
    references = {row: training for row, training in rows.items() if row[0] == REFERENCE}
    if not references:
        return
    at_ratio = {_key(row)[2:]: row for row in reversed(references)}
    for row, training in rows.items():
        reference = at_ratio.get(_key(row)[2:], next(iter(references)))
        if row != reference:
            yield _key(row), level_of([training, rows[reference]]).level


def _key(row: Row) -> Row:
    """Return a row whose missing ratio is equal to another missing ratio."""
    return tuple(None if isinstance(x, float) and math.isnan(x) else x for x in row)
