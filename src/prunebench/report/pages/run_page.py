"""The page of a cell: its specification, time line, diagnostics, widths and costs, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunebench.experiments.recipe import Recipe
from prunebench.report.figures.accuracy_epochs import BASE, Split, split_shown
from prunebench.report.looks import look
from prunebench.report.origins import SHOWN_VERSIONS, reused_rows
from prunebench.report.other_code import by_other_code, log_file, rerun_command, run_folder
from prunebench.report.pages.interactive_figures import (
    InteractiveFigure,
    error_of,
    layers_of,
)
from prunebench.report.pages.timeline import Moment, Span, lr_words, moments_of, spans_of
from prunebench.report.run_diff import flat, short
from prunebench.report.runs_csv import (
    NETWORK,
    UNPRUNED,
    histories,
    is_latency,
    json_cells,
    metric_of,
    timed,
)
from prunebench.report.summary_table import ratio_of
from prunebench.report.table import DASH, Column, Section, format_number, number_cell, significant
from prunebench.report.table_formats import html_page

SCRIPT = "charts.js"  # beside the pages
_LETTERS = 45  # of phase names side by side on a narrow chart


@dataclass(frozen=True)
class PlainTable:
    """A table of texts; the columns in `words` are left-aligned."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})
    ids: tuple[str, ...] = ()  # of the columns, to link to


def page_name(cell: Mapping[Any, Any] | pd.Series) -> str:
    """Return the file name of a cell's page; no two cells share one.

    >>> page_name({"dataset": "digits", "architecture": "resnet20", "method": "l1",
    ...            "setting": "default", "ratio": 0.5, "ratio_kind": "macs"})
    'digits-resnet20-l1-default-macs-0.5.html'
    """
    names = [str(cell[name]) for name in (*NETWORK, "method", "setting")]
    return "-".join([*names, ratio_of(cell)]) + ".html"


Record = Mapping[Hashable, Any]  # a row of a frame


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
    recipes = _recipes(runs)
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
        figures=tuple(_figures(runs, moments, spans)),
        costs=_cost_table(records),
        seeds=_seed_table(runs),
        logs=tuple(_logs(runs, moments)),
        log_files=[log_file(run) for run in records if not isinstance(run.get("reused"), str)],
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
    seeds = ", ".join(str(seed) for seed in runs["seed"])
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
    return ("Seed " if len(runs) == 1 else "Seeds ") + ", ".join(str(s) for s in runs["seed"])


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


def _figures(
    runs: pd.DataFrame, moments: Sequence[Sequence[Moment]], spans: Sequence[Span]
) -> Iterator[InteractiveFigure]:
    """Yield the figures for which there are data."""
    seeds = [str(seed) for seed in runs["seed"]]
    phases = [_phase(i, span, spans[-1].end) for i, span in enumerate(spans) if span.epochs]
    if phases:
        yield from _over_epochs(runs, seeds, moments, phases)
    color = look(str(runs["method"].iloc[0])).color
    if layers := [layer | {"color": color} for layer in layers_of(runs)]:
        yield InteractiveFigure("run_widths", "Kept width per layer", "", {"points": layers})
    yield from _diagnostics(runs, seeds)


def _over_epochs(
    runs: pd.DataFrame,
    seeds: Sequence[str],
    moments: Sequence[Sequence[Moment]],
    phases: list[dict[str, Any]],
) -> Iterator[InteractiveFigure]:
    """Yield accuracy, learning rate and training loss over the epochs, as far as recorded."""
    metric, split = metric_of(runs), split_shown(runs)
    rows = [
        _moment(i, seed, moment, split, metric.short)
        for seed, own in zip(seeds, moments, strict=True)
        for i, moment in enumerate(own)
    ]
    base = float(runs[BASE[split]].mean())
    line = {"network": "unpruned", "accuracy": f"{base:.2f} %", "error": error_of(base)}
    bases = [] if math.isnan(base) else [line]
    words = "Test" if split == "test_accuracy" else "Validation"
    caption = (
        f"{words} {metric.words}; dashed: the unpruned network; a triangle: right after pruning."
    )
    if points := [row for row in rows if row["error"] is not None]:
        data = {"points": points, "phases": phases, "base": bases}
        yield InteractiveFigure("run_accuracy", f"{metric.noun} over epochs", caption, data)
    for name, title in (("lr", "Learning rate"), ("train_loss", "Training loss")):
        if points := [row for row in rows if row[name]]:  # 0 has no logarithm
            data = {"points": points, "phases": phases}
            yield InteractiveFigure(f"run_{name}", title, "At each epoch, by seed.", data)


def _phase(number: int, span: Span, end: int) -> dict[str, Any]:
    """Return a phase as a band; a name that would touch the next one is left out."""
    fits = span.epochs / end * _LETTERS >= len(span.phase)
    label = span.phase if fits else ""
    return {"start": span.start, "end": span.end, "is_odd": number % 2 == 1, "label": label}


def _moment(order: int, seed: str, moment: Moment, split: Split, metric: str) -> dict[str, Any]:
    accuracy = moment.accuracy(split)
    return {
        "seed": seed,
        "order": order,
        "epoch": moment.epoch,
        "phase": moment.phase,
        "event": moment.event,
        "error": None if accuracy is None else error_of(accuracy),
        metric: DASH if accuracy is None else f"{accuracy:.2f} %",
        "lr": moment.lr,
        "learning rate": DASH if moment.lr is None else f"{moment.lr:.3g}",
        "train_loss": moment.train_loss,
        "training loss": DASH if moment.train_loss is None else significant(moment.train_loss),
    }


def _diagnostics(runs: pd.DataFrame, seeds: Sequence[str]) -> Iterator[InteractiveFigure]:
    """Yield a figure for each quantity that the method has logged."""
    stored = [own or {} for own in json_cells(runs, "insides")]
    for quantity in dict.fromkeys(name for own in stored for name in own):
        points = [
            {"seed": seed} | point
            for seed, own in zip(seeds, stored, strict=True)
            for point in _logged(own.get(quantity, {}))
        ]
        is_over_time = any("step" in point for point in points)
        chart = "run_steps" if is_over_time else "run_layers"
        points = [point for point in points if ("step" in point) == is_over_time]
        words = "Median of the layers, with a band from the smallest to the largest layer."
        caption = words if is_over_time else "Logged once."
        title = quantity.replace("_", " ").capitalize()
        yield InteractiveFigure(chart, title, caption, {"points": points})


def _logged(lists: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    if "step" in lists:
        columns = [lists[name] for name in ("step", "low", "middle", "high")]
        for step, low, middle, high in zip(*columns, strict=True):
            yield {
                "step": step,
                "low": low,
                "middle": middle,
                "high": high,
                "median of the layers": significant(middle),
                "range over the layers": f"{significant(low)} to {significant(high)}",
            }
    elif lists:
        for i, (name, value) in enumerate(zip(lists["layer"], lists["value"], strict=True), 1):
            words = {"layer name": name, "logged value": significant(value)}
            yield {"layer": i, "value": value} | words


def _cost_table(records: Sequence[Record]) -> PlainTable:
    """Return costs before and after pruning; seeds with equal values share a row."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for run in records:
        for row in _costs(run):
            found.setdefault(row, []).append(str(run["seed"]))
    order = list(dict.fromkeys(name for name, *_ in found))
    rows = sorted(found.items(), key=lambda item: order.index(item[0][0]))
    cells = tuple(
        (name, ", ".join(seeds), before, after, change)
        for (name, before, after, change), seeds in rows
    )
    return PlainTable(("cost", "seed", "unpruned", "pruned", "change"), cells, frozenset({0, 1}))


def _costs(run: Record) -> Iterator[tuple[str, str, str, str]]:
    macs, base_macs = run["macs"], run["base_macs"]
    yield "MACs", f"{base_macs:,}", f"{macs:,}", format_number(base_macs / macs, "speedup")
    if run["macs_theoretical"] != macs:
        theoretical = run["macs_theoretical"]
        change = format_number(base_macs / theoretical, "speedup")
        yield "MACs without zeroed weights", f"{base_macs:,}", f"{theoretical:,}", change
    removed = f"{format_number(run['params_reduction_pct'], 'percent')} % removed"
    yield "parameters", f"{run['base_params']:,}", f"{run['params']:,}", removed
    yield "elements of activations", DASH, f"{run['activations']:,}", DASH
    for kind in sorted({timed(str(name)) for name in run if is_latency(str(name))}):
        now, base, speedup = (run[name] for name in kind.columns)
        if not math.isnan(now):
            change = format_number(speedup, "speedup")
            yield f"latency in ms, {kind.words}", significant(base), significant(now), change


def _seed_table(runs: pd.DataFrame) -> PlainTable:
    """Return the results and the origin of each seed; rows without a value are left out."""
    metric = metric_of(runs)
    numbers = {
        "accuracy": metric.short,
        "base_accuracy": f"{metric.short} unpruned",
        "drop": "drop",
        "val_accuracy": f"{metric.short} validation",
        "accuracy_best_val": f"{metric.short} at best validation",
        "accuracy_best_test": f"best test {metric.short}",
        "accuracy_after_removal": f"{metric.short} after removal",
        "accuracy_masked": f"{metric.short} masked",
    }
    others = {
        "epochs": "epochs",
        "training_seconds": "training s",
        "selection_seconds": "selection s",
    }
    texts = {
        "device": "device",
        "processor": "processor",
        "date": "date",
        "commit": "commit",
        "spec_hash": "specification",
        "base_hash": "base network",
    }
    rows: list[tuple[str, ...]] = []
    for names, write in ((numbers, _points), (others, significant), (texts, _hash)):
        for name, words in names.items():
            if name in runs and runs[name].notna().any():
                cells = (DASH if pd.isna(value) else write(value) for value in runs[name])
                rows.append((words, *cells))
    versions = [version or {} for version in json_cells(runs, "versions")]
    rows += [(name, *(own.get(name, DASH) for own in versions)) for name in SHOWN_VERSIONS]
    seeds = [f"seed {seed}" for seed in runs["seed"]]
    ids = ("", *(name.replace(" ", "") for name in seeds))
    return PlainTable(("", *seeds), tuple(rows), ids=ids)


def _points(value: float) -> str:
    return format_number(value, "points")


def _hash(text: str) -> str:
    return text[:16]


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
            yield f"Seed {seed}", PlainTable((*head, *accuracies), rows, frozenset({1, 2}))


def _commands(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield, for each experiment, the command for all runs, and for each run that for it alone."""
    for experiment in dict.fromkeys(str(run["experiment"]) for run in records):
        same = [run for run in records if run["experiment"] == experiment]
        folders = [run_folder(run) for run in same]
        yield "With everything that follows", rerun_command(experiment, folders)
        for run in same:
            yield f"Seed {run['seed']} alone", _prune(run)


def _prune(run: Record) -> str:
    names = ("experiment", "dataset", "architecture", "method", "setting")
    options = [f"--{name} {run[name]}" for name in names]
    options += [f"--ratio {ratio_of(run)}", f"--seed {run['seed']}"]
    return " ".join(["prunebench prune", *options])
