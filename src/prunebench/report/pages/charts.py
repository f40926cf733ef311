"""The interactive charts of the report and of the runs' pages, as Vega-Lite (by Altair).

A chart is a specification without data: its data sets are filled in by the page. Every chart has
the parameter `picked`, the method to be highlighted, which the page's script sets in all charts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import altair as alt
import vl_convert
from matplotlib.ticker import MaxNLocator

from prunebench.report.figures.style import BAND, INK, LINE, SOFT

Spec = dict[str, Any]
_Drawn = alt.Chart | alt.LayerChart | alt.FacetChart

_HEIGHT, _SMALL_HEIGHT, _ROW = 300, 170, 17  # px
_FADED = 0.1  # opacity of other methods
_IS_PICKED = "picked == '' || datum.method == picked"
_SPEEDUPS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)
_NARROW = 3  # ratio of the ends of an axis whose ticks are evenly spaced
_MOST_TICKS = 7
# Ticks of the accuracy axis, in percent; those that would overlap are left out.
_ERRORS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90)
_FIRST_COLOR = "#0b62a8"  # of the first seed, and of the middle half of many
SMALLEST_ERROR = 0.05  # percent; 100 % has no logarithm
_FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

CONFIG: Spec = {
    "font": _FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": LINE,
        "gridWidth": 0.6,
        "domainColor": SOFT,
        "tickColor": SOFT,
        "labelLimit": 220,
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "text": {"fontSize": 11},
}


@cache
def library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script for a page without network."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace(
        "</script", "<\\/script"
    )


def _spec(chart: _Drawn, height: int = _HEIGHT) -> Spec:
    """Return the specification of a chart that is as wide as its place in the page."""
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    del spec["config"]  # the page has one for all its charts
    params = [{"name": "picked", "value": ""}]
    return spec | {"params": params, "autosize": {"type": "fit-x", "contains": "padding"}}


def _data(name: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name=name))


def _opacity(full: float = 1.0) -> Any:
    return alt.condition(_IS_PICKED, alt.value(full), alt.value(full * _FADED))


def _tooltip(*titles: str) -> list[alt.Tooltip]:
    """Return a tooltip of texts, one per title; the fields of the data have the same names."""
    return [alt.Tooltip(f"{title}:N", title=title) for title in titles]


def curves(x_title: str, y_title: str, metric: str, xs: Iterable[float]) -> Spec:
    """Return the chart of accuracy over a speedup: data `points` and `base`.

    A point has x, y, low, high and is_below; below the axis it is a triangle at its edge.
    """
    tooltip = _tooltip("method", "setting", "ratio", "n", metric, "95 % interval", x_title)
    x = alt.X(
        "x:Q",
        title=f"{x_title[0].upper()}{x_title[1:]} (×)",
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(values=speedup_ticks(list(xs)), format="~g", grid=False),
    )
    y = alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False, nice=True))
    color = alt.Stroke("color:N", scale=None)
    series = _data("points").encode(x=x, y=y, detail="series:N", stroke=color)
    bars = series.mark_rule(strokeWidth=1).encode(y=alt.Y("low:Q"), y2="high:Q", opacity=_opacity())
    lines = series.mark_line(strokeWidth=1.5).encode(
        order="x:Q", opacity=_opacity(), strokeDash=alt.StrokeDash("dash:N", scale=None)
    )
    points = series.mark_point(size=70, strokeWidth=1.5).encode(
        fill=alt.Fill("fill:N", scale=None),
        shape=alt.Shape("shape:N", scale=None),
        opacity=_opacity(),
        order=alt.condition(_IS_PICKED, alt.value(1), alt.value(0)),  # on top, to be hovered over
        tooltip=tooltip,
    )
    return _spec(alt.layer(_base_line(y), lines, bars, points))


def _base_line(y: alt.Y) -> alt.Chart:
    line = _data("base").mark_rule(strokeDash=[5, 3], color=INK, size=1)
    shown: alt.Chart = line.encode(y=y, tooltip=_tooltip("network", "accuracy"))
    return shown


def speedup_ticks(speedups: Sequence[float]) -> list[float]:
    """Return ticks of a logarithmic axis, as many as there is room for.

    >>> speedup_ticks([1.04, 1.14]), speedup_ticks([1.4, 30])
    ([1.04, 1.06, 1.08, 1.1, 1.12, 1.14], [1.5, 3, 6, 12, 24])
    """
    low, high = min(speedups), max(speedups)
    if high > _NARROW * low:
        ticks = [tick for tick in _SPEEDUPS if low <= tick <= high]
        return ticks[:: math.ceil(len(ticks) / _MOST_TICKS)]
    ends = low * 0.99, high * 1.01
    even = MaxNLocator(_MOST_TICKS, steps=[1, 2, 5, 10]).tick_values(*ends)
    return [round(float(tick), 6) for tick in even if ends[0] <= tick <= ends[1]]


def _error_axis(title: str, field: str = "error") -> alt.Y:
    """Return an accuracy axis on which the distance to 100 % is logarithmic."""
    return alt.Y(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", reverse=True, nice=False, padding=6),
        axis=alt.Axis(values=list(_ERRORS), labelExpr="format(100 - datum.value, '~g')"),
    )


def epochs(y_title: str, metric: str) -> Spec:
    """Return the chart of accuracy over epochs, a line per series: data `points` and `base`."""
    y = _error_axis(y_title)
    series = _data("points").encode(x=_epoch_axis(), y=y, detail="series:N")
    stroke = alt.Stroke("color:N", scale=None)
    lines = series.mark_line(strokeWidth=1.5).encode(
        order="order:Q",
        stroke=stroke,
        opacity=_opacity(0.85),
        strokeDash=alt.StrokeDash("dash:N", scale=None),
    )
    pruned = (
        series.transform_filter("datum.event == 'pruned'")
        .mark_point(shape="triangle-down", size=55, fill="white", strokeWidth=1.3)
        .encode(stroke=stroke, opacity=_opacity())
    )
    tooltip = _tooltip("method", "setting", "ratio", "n", "epoch", "phase", "event", metric)
    hover = series.mark_point(size=80, filled=True, opacity=0).encode(
        order=alt.condition(_IS_PICKED, alt.value(1), alt.value(0)), tooltip=tooltip
    )
    return _spec(alt.layer(_base_line(y), lines, pruned, hover))


def kept_units(n_series: int) -> Spec:
    """Return the chart of kept widths, a row per series and a column per layer: data `points`."""
    cells = _data("points").encode(
        x=_layer_axis(),
        y=alt.Y("series:N", title=None, sort=None),
        opacity=_opacity(),
    )
    color = alt.Color(
        "kept:Q",
        title="Kept units (%)",
        scale=alt.Scale(domain=[0, 100], range=["#fdf1d6", "#8fb9c9", "#0b3f66"]),
        legend=alt.Legend(orient="top", gradientLength=160, direction="horizontal"),
    )
    tooltip = _tooltip("method", "setting", "ratio", "n", "layer name", "kept units", "kept in %")
    chart = cells.mark_rect(stroke="white", strokeWidth=1).encode(color=color, tooltip=tooltip)
    return _spec(chart, _ROW * n_series)


def run_charts(metric: str, y_title: str) -> dict[str, Spec]:
    """Return the charts that the pages of all runs share, by name.

    Those that end in `_half` show the middle half of many seeds, in `low` and `high`.
    """
    return {
        "run_accuracy": _run_accuracy(metric, y_title),
        "run_lr": _run_line("lr", "Learning rate", "learning rate"),
        "run_train_loss": _run_line("train_loss", "Training loss", "training loss"),
        "run_widths": _run_widths(),
        "run_steps": _run_steps(),
        "run_layers": _run_layers(),
        "run_accuracy_half": _run_accuracy_half(metric, y_title),
        "run_lr_half": _run_line_half("lr", "Learning rate", "learning rate"),
        "run_train_loss_half": _run_line_half("train_loss", "Training loss", "training loss"),
        "run_steps_half": _run_steps_half(),
        "run_layers_half": _run_layers_half(),
    }


def _phases() -> _Drawn:
    """Return a band behind every second phase, and the phases' names: data `phases`."""
    bands = (
        _data("phases")
        .transform_filter("datum.is_odd")
        .mark_rect(color=BAND)
        .encode(x=alt.X("start:Q"), x2="end:Q")
    )
    names = (
        _data("phases")
        .mark_text(align="left", baseline="bottom", dx=2, dy=-3, color=SOFT)
        .encode(x=alt.X("start:Q"), y=alt.value(0), text="label:N")
    )
    return alt.layer(bands, names)


def _seeded() -> alt.Chart:
    """Return a chart with a color per seed."""
    colors = [_FIRST_COLOR, "#c04f00", "#1b7f5b", "#7a3fa0", "#6b7680", "#a8325c"]
    legend = alt.Legend(
        orient="bottom", title="Seed", symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=2
    )
    color = alt.Color("seed:N", sort=None, scale=alt.Scale(range=colors), legend=legend)
    return _data("points").encode(color=color)


def _layer_axis() -> alt.X:
    axis = alt.Axis(labelOverlap="greedy", labelSeparation=4, labelAngle=0)
    return alt.X("layer:O", title="Layer, in network order", axis=axis)


def _epoch_axis() -> alt.X:
    return alt.X("epoch:Q", title="Epoch", axis=alt.Axis(grid=False, tickMinStep=1))


def _run_accuracy(metric: str, y_title: str) -> Spec:
    y = _error_axis(y_title)
    series = _seeded().encode(x=_epoch_axis(), y=y)
    lines = series.mark_line(strokeWidth=1.6).encode(order="order:Q")
    pruned = series.transform_filter("datum.event == 'pruned'").mark_point(
        shape="triangle-down", size=60, fill="white", strokeWidth=1.4
    )
    tooltip = _tooltip("seed", "epoch", "phase", "event", metric)
    hover = series.mark_point(size=90, filled=True, opacity=0).encode(tooltip=tooltip)
    return _spec(alt.layer(_phases(), _base_line(y), lines, pruned, hover))


def _run_accuracy_half(metric: str, y_title: str) -> Spec:
    y, low = _error_axis(y_title), _error_axis(y_title, "low")
    series = _data("points").encode(x=_epoch_axis())
    pruned = series.transform_filter("datum.event == 'pruned'").mark_point(
        shape="triangle-down", size=60, fill="white", stroke=_FIRST_COLOR, strokeWidth=1.4
    )
    tooltip = _tooltip("epoch", "phase", "event", metric, "quartiles")
    parts = [*_band_and_line(series, y, low), pruned.encode(y=y), _hover(series, y, tooltip)]
    return _spec(alt.layer(_phases(), _base_line(y), *parts))


def _band_and_line(series: alt.Chart, y: alt.Y, low: alt.Y) -> tuple[alt.Chart, alt.Chart]:
    """Return a band between the quartiles, and the line of the median."""
    band = series.mark_area(color=_FIRST_COLOR, opacity=0.25).encode(y=low, y2="high:Q")
    line = series.mark_line(color=_FIRST_COLOR, strokeWidth=1.6).encode(y=y, order="order:Q")
    return band, line


def _hover(series: alt.Chart, y: alt.Y, tooltip: list[alt.Tooltip]) -> alt.Chart:
    """Return invisible points that show a tooltip."""
    shown: alt.Chart = series.mark_point(size=90, filled=True, opacity=0).encode(
        y=y, tooltip=tooltip
    )
    return shown


def _log_axis(field: str, title: str) -> alt.Y:
    """Return the logarithmic axis of a positive number."""
    return alt.Y(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, padding=6),
        axis=alt.Axis(tickCount=4, format="~g"),
    )


def _run_line_half(field: str, y_title: str, title: str) -> Spec:
    y, low = _log_axis(field, y_title), _log_axis("low", y_title)
    series = _data("points").encode(x=_epoch_axis())
    tooltip = _tooltip("epoch", "phase", title, "quartiles")
    parts = [*_band_and_line(series, y, low), _hover(series, y, tooltip)]
    return _spec(alt.layer(_phases(), *parts), _SMALL_HEIGHT)


def _run_line(field: str, y_title: str, title: str) -> Spec:
    """Return the chart of a positive number over the epochs, on a logarithmic axis."""
    y = _log_axis(field, y_title)
    series = _seeded().encode(x=_epoch_axis(), y=y)
    lines = series.mark_line(strokeWidth=1.6).encode(order="order:Q")
    hover = series.mark_point(size=90, filled=True, opacity=0).encode(
        tooltip=_tooltip("seed", "epoch", "phase", title)
    )
    return _spec(alt.layer(_phases(), lines, hover), _SMALL_HEIGHT)


def _run_widths() -> Spec:
    """Return bars of the kept units within those of the full widths, a bar per layer."""
    x = _layer_axis()
    tooltip = _tooltip("layer name", "kept units", "kept in %")
    bars = _data("points").encode(x=x, tooltip=tooltip)
    full = bars.mark_bar(color=LINE).encode(y=alt.Y("full:Q", title="Units"))
    kept = bars.mark_bar().encode(y=alt.Y("kept:Q"), color=alt.Color("color:N", scale=None))
    return _spec(alt.layer(full, kept), _SMALL_HEIGHT + 30)


def _run_steps() -> Spec:
    """Return a logged quantity over steps: the layers' median, with a band over all layers."""
    y = alt.Y("middle:Q", title=None, scale=alt.Scale(zero=False))
    series = _seeded().encode(x=_step_axis())
    band = series.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    line = series.mark_line(strokeWidth=1.6).encode(y=y)
    hover = series.mark_point(size=90, filled=True, opacity=0).encode(
        y=y, tooltip=_tooltip("seed", "step", "median of the layers", "range over the layers")
    )
    return _spec(alt.layer(band, line, hover), _SMALL_HEIGHT)


def _run_steps_half() -> Spec:
    y = alt.Y("middle:Q", title=None, scale=alt.Scale(zero=False))
    series = _data("points").encode(x=_step_axis())
    tooltip = _tooltip("step", "median of the layers", "range over the layers")
    parts = [*_band_and_line(series, y, alt.Y("low:Q", title=None)), _hover(series, y, tooltip)]
    return _spec(alt.layer(*parts), _SMALL_HEIGHT)


def _step_axis() -> alt.X:
    return alt.X("step:Q", title="Training step", axis=alt.Axis(grid=False))


def _run_layers_half() -> Spec:
    """Return a quantity that was logged once: bars of the medians, lines between the quartiles."""
    series = _data("points").encode(
        x=_layer_axis(), tooltip=_tooltip("layer name", "logged value", "quartiles")
    )
    bars = series.mark_bar(color=_FIRST_COLOR).encode(y=alt.Y("value:Q", title=None))
    lines = series.mark_rule(color=INK).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
    return _spec(alt.layer(bars, lines), _SMALL_HEIGHT)


def _run_layers() -> Spec:
    """Return a quantity that was logged once, a bar per layer and seed."""
    x = _layer_axis()
    y = alt.Y("value:Q", title=None)
    bars = _seeded().mark_bar().encode(x=x, xOffset="seed:N", y=y)
    bars = bars.encode(tooltip=_tooltip("seed", "layer name", "logged value"))
    return _spec(bars, _SMALL_HEIGHT)
