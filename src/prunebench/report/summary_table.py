"""The summary of an experiment: a table of all its cells, and a short one for a first look."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prunebench.core.files import write_texts
from prunebench.experiments.latency_table import MET_WITHIN
from prunebench.experiments.metric import METRICS, Metric, to_file
from prunebench.experiments.spec import ratio_slug
from prunebench.experiments.stability import MOST_DIFFERENCE
from prunebench.report.fairness import fairness
from prunebench.report.headings import note_of_test_set, titled
from prunebench.report.looks import REFERENCES, look
from prunebench.report.missing_runs import read_missing, with_missing, with_missing_notes
from prunebench.report.origins import origin_notes
from prunebench.report.other_code import other_code_note
from prunebench.report.recipe_cross import DEPENDS, second_recipes
from prunebench.report.runs_csv import (
    CELL,
    NETWORK,
    UNPRUNED,
    is_latency,
    is_speedup,
    metric_of,
    networks,
    read_runs,
    timed,
)
from prunebench.report.seed_statistics import (
    DIFFERENCE,
    GROUP,
    VERDICT,
    columns_to,
    references_in,
    summarize,
)
from prunebench.report.series import at_one_ratio
from prunebench.report.significance import FEWEST_PAIRS
from prunebench.report.table import (
    UNSTABLE,
    Cell,
    Column,
    Line,
    Section,
    Table,
    interval_cell,
    number_cell,
    unstable_cell,
)
from prunebench.report.table_formats import to_html, to_latex, to_markdown

LEGEND = (
    "Mean over n seeds ± sample standard deviation. The ratio is the pruned fraction of each "
    "layer's units, or of the prefix (macs-0.5: half of the MACs); auto: the method decides. "
    "The drop is the base's {metric} minus the row's. Speedups are relative to the base."
)
# Columns that are shown only if they say something else than the given one.
_SHOWN_IF_DIFFERENT = {"accuracy_masked": "accuracy", "speedup_theoretical": "speedup_macs"}
_SHORT = {"method", "setting", "ratio", "n", "accuracy", "drop", GROUP}
_SHORT |= {"speedup_macs", "speedup_theoretical", "code"}
_SHORT |= {name for metric in METRICS.values() for name in metric.parts}


def write_summary(
    runs_csv: Path, out: Path, title: str | None = None, reference: str | None = None
) -> list[Path]:
    """Write summary.csv, .md, .tex, .html and summary_short.md; return their paths.

    The default title is the names of the experiments. Differences are formed to l1, and to the
    method `reference` if it is given.
    """
    frame = read_runs(runs_csv)
    summary = summarize(frame, reference)  # once: with many seeds, it takes longer than the rest
    missing = read_missing(runs_csv)
    table = with_missing(table_of_cells(frame, summary, title), missing)
    named = summary.rename(columns=lambda name: to_file(str(name), metric_of(frame)))
    texts = {
        "summary.csv": named.to_csv(index=False, lineterminator="\n"),
        "summary.md": to_markdown(table),
        "summary.tex": to_latex(table),
        "summary.html": to_html(table),
        "summary_short.md": to_markdown(with_missing_notes(_short_table(frame, summary), missing)),
    }
    return write_texts(out, texts)


def summary_table(
    frame: pd.DataFrame, title: str | None = None, reference: str | None = None
) -> Table:
    """Return the table of all cells, with a section per network."""
    return table_of_cells(frame, summarize(frame, reference), title)


def table_of_cells(frame: pd.DataFrame, summary: pd.DataFrame, title: str | None = None) -> Table:
    """Return the table of all cells, given the summary of the frame."""
    metric = metric_of(frame)
    columns = _columns(summary, metric)
    sections = [_section(runs, summary, columns) for _, runs in networks(frame)]
    heading = titled(title or experiments_in(frame), frame)
    return Table(heading, LEGEND.format(metric=metric.short), columns, tuple(sections))


def short_table(frame: pd.DataFrame, reference: str | None = None) -> Table:
    """Return one row for each method of the papers and each reference, to embed in a page.

    The rows are of the first network and at one ratio (`at_one_ratio`), of a method's first
    setting there. The table has no title and only the columns about accuracy and MACs; its heading
    says if the runs are shortened.
    """
    return _short_table(frame, summarize(frame, reference))


def _short_table(frame: pd.DataFrame, summary: pd.DataFrame) -> Table:
    _, runs = networks(frame)[0]
    ratio, picks = at_one_ratio(_shown(summary, runs))
    found: dict[str, pd.Index] = {}
    for pick in picks:
        if look(pick.method).group == "paper" or pick.method in REFERENCES:
            found.setdefault(pick.method, pick.runs(runs).index)
    kept = [index for indices in found.values() for index in indices]
    shown = runs[runs.index.isin(kept) | (runs["method"] == UNPRUNED)]
    if not kept:
        shown = runs
    # Corrected for all comparisons of the frame, not only for those that this table shows.
    summary, metric = _shown(summary, shown), metric_of(frame)
    columns = tuple(column for column in _columns(summary, metric) if _is_short(column.name))
    section = _section(shown, summary, columns, titled(ratio, shown))
    return Table("", LEGEND.format(metric=metric.short), columns, (section,))


def _shown(summary: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a summary that belong to some runs."""
    cells = pd.MultiIndex.from_frame(runs[CELL])
    return summary[pd.MultiIndex.from_frame(summary[CELL]).isin(cells)]


def _is_short(column: str) -> bool:
    return column in _SHORT or column.startswith((DIFFERENCE[0], VERDICT[1]))


def _section(
    runs: pd.DataFrame, summary: pd.DataFrame, columns: tuple[Column, ...], ratio: str = ""
) -> Section:
    network = [str(runs[name].iloc[0]) for name in NETWORK]
    here = summary[(summary[NETWORK] == network).all(axis=1)]
    names = [column.name for column in columns]
    lines = tuple(lines_of(here, columns))
    notes = [note_of_test_set(runs), str(fairness(runs)), *_notes(runs)]
    notes += [*_pairing(names, metric_of(runs)), _order_changes(runs, here), _parts(names)]
    notes.append(_stability(lines))
    notes += [other_code_note(runs), *origin_notes(runs)]
    return Section(
        " · ".join([*network, ratio] if ratio else network),
        base_words(runs),
        lines,
        tuple(filter(None, notes)),
    )


def _columns(summary: pd.DataFrame, metric: Metric) -> tuple[Column, ...]:
    """Return the columns in reading order, without those that say nothing."""
    latencies = [name for name in summary.columns if _is_latency_mean(name)]
    candidates = (
        Column("method", "method"),
        Column("setting", "setting"),
        Column("ratio", "ratio"),
        Column("n", "n", style="count"),
        Column("accuracy", metric.short, "%", "points", spread=True),
        *(Column(name, head, "%", "points", True) for name, head in metric.parts.items()),
        Column("drop", "drop", "points", "points", spread=True),
        *_difference_columns(summary),
        Column(GROUP, "group"),
        Column("accuracy_masked", "masked", f"{metric.short} %", "points", spread=True),
        Column("speedup_macs", "MACs", "speedup", "speedup"),
        Column("speedup_theoretical", "theoretical", "speedup", "speedup"),
        Column("sparsity_pct", "sparsity", "%", "percent"),
        Column("params_reduction_pct", "params", "removed %", "percent"),
        *(Column(n, f"latency {_place(n)}", "speedup", "speedup", True) for n in latencies),
        Column("selection_seconds", "selection", "s", "significant"),
        Column("magnitude_ratio", "magnitude", "kept/pruned", "significant"),
        Column("code", "code"),
        Column("reused", "reused", "runs", "count"),
    )
    return tuple(c for c in candidates if c.name in summary and _says_something(summary, c.name))


def _difference_columns(summary: pd.DataFrame) -> Iterator[Column]:
    """Yield the columns about the difference to each reference."""
    for name in references_in(summary.columns):
        difference, low, _ = columns_to(name, DIFFERENCE)
        yield Column(difference, f"vs. {name}", "points", "points")
        yield Column(low, "interval", "95 %", "interval")
        yield Column(columns_to(name, VERDICT)[1], "verdict", f"vs. {name}")


def _is_latency_mean(name: str) -> bool:
    return is_speedup(name) and not name.endswith("_std")


def _place(latency: str) -> str:
    """Return device, batch size, and whether a CUDA graph or the whole detector was timed.

    >>> _place("latency_speedup_cpu_b64"), _place("latency_speedup_cpu_whole_b1")
    ('CPU b64', 'CPU whole b1')
    >>> _place("latency_speedup_cuda_graph_b1")
    'CUDA graph b1'
    """
    what = timed(latency)
    words = [what.device_kind.upper()]
    words += ["graph"] if what.mode == "graph" else []
    words += ["whole"] if what.part == "whole" else []
    return " ".join([*words, f"b{what.batch_size}"])


def _says_something(summary: pd.DataFrame, name: str) -> bool:
    values = summary[name]
    if name == "setting":
        return bool((values != "default").any())
    if name == "sparsity_pct":
        return bool((values > 0).any())
    if name == GROUP or name.startswith(VERDICT[1]):
        return bool((values != "").any())
    if name in _SHOWN_IF_DIFFERENT:
        return bool((values.notna() & (values != summary[_SHOWN_IF_DIFFERENT[name]])).any())
    if _is_latency_mean(name) and any(
        _is_unstable(row, name) for row in summary.to_dict("records")
    ):
        return True
    return bool(values.notna().any())


def _is_unstable(row: Mapping[Hashable, Any], latency: str) -> bool:
    """Whether a cell's speedup in latency is known to be unstable in one of its runs."""
    return row.get(timed(latency).stability[2]) == 1


def lines_of(summary: pd.DataFrame, columns: tuple[Column, ...]) -> Iterator[Line]:
    """Yield a printed row per cell of a network."""
    before: str | None = None
    for row in summary.to_dict("records"):
        ratio = ratio_of(row)
        is_base = row["method"] == UNPRUNED
        cells = tuple(_cell(row, column) for column in columns)
        yield Line(cells, is_base, not is_base and ratio != before)
        before = None if is_base else ratio


def _cell(row: Mapping[Hashable, Any], column: Column) -> Cell:
    if column.name == "ratio":
        return Cell(
            ratio_of(row), key=2.0 if math.isnan(row["ratio"]) else row["ratio"]
        )  # auto last
    if column.style == "text":
        return Cell(str(row[column.name]), key=str(row[column.name]))
    if column.style == "interval":
        return interval_cell(row[column.name], row[column.name.replace("_low", "_high", 1)])
    if _is_latency_mean(column.name) and _is_unstable(row, column.name):
        low, high, _ = timed(column.name).stability
        return unstable_cell(row[low], row[high], column.style)
    std = row[f"{column.name}_std"] if column.spread else math.nan
    return number_cell(row[column.name], column.style, std)


def ratio_of(row: Mapping[Any, Any] | pd.Series) -> str:
    """Return the ratio as it is spelled in paths."""
    ratio = row["ratio"]
    return ratio_slug(None if math.isnan(ratio) else ratio, row["ratio_kind"])


def base_words(runs: pd.DataFrame) -> str:
    """Return the base networks' accuracy in words, counting each seed once."""
    bases = runs.drop_duplicates("seed")["base_accuracy"]
    return f"base {number_cell(bases.mean(), 'points', bases.std(ddof=1))} % (n = {len(bases)})"


def _pairing(columns: Collection[str], metric: Metric) -> Iterator[str]:
    """Yield what the columns about differences and groups mean, as far as shown."""
    for name in references_in(columns):
        note = f"vs. {name}: mean difference in {metric.short} to {name} at the same ratio, by seed"
        if columns_to(name, DIFFERENCE)[1] in columns:
            note += f"; interval: its 95 % t interval, of {FEWEST_PAIRS} seeds or more, uncorrected"
        if columns_to(name, VERDICT)[1] in columns:
            note += (
                f"; verdict: higher or lower than {name} by a paired t test at 5 %, after Holm's "
                "correction for all differences of the summary, otherwise unclear"
            )
        yield f"{note}."
    if GROUP in columns:
        yield (
            "group: methods at the same ratio that share a letter cannot be told apart by paired t "
            "tests at 5 %, after Holm's correction for all pairs of the summary, which is stricter "
            "than the verdict's; a: the highest mean (letters after Piepho 2004)."
        )


def _order_changes(frame: pd.DataFrame, summary: pd.DataFrame) -> str:
    """Return which recipes the methods ran under, if any ran under two."""
    second = sorted(set(second_recipes(frame)) - {""})
    if not second:
        return ""
    note = (
        f"Settings that end in _with_<recipe> ran under a second recipe ({', '.join(second)}); "
        "the rows of each recipe are compared among themselves."
    )
    if (summary == DEPENDS).any(axis=None):
        note += f" {DEPENDS}: the order of these methods changes with it, so they are not ranked."
    return note


def _parts(columns: Collection[str]) -> str:
    """Return which latencies of a detector are shown; "" for networks with one part."""
    parts = {timed(name).part for name in columns if is_latency(name)}
    if "whole" not in parts:
        return ""
    return (
        "Latencies: backbone and heads; whole: the detector with the post-processing that selects "
        "boxes."
    )


def _stability(lines: Collection[Line]) -> str:
    """Return why latencies are unstable; "" if all shown ones are stable."""
    if not any(cell.is_unstable for line in lines for cell in line.cells):
        return ""
    percent = f"{100 * MOST_DIFFERENCE:g} %"
    return (
        f"{UNSTABLE}: in a run, the base timed against itself or two repetitions differed by more "
        f"than {percent} in the median; the range is that of the speedup, which is in no mean and "
        "not ranked."
    )


def _notes(runs: pd.DataFrame) -> list[str]:
    """Return warnings about single rows: unfinished phases, and zeros that save no time."""
    notes = []
    if "capped" in runs and (capped := runs[runs["capped"].notna()]).size:
        for (method, phases), rows in capped.groupby(["method", "capped"], sort=False):
            names = str(phases).replace(";", ", ")
            number = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
            notes.append(f"{method}: {names} reached its maximum length unfinished ({number}).")
    if "macs_theoretical" in runs:
        masked = runs[runs["macs_theoretical"] < runs["macs"]]
        for method in masked["method"].unique():
            notes.append(
                f"{method}: pruned weights stay in the network as zeros; theoretical counts them "
                "as saved, MACs does not."
            )
    return [*notes, *_rounded(runs), *_latency_targets(runs)]


def _rounded(runs: pd.DataFrame) -> Iterator[str]:
    """Yield which rows have widths that are rounded up, so that they miss their ratio."""
    if "round_to" not in runs:
        return
    rounded = runs[runs["round_to"].notna()]
    for (method, setting, multiple), _ in rounded.groupby(
        ["method", "setting", "round_to"], sort=False
    ):
        name = method if setting == "default" else f"{method}, {setting}"
        yield (
            f"{name}: the widths that meet the ratio are rounded up to multiples of {multiple:g} "
            "channels, so the ratio is not met exactly."
        )


def _latency_targets(runs: pd.DataFrame) -> Iterator[str]:
    """Yield what latency ratios are, and which of them were missed or could not be measured."""
    timed_runs = runs[runs["ratio_kind"] == "latency"]
    if timed_runs.empty:
        return
    within = f"{100 * MET_WITHIN:g} %"
    yield (
        "Ratios of latency: the widths are those whose predicted latency is this fraction below "
        "the base's; the latency was measured at the end of each run (`ratio_reached` in runs.csv)."
    )
    problems = {
        "ratio_missed": f"the measured latency differs from the target by more than {within}",
        "ratio_unstable": "no measurement of the latency was stable",
    }
    for (method, setting, ratio), rows in timed_runs.groupby(
        ["method", "setting", "ratio"], sort=False
    ):
        name = method if setting == "default" else f"{method}, {setting}"
        for column, words in problems.items():
            count = int(rows[column].notna().sum()) if column in rows else 0
            if count:
                yield (
                    f"{name}, latency-{ratio:g}: {words} ({count} of {len(rows)} "
                    f"runs; {rows['ratio_reached'].mean():.3f} removed on average)."
                )


def experiments_in(frame: pd.DataFrame) -> str:
    """Return the names of the experiments, the title of their tables by default."""
    if "experiment" not in frame or frame["experiment"].isna().all():
        return "Summary"
    return ", ".join(str(name) for name in frame["experiment"].unique())
