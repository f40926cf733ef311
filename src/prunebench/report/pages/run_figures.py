"""The figures of a cell's page: a line per seed, or the middle half of more than five seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from prunebench.report.figures.accuracy_epochs import BASE, Split, split_shown
from prunebench.report.looks import look
from prunebench.report.middle_half import MOST_LINES, Place, Quartiles, middle_half, places
from prunebench.report.pages.interactive_figures import InteractiveFigure, error_of, layers_of
from prunebench.report.pages.timeline import Moment, Span
from prunebench.report.runs_csv import json_cells, metric_of
from prunebench.report.table import significant

_LETTERS = 45  # of phase names side by side on a narrow chart
_HALF = "_half"  # end of the name of a chart of many seeds
_HALF_WORDS = "Median of the seeds, in a band between the quartiles"

Point = dict[str, Any]


def run_figures(
    runs: pd.DataFrame, moments: Sequence[Sequence[Moment]], spans: Sequence[Span]
) -> Iterator[InteractiveFigure]:
    """Yield the figures for which there are data, given each seed's moments and the first's spans.

    More than five seeds are their median and quartiles.
    """
    phases = [_phase(i, span, spans[-1].end) for i, span in enumerate(spans) if span.epochs]
    if phases:
        yield from _over_epochs(runs, moments, phases)
    color = look(str(runs["method"].iloc[0])).color
    if layers := [layer | {"color": color} for layer in layers_of(runs)]:
        yield InteractiveFigure("run_widths", "Kept width per layer", "", {"points": layers})
    yield from _diagnostics(runs)


def _over_epochs(
    runs: pd.DataFrame, moments: Sequence[Sequence[Moment]], phases: list[dict[str, Any]]
) -> Iterator[InteractiveFigure]:
    """Yield accuracy, learning rate and training loss over the epochs, as far as recorded."""
    metric, split = metric_of(runs), split_shown(runs)
    base = float(runs[BASE[split]].mean())
    line = {"network": "unpruned", "accuracy": f"{base:.2f} %", "error": error_of(base)}
    bases = [] if math.isnan(base) else [line]
    words = "Test" if split == "test_accuracy" else "Validation"
    caption = (
        f"{words} {metric.words}; dashed: the unpruned network; a triangle: right after pruning."
    )
    if len(runs) > MOST_LINES:
        points, half, each = _accuracy_half(moments, split, metric.short), _HALF, f"{_HALF_WORDS}."
        caption = f"{each} {caption}"
    else:
        points, half, each = _accuracies(runs, moments, split, metric.short), "", "By seed."
    if points:
        data = {"points": points, "phases": phases, "base": bases}
        yield InteractiveFigure(f"run_accuracy{half}", f"{metric.noun} over epochs", caption, data)
    for name, title in (("lr", "Learning rate"), ("train_loss", "Training loss")):
        if half:
            points = _numbers_half(moments, name, title.lower())
        else:
            points = _numbers(runs, moments, name, title.lower())
        if points:
            data = {"points": points, "phases": phases}
            yield InteractiveFigure(f"run_{name}{half}", title, each, data)


def _phase(number: int, span: Span, end: int) -> dict[str, Any]:
    """Return a phase as a band; a name that would touch the next one is left out."""
    fits = span.epochs / end * _LETTERS >= len(span.phase)
    label = span.phase if fits else ""
    return {"start": span.start, "end": span.end, "is_odd": number % 2 == 1, "label": label}


def _accuracies(
    runs: pd.DataFrame, moments: Sequence[Sequence[Moment]], split: Split, metric: str
) -> list[Point]:
    return [
        _named(order, moment)
        | {"seed": str(seed), "error": error_of(accuracy), metric: f"{accuracy:.2f} %"}
        for seed, own in zip(runs["seed"], moments, strict=True)
        for order, moment in enumerate(own)
        if (accuracy := moment.accuracy(split)) is not None
    ]


def _accuracy_half(moments: Sequence[Sequence[Moment]], split: Split, metric: str) -> list[Point]:
    found = middle_half(
        [
            {
                place: accuracy
                for place, moment in _placed(own)
                if (accuracy := moment.accuracy(split)) is not None
            }
            for own in moments
        ]
    )
    return [
        point
        | {"error": error_of(own.middle), "low": error_of(own.low), "high": error_of(own.high)}
        | {metric: f"{own.middle:.2f} %", "quartiles": f"{own.low:.2f} to {own.high:.2f} %"}
        for point, own in _points_of(found, moments)
    ]


def _numbers(
    runs: pd.DataFrame, moments: Sequence[Sequence[Moment]], name: str, title: str
) -> list[Point]:
    return [
        _named(order, moment) | {"seed": str(seed), name: value, title: significant(value)}
        for seed, own in zip(runs["seed"], moments, strict=True)
        for order, moment in enumerate(own)
        if (value := getattr(moment, name))  # 0 has no logarithm
    ]


def _numbers_half(moments: Sequence[Sequence[Moment]], name: str, title: str) -> list[Point]:
    found = middle_half(
        [
            {place: value for place, moment in _placed(own) if (value := getattr(moment, name))}
            for own in moments
        ]
    )
    return [
        point | {name: own.middle, title: significant(own.middle)} | _band(own)
        for point, own in _points_of(found, moments)
    ]


def _band(own: Quartiles) -> Point:
    words = f"{significant(own.low)} to {significant(own.high)}"
    return {"low": own.low, "high": own.high, "quartiles": words}


def _placed(moments: Sequence[Moment]) -> Iterator[tuple[Place, Moment]]:
    return zip(places(moment.epoch for moment in moments), moments, strict=True)


def _points_of(
    found: Mapping[Place, Quartiles], moments: Sequence[Sequence[Moment]]
) -> Iterator[tuple[Point, Quartiles]]:
    """Yield the quartiles with epoch, phase and event, of the first seed that has the place."""
    first: dict[Place, Moment] = {}
    for seed in moments:
        for place, moment in _placed(seed):
            first.setdefault(place, moment)
    for order, (place, own) in enumerate(found.items()):
        yield _named(order, first[place]), own


def _named(order: int, moment: Moment) -> Point:
    return {
        "order": order,
        "epoch": moment.epoch,
        "phase": moment.phase,
        "event": moment.event,
    }


def _diagnostics(runs: pd.DataFrame) -> Iterator[InteractiveFigure]:
    """Yield a figure for each quantity that the method has logged."""
    stored = [own or {} for own in json_cells(runs, "insides")]
    for quantity in dict.fromkeys(name for own in stored for name in own):
        logged = [own.get(quantity, {}) for own in stored]
        title = quantity.replace("_", " ").capitalize()
        if len(runs) > MOST_LINES:
            yield _logged_half(title, logged)
        else:
            yield _logged(title, runs, logged)


def _logged(
    title: str, runs: pd.DataFrame, logged: Sequence[Mapping[str, Sequence[Any]]]
) -> InteractiveFigure:
    points = [
        {"seed": str(seed)} | point
        for seed, lists in zip(runs["seed"], logged, strict=True)
        for point in (_steps(lists) if "step" in lists else _layers(lists))
    ]
    if any("step" in point for point in points):
        points = [point for point in points if "step" in point]
        words = "Median of the layers, with a band from the smallest to the largest layer."
        return InteractiveFigure("run_steps", title, words, {"points": points})
    return InteractiveFigure("run_layers", title, "Logged once.", {"points": points})


def _steps(lists: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    columns = [lists[name] for name in ("step", "low", "middle", "high")]
    for step, low, middle, high in zip(*columns, strict=True):
        yield _step(step, low, middle, high)


def _step(step: int, low: float, middle: float, high: float) -> Point:
    return {
        "step": step,
        "low": low,
        "middle": middle,
        "high": high,
        "median of the layers": significant(middle),
        "range over the layers": f"{significant(low)} to {significant(high)}",
    }


def _layers(lists: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    pairs = zip(lists.get("layer", ()), lists.get("value", ()), strict=True)
    for number, (name, value) in enumerate(pairs, start=1):
        words = {"layer name": name, "logged value": significant(value)}
        yield {"layer": number, "value": value} | words


def _logged_half(title: str, logged: Sequence[Mapping[str, Sequence[Any]]]) -> InteractiveFigure:
    over_time = [lists for lists in logged if "step" in lists]
    if over_time:
        low, middle, high = (
            middle_half([dict(zip(lists["step"], lists[name], strict=True)) for lists in over_time])
            for name in ("low", "middle", "high")
        )
        points = [
            _step(step, low[step].middle, middle[step].middle, high[step].middle) for step in middle
        ]
        words = (
            "Median of the layers, with a band from the smallest to the largest layer, each the "
            "median of the seeds."
        )
        return InteractiveFigure(f"run_steps{_HALF}", title, words, {"points": points})
    names = next((lists["layer"] for lists in logged if lists), ())
    found = middle_half([dict(enumerate(lists.get("value", ()), start=1)) for lists in logged])
    points = [
        {"layer": number, "value": own.middle, "logged value": significant(own.middle)}
        | {"layer name": name}
        | _band(own)
        for (number, own), name in zip(found.items(), names, strict=False)
    ]
    caption = "Logged once; median of the seeds, with the quartiles."
    return InteractiveFigure(f"run_layers{_HALF}", title, caption, {"points": points})
