"""Every figure with 30 methods, on the width of a column and of a page."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from prunebench.report.figures.figure_options import STYLES, Options
from prunebench.report.figures.registry import FIGURES
from prunebench.report.looks import LOOKS
from tests.report.conftest import few_runs, shown

WITH_LINES = ("accuracy_speedup", "accuracy_latency", "speedup_measured")
COLORS = {one.color for one in LOOKS.values()}
WITHOUT_TRAINING = "accuracy_without_training"


def untrained(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs as if nothing had been trained."""
    history = few_runs({})["history"].iloc[0].replace('"", ""]', '"", "recalibrated"]')
    return runs.assign(epochs=0.0, accuracy_after_removal=runs["accuracy"] - 20, history=history)


@pytest.fixture(scope="module", params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def figures(style: str, many_runs: pd.DataFrame) -> dict[str, Figure]:
    """Return all figures by name, with their final layouts."""
    drawn = {}
    for name, draw in FIGURES.items():
        runs = untrained(many_runs) if name == WITHOUT_TRAINING else many_runs
        drawn[name] = draw(runs, Options(style))
        drawn[name].draw_without_rendering()
    return drawn


def texts(figure: Figure) -> list[Text]:
    """Return all texts but the numbers at ticks."""
    ticks = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels()
    }
    found = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text()]
    return [one for one in found if id(one) not in ticks and one.get_visible()]


def colored_lines(axes: Axes) -> set[str]:
    """Return the labels of the lines, with or without error bars, in the color of a method."""
    drawn = [bars[0] for bars in axes.containers] + list(axes.lines)
    labels = [str(bars.get_label()) for bars in axes.containers]
    labels += [str(line.get_label()) for line in axes.lines]
    colors = [line.get_color() for line in drawn]
    found = zip(labels, colors, strict=True)
    return {label for label, color in found if color in COLORS and not label.startswith("_")}


@pytest.mark.parametrize("name", [*WITH_LINES, WITHOUT_TRAINING])
def test_eight_lines_of_a_panel_are_in_color_and_the_others_a_band_with_a_label(
    figures: dict[str, Figure], name: str
) -> None:
    for axes in shown(figures[name]):
        assert len(colored_lines(axes)) == 8
        found = {text.get_text() for text in axes.texts}
        assert found & {"22 other methods", "21 other methods"}  # 21 beside an unstable one


def test_eight_methods_have_panels(figures: dict[str, Figure]) -> None:
    names = ("kept_width", "accuracy_epochs", "method_diagnostics")
    assert [len(shown(figures[name])) for name in names] == [16, 16, 8]  # of two networks, or one


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_texts_overlap(figures: dict[str, Figure], name: str) -> None:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figures[name])]
    overlapping = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 2
    ]  # in pixels, of which a letter has 20
    assert overlapping == []


@pytest.mark.parametrize("name", FIGURES)
def test_all_texts_have_8_points_and_are_within_the_figure(
    figures: dict[str, Figure], name: str
) -> None:
    found = texts(figures[name])
    assert {text.get_fontsize() for text in found} == {8.0}
    assert max(text.get_window_extent().x1 for text in found) <= figures[name].bbox.x1 + 1


@pytest.mark.parametrize("name", FIGURES)
def test_the_width_is_that_of_the_style(figures: dict[str, Figure], name: str, style: str) -> None:
    width = {"column": 90, "page": 180}[style]
    assert figures[name].get_figwidth() * 25.4 == pytest.approx(width)
    assert figures[name].get_figheight() * 25.4 < 297  # A4


@pytest.mark.parametrize("name", ["accuracy_speedup", "accuracy_latency"])
def test_no_axis_reaches_what_nobody_can_have(figures: dict[str, Figure], name: str) -> None:
    for axes in shown(figures[name]):
        assert axes.get_ylim()[1] <= 100
        assert axes.get_xlim()[0] == 1.0


@pytest.mark.parametrize("name", ["accuracy_speedup", "accuracy_latency"])
def test_the_front_is_drawn_with_its_interval(figures: dict[str, Figure], name: str) -> None:
    labels = [{str(patch.get_label()) for patch in axes.patches} for axes in shown(figures[name])]
    assert all({"_front", "_interval"} <= found for found in labels)


def test_error_bars_are_apart(figures: dict[str, Figure]) -> None:
    axes = figures["accuracy_speedup"].axes[0]
    moved = [bars[0].get_transform().transform((2, 90))[0] for bars in axes.containers]
    steps = [b - a for a, b in itertools.pairwise(sorted(moved))]
    # bars are 0.8 points wide; a point has 200 / 72 pixels
    assert len(moved) == 8
    assert min(steps) * 72 / 200 > 0.8


def test_chosen_methods_are_in_color(many_runs: pd.DataFrame) -> None:
    figure = FIGURES["accuracy_speedup"](many_runs, Options(highlight=("taylor", "fpgm")))
    assert [colored_lines(axes) for axes in shown(figure)] == [{"taylor", "fpgm"}] * 2
