"""A table of the metric of each class, for tasks that have one, such as detection."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from prunebench.core.files import write_texts
from prunebench.experiments.metric import OWN, to_file
from prunebench.report.headings import titled
from prunebench.report.runs_csv import CELL, NETWORK, json_cells, metric_of, networks, read_runs
from prunebench.report.seed_statistics import averages
from prunebench.report.summary_table import base_words, experiments_in, lines_of
from prunebench.report.table import Column, Section, Table
from prunebench.report.table_formats import to_markdown

LEGEND = (
    "{metric} in percent, of all classes and of each class alone: means over n seeds. A dash: no "
    "object of the class."
)
_OF = f"{OWN} of "


def write_by_class(runs_csv: Path, out: Path, title: str | None = None) -> list[Path]:
    """Write by_class.csv and .md, a row per cell and a column per class; return their paths.

    Writes nothing if the runs do not say the metric of each class.
    """
    frame = read_runs(runs_csv)
    found = by_class(frame)
    if found.empty:
        return []
    classes = [str(name) for name in found.columns]
    summary = averages(frame.join(found), classes)[[*CELL, "n", OWN, *classes]]
    named = summary.rename(columns=lambda name: to_file(str(name), metric_of(frame)))
    texts = {
        "by_class.csv": named.to_csv(index=False, lineterminator="\n"),
        "by_class.md": to_markdown(by_class_table(frame, summary, title)),
    }
    return write_texts(out, texts)


def by_class(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a column per class and a row per run, NaN where a run says nothing.

    The columns are called "accuracy of <class>". There are none if no run says anything.
    """
    if "by_class" not in frame:  # a table of an earlier version
        return pd.DataFrame(index=frame.index)
    known = [cell or {} for cell in json_cells(frame, "by_class")]
    classes = list(dict.fromkeys(name for cell in known for name in cell))
    values = [[cell.get(name) for name in classes] for cell in known]
    names = [f"{_OF}{name}" for name in classes]
    return pd.DataFrame(values, frame.index, names, dtype=float)


def by_class_table(frame: pd.DataFrame, summary: pd.DataFrame, title: str | None = None) -> Table:
    """Return the table of a summary with the columns of `by_class`, with a section per network."""
    metric = metric_of(frame)
    classes = [str(name) for name in summary.columns if str(name).startswith(_OF)]
    columns = (
        Column("method", "method"),
        *([Column("setting", "setting")] if (summary["setting"] != "default").any() else []),
        Column("ratio", "ratio"),
        Column("n", "n", style="count"),
        Column(OWN, f"all ({metric.short})", style="points"),
        *(Column(name, name.removeprefix(_OF), style="points") for name in classes),
    )
    sections = [
        Section(
            " · ".join(network),
            base_words(runs),
            tuple(lines_of(summary[(summary[NETWORK] == list(network)).all(axis=1)], columns)),
            (),
        )
        for network, runs in networks(frame)
    ]
    heading = titled(f"{title or experiments_in(frame)} · by class", frame)
    return Table(heading, LEGEND.format(metric=metric.short), columns, tuple(sections))
