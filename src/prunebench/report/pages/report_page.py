"""The report of an experiment: verdicts, interactive figures and tables in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from pandas.api.types import is_string_dtype

from prunebench.core.files import make_folder, write_text
from prunebench.report.figures.accuracy_epochs import NAMES, split_shown
from prunebench.report.headings import number_ranges, titled
from prunebench.report.missing_runs import MissingRun, section_with_missing
from prunebench.report.origins import origin, reused_share
from prunebench.report.pages.charts import CONFIG, Spec, library, run_charts
from prunebench.report.pages.interactive_figures import (
    InteractiveFigure,
    figures_of,
    legend_of,
    script_json,
)
from prunebench.report.pages.printed import Printed
from prunebench.report.pages.run_page import SCRIPT, page_name, run_page
from prunebench.report.pages.verdicts import Verdicts, verdicts
from prunebench.report.runs_csv import CELL, NETWORK, metric_of, networks
from prunebench.report.seed_statistics import summarize
from prunebench.report.summary_table import experiments_in, table_of_cells
from prunebench.report.table import Column, Line, Section, Table
from prunebench.report.table_formats import html_page

RUNS_FOLDER = "runs"  # of the pages of the runs, beside the report


@dataclass(frozen=True)
class Network:
    """What the report shows of one network."""

    verdicts: Verdicts
    figures: tuple[InteractiveFigure, ...]
    section: Section


def write_report(
    frame: pd.DataFrame,
    out: Path,
    title: str | None = None,
    reference: str | None = None,
    printed: Printed | None = None,
    missing: Sequence[MissingRun] = (),
) -> list[Path]:
    """Write index.html and the pages of the runs in runs/; return the report and their folder.

    Everything follows from the frame of a runs.csv: the same file gives the same bytes.
    Differences are formed to l1, and to the method `reference` if it is given. Runs without a
    result are named below the tables.
    """
    summary = summarize(frame, reference=reference)
    table = table_of_cells(frame, summary, title)
    split = NAMES[split_shown(frame)].format(metric=metric_of(frame).words)
    make_folder(out / RUNS_FOLDER)
    shared = _script(run_charts(metric_of(frame).short, split))
    write_text(out / RUNS_FOLDER / SCRIPT, shared)
    _write_run_pages(frame, summary, table, out / RUNS_FOLDER)
    write_text(
        out / "index.html", _report(frame, summary, table, title, reference, printed, missing)
    )
    return [out / "index.html", out / RUNS_FOLDER]


def _report(
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    table: Table,
    title: str | None,
    reference: str | None,
    printed: Printed | None,
    missing: Sequence[MissingRun],
) -> str:
    specs: dict[str, Spec] = {}
    shown = []
    for i, (((dataset, architecture), runs), section) in enumerate(
        zip(networks(frame), table.sections, strict=True)
    ):
        cells = summary[(summary[NETWORK] == [dataset, architecture]).all(axis=1)]
        figures = []
        for figure, spec in figures_of(f"{architecture} on {dataset}", f"n{i}", runs, cells):
            figures.append(figure)
            specs[figure.chart] = spec
        found = verdicts(runs, cells, reference)
        linked = _linked(section, cells, table.columns)
        whole = section_with_missing(linked, table.columns, missing)
        shown.append(Network(found, tuple(figures), whole))
    return html_page(
        "report.html.j2",
        title=titled(title or experiments_in(frame), frame),
        provenance=_provenance(frame, len(missing)),
        networks=shown,
        columns=table.columns,
        legend=table.legend,
        printed=printed,
        keys=legend_of(summary),
        script=_script(specs),
    )


def _provenance(frame: pd.DataFrame, missing: int) -> str:
    """Return the number of runs, the seeds, and where they were computed."""
    seeds = sorted(frame["seed"].unique())
    words = [
        f"{len(frame):,} runs",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {number_ranges(seeds)}",
    ]
    words += [f"{missing} without a result"] if missing else []
    words += filter(None, [reused_share(frame)])
    if {"device", "processor", "versions", "date"} <= set(frame):
        words.append(origin(frame))
    return " · ".join(words)


def _linked(section: Section, cells: pd.DataFrame, columns: tuple[Column, ...]) -> Section:
    """Return a section whose accuracies link to the pages of their cells."""
    place = [column.name for column in columns].index("accuracy")
    lines = []
    for line, cell in zip(section.lines, cells.to_dict("records"), strict=True):
        own = list(line.cells)
        own[place] = replace(own[place], link=f"{RUNS_FOLDER}/{page_name(cell)}")
        lines.append(replace(line, cells=tuple(own), method=cell["method"]))
    return replace(section, lines=tuple(lines))


def _script(charts: Mapping[str, Spec]) -> str:
    """Return the charting library, some charts by name, and the code that draws them."""
    return html_page(
        "charts.js.j2", library=library(), charts=script_json(charts), config=script_json(CONFIG)
    )


def _write_run_pages(
    frame: pd.DataFrame, summary: pd.DataFrame, table: Table, folder: Path
) -> None:
    """Write a page per cell, one after the other."""
    runs = frame.reset_index(drop=True)
    records = runs.to_dict("records")
    # Text as objects: pages read it row by row.
    texts = [name for name, kind in runs.dtypes.items() if is_string_dtype(kind)]
    runs = runs.astype(dict.fromkeys(texts, object))
    groups = runs.groupby(CELL, dropna=False)
    by_page = {page_name(records[rows.index[0]]): rows for _, rows in groups}
    sections = {section.heading: section for section in table.sections}
    for network, cells in summary.groupby(NETWORK, sort=False):
        section = sections[" · ".join(map(str, network))]
        bases = [line for line in section.lines if line.is_base]
        for cell, line in zip(cells.to_dict("records"), section.lines, strict=True):
            name = page_name(cell)
            rows = by_page[name]
            same = [records[i] for i in rows.index]
            own = replace(section, lines=tuple(_with_bases(line, bases)))
            write_text(folder / name, run_page(cell, rows, same, own, table.columns))


def _with_bases(line: Line, bases: list[Line]) -> list[Line]:
    return [line] if line.is_base else [*bases, line]
