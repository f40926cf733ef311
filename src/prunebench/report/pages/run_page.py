"""The page of a cell: its specification, time line, diagnostics, widths and costs, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from prunebench.experiments.recipe import Recipe
from prunebench.report.headings import number_ranges
from prunebench.report.middle_half import MOST_LINES
from prunebench.report.origins import reused_rows
from prunebench.report.other_code import by_other_code, log_file, rerun_command, run_folder
from prunebench.report.pages.plain_table import PlainTable
from prunebench.report.pages.run_figures import run_figures
from prunebench.report.pages.seed_tables import (
    Record,
    cost_table,
    row_per_seed,
    seed_table,
    shared_origin,
    spread_table,
)
from prunebench.report.pages.timeline import Moment, Span, lr_words, moments_of, spans_of
from prunebench.report.run_diff import flat, short
from prunebench.report.runs_csv import NETWORK, UNPRUNED, histories, json_cells, metric_of
from prunebench.report.summary_table import ratio_of
from prunebench.report.table import DASH, Column, Section, format_number, number_cell, significant
from prunebench.report.table_formats import html_page

SCRIPT = "charts.js"  # beside the pages


def page_name(cell: Mapping[Any, Any] | pd.Series) -> str:
    """Return the file name of a cell's page; no two cells share one.

    >>> page_name({"dataset": "digits", "architecture": "resnet20", "method": "l1",
    ...            "setting": "default", "ratio": 0.5, "ratio_kind": "macs"})
    'digits-resnet20-l1-default-macs-0.5.html'
    """
    names = [str(cell[name]) for name in (*NETWORK, "method", "setting")]
    return "-".join([*names, ratio_of(cell)]) + ".html"


def run_page(
    cell: Record,
    runs: pd.DataFrame,
    records: Sequence[Record],
    section: Section,
    columns: Sequence[Column],
) -> str:
    """Return the page of a cell, given its row of the summary, its runs, and the same as records.

    `section` has the cell's row of the report's table, and that of the unpruned network.
    """
    recipes, is_many = _recipes(runs), len(runs) > MOST_LINES
    moments = [moments_of(history) for history in histories(runs)]
    spans = spans_of(moments[0])
    return html_page(
        "run.html.j2",
        title=_title(cell),
        subtitle=_subtitle(runs),
        result=_result(cell, runs),
        warnings=tuple(_warnings(runs)),
        section=section,
        columns=columns,
        specification=_specification(runs),
        recipes=_recipe_table(recipes),
        phases=_phase_table(spans, recipes),
        figures=tuple(run_figures(runs, moments, spans)),
        costs=cost_table(records),
        seeds=spread_table(runs) if is_many else seed_table(runs),
        same=shared_origin(runs) if is_many else None,
        each=row_per_seed(runs) if is_many else None,
        logs=tuple(_logs(*_shown(runs, moments))),
        log_files=_log_files(records),
        commands=tuple(_commands(records)),
        script=SCRIPT,
    )


def _title(cell: Record) -> str:
    if cell["method"] == UNPRUNED:
        words = [UNPRUNED]
    else:
        words = [str(cell["method"]), f"ratio {ratio_of(cell)}"]
    if cell["setting"] != "default":
        words.insert(1, str(cell["setting"]))
    return " · ".join(words)


def _subtitle(runs: pd.DataFrame) -> str:
    first = runs.iloc[0]
    seeds = number_ranges(runs["seed"])
    words = f"{first['architecture']} on {first['dataset']} · experiment {first['experiment']}"
    return f"{words} · {'seed' if len(runs) == 1 else 'seeds'} {seeds}"


def _result(cell: Record, runs: pd.DataFrame) -> str:
    """Return accuracy, drop and cost in one sentence."""
    metric = metric_of(runs)
    accuracy = number_cell(cell["accuracy"], "points", cell["accuracy_std"])
    words = f"{metric.words} {accuracy} % (n = {cell['n']})"
    drop = format_number(abs(cell["drop"]), "points")
    side = "below" if cell["drop"] >= 0 else "above"
    words = f"{words[0].upper()}{words[1:]}, {drop} points {side} the unpruned network"
    speedup = format_number(cell["speedup_macs"], "speedup")
    return f"{words}; MACs speedup {speedup}."


def _warnings(runs: pd.DataFrame) -> Iterator[str]:
    for phases in runs["capped"].dropna().unique():
        names = str(phases).replace(";", ", ")
        same = runs[runs["capped"] == phases]
        yield f"{_seeds(same)}: {names} reached its maximum length unfinished."
    if len(others := by_other_code(runs)):
        yield f"{_seeds(others)}: computed by another version of the method's source code."
    if len(reused := reused_rows(runs)):
        for file, same in reused.groupby("reused", sort=False):
            yield f"{_seeds(same)}: reused from {file}."


def _seeds(runs: pd.DataFrame) -> str:
    """Return the seeds of some runs, as Seed 0 or Seeds 0, 1."""
    return ("Seed " if len(runs) == 1 else "Seeds ") + number_ranges(runs["seed"])


def _recipes(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the recipes of the first seed by role; all seeds of a cell share them."""
    return json_cells(runs, "recipes")[0] or {}


def _specification(runs: pd.DataFrame) -> PlainTable:
    """Return what determines the runs apart from the recipes."""
    first = runs.iloc[0]
    rows = [(name, str(first[name])) for name in (*NETWORK, "method", "setting")]
    ratio = "by the method" if math.isnan(first["ratio"]) else f"{first['ratio']:g}"
    rows.append(("ratio", f"{ratio} of {first['ratio_kind']}"))
    options = json_cells(runs, "options")[0] if "options" in runs else None
    if options is None:
        rows.append(("options", "not recorded in this runs.csv"))
    else:
        rows += [(f"option {name}", short(value)) for name, value in sorted(options.items())]
    rows.append(("starts from", "fresh weights" if first["start"] == "fresh" else "the base"))
    known = {"threads": "PyTorch threads", "data_hash": "hash of the data"}
    rows += [(words, str(first[name])[:16]) for name, words in known.items() if name in runs]
    return PlainTable(("key", "value"), tuple(rows), frozenset({0, 1}))


def _recipe_table(recipes: Mapping[str, Mapping[str, Any]]) -> PlainTable | None:
    """Return the keys of the recipes that differ from their defaults, a column per role."""
    if not recipes:
        return None
    keys = {role: flat(recipe) for role, recipe in recipes.items()}
    needed = {"epochs", "batch_size", "lr", "weight_decay"}
    default = Recipe(epochs=None, batch_size=2, lr=1, weight_decay=0).model_dump(mode="json")
    usual = {name: value for name, value in flat(default).items() if name not in needed}
    names = dict.fromkeys(name for recipe in keys.values() for name in recipe)
    missing = object()
    rows = [
        (name, *(short(recipe[name]) if name in recipe else DASH for recipe in keys.values()))
        for name in names
        if any(recipe.get(name) != usual.get(name, missing) for recipe in keys.values())
    ]
    words = frozenset(range(len(keys) + 1))
    return PlainTable(("key", *keys), tuple(rows), words)


def _phase_table(
    spans: Sequence[Span], recipes: Mapping[str, Mapping[str, Any]]
) -> PlainTable | None:
    if not spans:
        return None
    rows = [
        (
            span.phase,
            f"{span.start}–{span.end}" if span.epochs else DASH,
            str(span.epochs),
            lr_words(span, recipes),
            ", ".join(span.events) or DASH,
        )
        for span in spans
    ]
    head = ("phase", "from – to epoch", "epochs", "learning rate", "events")
    return PlainTable(head, tuple(rows), frozenset({0, 3, 4}))


def _shown(
    runs: pd.DataFrame, moments: Sequence[Sequence[Moment]]
) -> tuple[pd.DataFrame, list[Sequence[Moment]]]:
    """Return the runs with a training log on the page, and their moments.

    Of many seeds, they are those with the lowest, the median and the highest accuracy.
    """
    if len(runs) <= MOST_LINES:
        return runs, list(moments)
    order = runs["accuracy"].to_numpy().argsort(kind="stable")
    places = [order[0], order[len(order) // 2], order[-1]]
    return runs.iloc[places], [moments[place] for place in places]


def _logs(
    runs: pd.DataFrame, moments: Sequence[Sequence[Moment]]
) -> Iterator[tuple[str, PlainTable]]:
    """Yield the training log of each seed that has one."""
    short = metric_of(runs).short
    for seed, own in zip(runs["seed"], moments, strict=True):
        rows = tuple(
            (
                str(moment.epoch),
                moment.phase,
                moment.event or DASH,
                DASH if moment.lr is None else f"{moment.lr:.3g}",
                DASH if moment.train_loss is None else significant(moment.train_loss),
                DASH if moment.val_accuracy is None else _points(moment.val_accuracy),
                DASH if moment.test_accuracy is None else _points(moment.test_accuracy),
            )
            for moment in own
        )
        head = ("epoch", "phase", "event", "learning rate", "training loss")
        accuracies = (f"validation {short}", f"test {short}")
        if rows:
            words = f"Seed {seed}"
            yield words, PlainTable((*head, *accuracies), rows, frozenset({1, 2}))


def _points(accuracy: float) -> str:
    return format_number(accuracy, "points")


def _log_files(records: Sequence[Record]) -> list[str]:
    """Return the logs of the workflow's jobs; those of many seeds as a pattern."""
    stored = [run for run in records if not isinstance(run.get("reused"), str)]
    files = [log_file(run) for run in stored]
    if len(files) <= MOST_LINES:
        return files
    return list(dict.fromkeys(f"{file.rpartition('/')[0]}/seed*.log" for file in files))


def _commands(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield, for each experiment, the command for all runs, and for each run that for it alone.

    Of many runs, only the first has one.
    """
    for experiment in dict.fromkeys(str(run["experiment"]) for run in records):
        same = [run for run in records if run["experiment"] == experiment]
        folders = [run_folder(run) for run in same]
        yield "With everything that follows", rerun_command(experiment, folders)
        for run in same if len(same) <= MOST_LINES else same[:1]:
            yield f"Seed {run['seed']} alone", _prune(run)


def _prune(run: Record) -> str:
    names = ("experiment", "dataset", "architecture", "method", "setting")
    options = [f"--{name} {run[name]}" for name in names]
    options += [f"--ratio {ratio_of(run)}", f"--seed {run['seed']}"]
    return " ".join(["prunebench prune", *options])
