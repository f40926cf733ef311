"""The data of the report's interactive figures, computed from the runs of one network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunebench.report.figures.accuracy_epochs import BASE, NAMES, Split, split_shown
from prunebench.report.figures.series_panel import lowest_shown
from prunebench.report.looks import GROUPS, Look, look
from prunebench.report.middle_half import Place, places
from prunebench.report.pages import charts
from prunebench.report.pages.charts import SMALLEST_ERROR, Spec
from prunebench.report.pages.markers import path_of
from prunebench.report.pages.timeline import moments_of
from prunebench.report.runs_csv import histories, is_latency, json_cells, metric_of, timed
from prunebench.report.series import Pick, Series, at_one_ratio, base_accuracy, series_of
from prunebench.report.significance import FEWEST_PAIRS, margin
from prunebench.report.summary_table import ratio_of
from prunebench.report.table import DASH, format_number, interval_cell, number_cell, significant

Data = dict[str, list[dict[str, Any]]]
_BELOW = look("srfp")  # its marker points down


@dataclass(frozen=True)
class InteractiveFigure:
    """A figure of a page: the name of its chart, its data sets, and the words around it."""

    chart: str
    title: str
    caption: str
    data: Data

    @property
    def json(self) -> str:
        """Return the data sets for a script element."""
        return script_json(self.data)


def script_json(content: Any) -> str:
    r"""Return JSON that can stand inside a script element.

    >>> script_json({"a": "</script>"})
    '{"a":"\\u003c/script>"}'
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


@dataclass(frozen=True)
class Key:
    """A method in the legend of all figures."""

    method: str
    look: Look

    @property
    def path(self) -> str:
        """Return the marker as an SVG path."""
        return path_of(self.look)


def legend_of(cells: pd.DataFrame) -> list[Key]:
    """Return the methods of the cells in the order of legends."""
    methods = dict.fromkeys(one.method for one in series_of(cells))
    keys = [Key(method, look(method)) for method in methods]
    return sorted(keys, key=lambda key: GROUPS.index(key.look.group))


def figures_of(
    name: str, place: str, runs: pd.DataFrame, cells: pd.DataFrame
) -> Iterator[tuple[InteractiveFigure, Spec]]:
    """Yield the figures of one network with their charts, whose names begin with `place`.

    A figure without data is left out.
    """
    yield from _speedup(name, place, runs, cells)
    yield from _latencies(name, place, runs, cells)
    words, picks = at_one_ratio(cells)
    if picks:
        yield from _epochs(f"{name} · {words}", place, runs, picks)
        yield from _kept(f"{name} · {words}", place, runs, picks)


def _speedup(
    name: str, place: str, runs: pd.DataFrame, cells: pd.DataFrame
) -> Iterator[tuple[InteractiveFigure, Spec]]:
    series = series_of(cells)
    if series:
        title = f"{metric_of(runs).noun} vs. MACs speedup"
        yield _curves(
            title,
            f"{name}; dashed: unpruned",
            f"{place}_macs",
            "MACs speedup",
            "speedup",
            runs,
            series,
        )


def _latencies(
    name: str, place: str, runs: pd.DataFrame, cells: pd.DataFrame
) -> Iterator[tuple[InteractiveFigure, Spec]]:
    kinds = sorted({timed(str(column)) for column in runs.columns if is_latency(str(column))})
    for kind in kinds:
        _, base_ms, speedup = kind.columns
        series = series_of(cells[cells[speedup].notna()])
        if series:
            base = significant(float(runs[base_ms].median()))
            words = f"{name} · {kind.words}; dashed: unpruned, {base} ms"
            graph = "_graph" if kind.mode == "graph" else ""
            chart = f"{place}_{kind.device_kind}_{kind.part}_{kind.batch_size}{graph}"
            title = f"{metric_of(runs).noun} vs. latency speedup"
            yield _curves(title, words, chart, "latency speedup", speedup, runs, series)


def _curves(
    title: str,
    caption: str,
    chart: str,
    x_title: str,
    x: str,
    runs: pd.DataFrame,
    series: Sequence[Series],
) -> tuple[InteractiveFigure, Spec]:
    """Return accuracy over the column `x` of the cells, a line per series."""
    metric, base = metric_of(runs), base_accuracy(runs)
    shown = pd.concat([one.cells["accuracy"] for one in series]).tolist()
    floor = lowest_shown(shown, base)
    points = [
        _point(one, cell, x, x_title, metric.short, floor)
        for one in series
        for cell in one.cells.to_dict("records")
    ]
    if any(value < floor for value in shown):
        caption += "; a triangle at the lower edge: collapsed, below the axis"
    figure = InteractiveFigure(
        chart, title, f"{caption}.", {"points": points, "base": [_base(base) | {"y": base}]}
    )
    xs = [point["x"] for point in points]
    return figure, charts.curves(x_title, metric.axis, metric.short, xs)


def _base(accuracy: float) -> dict[str, Any]:
    return {"network": "unpruned", "accuracy": f"{accuracy:.2f} %"}


def _point(
    one: Series, cell: Mapping[Any, Any], x: str, x_title: str, metric: str, floor: float
) -> dict[str, Any]:
    mean, std, n = cell["accuracy"], cell["accuracy_std"], cell["n"]
    is_below = mean < floor
    half = 0.0 if math.isnan(std) else std
    place = {"x": cell[x], "y": floor if is_below else mean}
    place |= {"low": place["y"] if is_below else mean - half}
    place |= {"high": place["y"] if is_below else min(mean + half, 100.0)}
    words = {metric: _percent(mean, std), "95 % interval": _interval(mean, std, n)}
    words |= {x_title: format_number(cell[x], "speedup")}
    return _marks(one.method, one.label, one.variant, is_below) | place | _named(cell) | words


def _marks(method: str, label: str, variant: int = 0, is_below: bool = False) -> dict[str, Any]:
    own = look(method)
    fill = own.fill if variant == 0 else "white"
    return {
        "series": label,
        "color": own.color,
        "fill": fill,
        "shape": path_of(_BELOW if is_below else own),
        "dash": [2, 3] if own.group == "control" else [1, 0],
    }


def _named(cell: Mapping[Any, Any] | pd.Series) -> dict[str, Any]:
    names = {name: str(cell[name]) for name in ("method", "setting")}
    return names | {"ratio": ratio_of(cell), "n": str(cell["n"])}


def _percent(mean: float, std: float = math.nan) -> str:
    """Return a mean as text, with the deviation over two or more seeds.

    >>> _percent(98.333, 0.124), _percent(98.333)
    ('98.33 ± 0.12 %', '98.33 %')
    """
    return f"{number_cell(mean, 'points', std)} %"


def _interval(mean: float, std: float, n: int) -> str:
    """Return the 95 % t interval of a mean over seeds, a dash for fewer than three.

    >>> _interval(98.0, 0.1, 2), _interval(98.0, 0.1, 3)  # 4.303 * 0.1 / sqrt(3)
    ('–', '[97.75, 98.25]')
    """
    if n < FEWEST_PAIRS or math.isnan(std):
        return DASH
    half = float(margin(std / math.sqrt(n), n))
    return str(interval_cell(mean - half, mean + half))


def _epochs(
    name: str, place: str, runs: pd.DataFrame, picks: Sequence[Pick]
) -> Iterator[tuple[InteractiveFigure, Spec]]:
    """Yield the accuracy over epochs at one ratio, averaged over the seeds."""
    metric, split = metric_of(runs), split_shown(runs)
    points = [point for pick in picks for point in _trajectory(pick, pick.runs(runs), split)]
    if not any(not point["event"] for point in points):
        return
    base = base_accuracy(runs, BASE[split])
    known = [] if math.isnan(base) else [_base(base) | {"error": error_of(base)}]
    axis = NAMES[split].format(metric=metric.words)
    caption = f"{name}; means over the seeds; a triangle: right after pruning."
    title = f"{metric.noun} over epochs"
    data = {"points": points, "base": known}
    figure = InteractiveFigure(f"{place}_epochs", title, caption, data)
    yield figure, charts.epochs(axis, metric.short)


def error_of(accuracy: float) -> float:
    """Return the distance to 100 %, large enough for a logarithmic axis."""
    return max(100 - accuracy, SMALLEST_ERROR)


def _trajectory(pick: Pick, runs: pd.DataFrame, split: Split) -> Iterator[dict[str, Any]]:
    """Yield the mean accuracies of a cell, in the order of epochs and events."""
    found: dict[Place, list[float]] = {}
    words: dict[Place, tuple[str, str]] = {}
    for history in histories(runs):
        moments = moments_of(history)
        for place, moment in zip(places(one.epoch for one in moments), moments, strict=True):
            accuracy = moment.accuracy(split)
            if accuracy is not None:
                found.setdefault(place, []).append(accuracy)
                words.setdefault(place, (moment.phase, moment.event))
    short = metric_of(runs).short
    marks = _marks(pick.method, pick.label) | _named(pick.cell)
    for order, (at, values) in enumerate(sorted(found.items())):
        mean = pd.Series(values)
        phase, event = words[at]
        yield marks | {
            "epoch": at[0],
            "order": order,
            "error": error_of(mean.mean()),
            "phase": phase,
            "event": event,
            "n": str(len(values)),
            short: _percent(mean.mean(), mean.std(ddof=1)),
        }


def _kept(
    name: str, place: str, runs: pd.DataFrame, picks: Sequence[Pick]
) -> Iterator[tuple[InteractiveFigure, Spec]]:
    points = [point for pick in picks for point in _widths(pick, pick.runs(runs))]
    if points:
        caption = f"{name}; means over the seeds."
        title = "Kept width per layer"
        figure = InteractiveFigure(f"{place}_kept", title, caption, {"points": points})
        yield figure, charts.kept_units(len(picks))


def _widths(pick: Pick, runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    marks = {"series": pick.label} | _named(pick.cell)
    for layer in layers_of(runs):
        yield (
            marks
            | {"layer": layer["layer"], "kept": 100 * layer["kept"] / layer["full"]}
            | {title: layer[title] for title in ("layer name", "kept units", "kept in %")}
        )


def layers_of(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the layers of a cell's runs: number, mean of the kept units, full width, and words."""
    stored = [widths for widths in json_cells(runs, "widths") if widths]
    for number, name in enumerate(stored[0] if stored else (), start=1):
        kept = [widths[name][0] for widths in stored]
        full = stored[0][name][1]
        low, high = min(kept), max(kept)
        mean = sum(kept) / len(kept)
        yield {
            "layer": number,
            "kept": mean,
            "full": full,
            "layer name": name,
            "kept units": f"{low} of {full}" if low == high else f"{low} to {high} of {full}",
            "kept in %": f"{100 * mean / full:.1f}",
        }
