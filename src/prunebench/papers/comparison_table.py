"""The comparison with a paper's table as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pandas as pd

from prunebench.core.files import write_texts
from prunebench.experiments.metric import METRICS, to_file
from prunebench.experiments.spec import ratio_slug
from prunebench.papers.comparison import BASELINE, NOTHING, Compared, compare
from prunebench.papers.published import read_published
from prunebench.report.fairness import fairness
from prunebench.report.headings import note_of_test_set, titled
from prunebench.report.origins import origin_notes
from prunebench.report.other_code import other_code_note
from prunebench.report.pages.printed import Printed
from prunebench.report.runs_csv import networks, read_runs
from prunebench.report.table import DASH, Cell, Column, Line, Section, Table, number_cell
from prunebench.report.table_formats import to_html, to_latex, to_markdown

LEGEND = (
    "Mean over our n seeds ± sample standard deviation; method, setting and ratio as printed. The "
    "drop is the base's {metric} minus the row's; Δ drop is our drop minus the printed one. A row "
    "agrees if Δ drop is within the 95 % interval of our mean and the printed deviation."
)
COLUMNS = (
    Column("method", "method"),
    Column("setting", "setting"),
    Column("ratio", "ratio", "as printed"),
    Column("speedup_printed", "speedup", "paper", "speedup"),
    Column("speedup", "speedup", "ours", "speedup"),
    Column("params", "params", "removed %", "percent"),
    Column("n", "n", style="count"),
    Column("accuracy_printed", "{metric} paper", "%", "points", spread=True),
    Column("accuracy", "{metric} ours", "%", "points", spread=True),
    Column("drop_printed", "drop paper", "points", "points"),
    Column("drop", "drop ours", "points", "points", spread=True),
    Column("difference", "Δ drop", "points", "points"),
    Column("verdict", "verdict"),
)
CSV_COLUMNS = (
    *("paper", "table", "dataset", "architecture", "method", "setting", "ratio"),
    *("speedup_printed", "speedup", "params_reduction_pct", "n", "base_accuracy_printed"),
    *("base_accuracy", "accuracy_printed", "accuracy_printed_std", "accuracy", "accuracy_std"),
    *("drop_printed", "drop", "drop_std", "difference", "interval", "verdict", "reason"),
)
_OURS = (
    "speedup",
    "params_reduction_pct",
    "n",
    "base_accuracy",
    "accuracy",
    "accuracy_std",
    "drop",
    "drop_std",
)
_DIGITS = 6  # significant, in the CSV


def write_comparison(runs_csv: Path, out: Path, title: str | None = None) -> list[Path]:
    """Write published.csv, .md, .tex and .html into `out` and return their paths.

    Writes nothing if the runs do not belong to a printed table.
    """
    frame = read_runs(runs_csv)
    compared = compare_printed(frame)
    if not compared:
        return []
    table = comparison_table(frame, compared, title)
    texts = {
        "published.csv": to_csv(compared),
        "published.md": to_markdown(table),
        "published.tex": to_latex(table),
        "published.html": to_html(table),
    }
    return write_texts(out, texts)


def compare_printed(frame: pd.DataFrame) -> list[Compared]:
    """Return the comparison with the runs' printed table; empty if they belong to none."""
    if "paper" not in frame or frame["paper"].isna().all():
        return []
    return compare(frame, read_published())


def printed_part(frame: pd.DataFrame, title: str | None = None) -> Printed | None:
    """Return the comparison as a part of the report; None if the runs belong to no table."""
    compared = compare_printed(frame)
    if not compared:
        return None
    return Printed(comparison_table(frame, compared, title), Counter(c.verdict for c in compared))


def comparison_table(
    frame: pd.DataFrame, compared: Sequence[Compared], title: str | None = None
) -> Table:
    """Return the comparison as a table, with a section for each of our networks."""
    first = next(one.printed for one in compared if one.printed is not None)
    sections = []
    for (dataset, architecture), runs in networks(frame):
        here = [one for one in compared if _is_of(one, dataset, architecture, compared)]
        notes = [note_of_test_set(runs), str(fairness(runs)), *_notes(here)]
        notes += [other_code_note(runs), *origin_notes(runs)]
        sections.append(
            Section(
                f"{dataset} · {architecture}",
                _warning(here) + _base(here, runs),
                tuple(_line(one, before) for before, one in zip([None, *here], here, strict=False)),
                tuple(filter(None, notes)),
            )
        )
    heading = titled(title or "Comparison", frame)
    metric = METRICS[first.task].short
    columns = tuple(replace(column, head=column.head.format(metric=metric)) for column in COLUMNS)
    title = f"{heading} · {first.paper}, {first.table}"
    return Table(title, LEGEND.format(metric=metric), columns, tuple(sections))


def to_csv(compared: Sequence[Compared]) -> str:
    """Return every row with all its numbers; a missing value is an empty cell."""
    text = io.StringIO()
    metric = METRICS[_task(compared)]
    names = {name: to_file(name, metric) for name in CSV_COLUMNS}
    writer = csv.DictWriter(text, list(names.values()), lineterminator="\n")
    writer.writeheader()
    for one in compared:
        writer.writerow({names[name]: cell for name, cell in _record(one).items()})
    return text.getvalue()


def _task(compared: Sequence[Compared]) -> str:
    """Return the task of the compared rows, which is that of their printed table."""
    return next((one.printed.task for one in compared if one.printed), "classification")


def _record(one: Compared) -> dict[str, object]:
    printed, ours = one.printed, one.ours
    values: dict[str, object] = {
        "ratio": _ratio(one),
        "verdict": one.verdict,
        "reason": one.reason,
        "drop_printed": one.printed_drop,
        "base_accuracy_printed": one.printed_base,
        "difference": one.difference,
        "interval": one.interval,
    }
    if printed is not None:
        values |= {name: getattr(printed, name) for name in CSV_COLUMNS[:6]}
        values |= {
            "speedup_printed": printed.speedup_theoretical,
            "accuracy_printed": printed.accuracy,
            "accuracy_printed_std": printed.accuracy_std,
        }
    if ours is not None:
        if printed is None:
            values |= {name: getattr(ours, name) for name in CSV_COLUMNS[2:6]}
        values |= {name: getattr(ours, name) for name in _OURS}
    return {name: _plain(values.get(name)) for name in CSV_COLUMNS}


def _plain(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{_DIGITS}g}"
    return "" if value is None else value


def _is_of(one: Compared, dataset: str, architecture: str, all_: Sequence[Compared]) -> bool:
    """Whether a row belongs to one of our networks.

    A row without runs belongs to the networks that other rows of its printed network belong to.
    """
    if one.ours is not None:
        return (one.ours.dataset, one.ours.architecture) == (dataset, architecture)
    assert one.printed is not None
    like = {
        (other.ours.dataset, other.ours.architecture)
        for other in all_
        if other.ours is not None
        and other.printed is not None
        and (other.printed.dataset, other.printed.architecture)
        == (one.printed.dataset, one.printed.architecture)
    }
    return (dataset, architecture) in like


def _line(one: Compared, before: Compared | None) -> Line:
    printed, ours = one.printed, one.ours or NOTHING
    is_base = printed is not None and printed.method == BASELINE
    paper_speedup = paper_accuracy = paper_std = math.nan
    if printed is not None:
        paper_speedup = _number(printed.speedup_theoretical)
        paper_accuracy, paper_std = _number(printed.accuracy), _number(printed.accuracy_std)
    cells = (
        _text(ours.method if printed is None or is_base else printed.method),
        _text(printed.setting if printed else ours.setting),
        _text(_ratio(one)),
        number_cell(paper_speedup, "speedup"),
        number_cell(ours.speedup, "speedup"),
        number_cell(ours.params_reduction_pct, "percent"),
        number_cell(ours.n or math.nan, "count"),
        number_cell(paper_accuracy, "points", paper_std),
        number_cell(ours.accuracy, "points", ours.accuracy_std),
        number_cell(_number(one.printed_drop), "points"),
        number_cell(ours.drop, "points", ours.drop_std),
        number_cell(_number(one.difference), "points"),
        _text(f"{one.verdict}: {one.reason}" if one.reason else one.verdict),
    )
    opens = not is_base and before is not None and _ratio(before) != _ratio(one)
    return Line(cells, is_base, opens)


def _text(text: str) -> Cell:
    return Cell(text or DASH, key=text)


def _number(value: Decimal | float | None) -> float:
    return math.nan if value is None else float(value)


def _ratio(one: Compared) -> str:
    if one.printed is not None:
        return "" if one.printed.ratio_printed is None else str(one.printed.ratio_printed)
    ours = one.ours or NOTHING
    return ratio_slug(None if math.isnan(ours.ratio) else ours.ratio, ours.ratio_kind)


def _base(here: Sequence[Compared], runs: pd.DataFrame) -> str:
    bases = runs.drop_duplicates("seed")["base_accuracy"]
    ours = f"{number_cell(bases.mean(), 'points', bases.std(ddof=1))} (ours, n = {len(bases)})"
    printed = [one.printed_base for one in here if one.printed_base is not None]
    paper = f"{printed[0]:.2f} (paper) / " if printed else ""
    return f"base {paper}{ours}"


def _warning(here: Sequence[Compared]) -> str:
    """Return the warning that opens the subtitle if data or epochs are not the paper's."""
    both = [(one.printed, one.ours) for one in here if one.printed and one.ours]
    words = {f"{o.dataset} instead of {p.dataset}" for p, o in both if p.dataset != o.dataset}
    words |= {word for _, o in both for word in o.shortened.split(", ") if word}
    if not words:
        return ""
    return f"{', '.join(sorted(words))}: accuracies are not comparable to the paper's · "


def _notes(here: Sequence[Compared]) -> list[str]:
    """Return the notes of the printed rows, without repetitions."""
    notes = (one.printed.note for one in here if one.printed is not None and one.printed.note)
    return list(dict.fromkeys(notes))
