from __future__ import annotations

import json

import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from prunebench.core.errors import ResultError
from prunebench.report.figures.kept_width import kept_width
from tests.report.conftest import CURVE, few_runs, shown, words


def bars(axes: Axes) -> list[float]:
    (container,) = [c for c in axes.containers if isinstance(c, BarContainer)]
    return [bar.get_height() for bar in container]


def test_bars_are_the_kept_share_in_network_order() -> None:
    (axes,) = shown(kept_width(few_runs({"widths": '{"z":[4,8],"a":[4,16]}'})))
    assert bars(axes) == [50.0, 25.0]


def test_bars_are_means_over_seeds_with_their_deviation() -> None:
    rows = [{"widths": '{"a":[4,8],"b":[4,8]}'}, {"widths": '{"a":[6,8],"b":[4,8]}', "seed": 1}]
    (axes,) = shown(kept_width(few_runs(*rows)))
    assert bars(axes) == [62.5, 50.0]
    (container,) = [c for c in axes.containers if isinstance(c, BarContainer)]
    lengths = [(high - low)[1] for low, high in container.errorbar[2][0].get_segments()]
    # 50 and 75: deviations of 12.5, sqrt(2 * 156.25 / 1) = 17.68 to each side
    assert lengths == pytest.approx([35.36, 0.0], abs=0.01)


def test_runs_that_list_different_layers_are_refused() -> None:
    rows = [{}, {"seed": 1, "widths": '{"a":[4,8],"c":[4,16]}'}]
    with pytest.raises(ResultError, match="the runs of l1 list different layers"):
        kept_width(few_runs(*rows))


def test_methods_that_keep_the_same_share_a_panel() -> None:
    rows = [{}, {"method": "greg_1"}, {"method": "epruner", "widths": '{"a":[8,8],"b":[4,16]}'}]
    titles = [axes.get_title(loc="left") for axes in shown(kept_width(few_runs(*rows)))]
    assert titles == ["greg_1, l1", "epruner"]


def test_stages_are_shaded_by_turns_and_named_by_their_width() -> None:
    frame = few_runs(
        {"widths": '{"a":[4,8],"b":[4,8],"c":[9,16],"d":[8,32]}', "stages": "[null,0,0,1]"}
    )
    (axes,) = shown(kept_width(frame))
    bands = [(band.get_x(), band.get_x() + band.get_width()) for band in axes.patches[-1:]]
    assert bands == [(0.5, 2.5)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "8–16", "32"]


def test_a_width_that_would_touch_the_one_before_is_left_out() -> None:
    layers = 30
    widths = {f"l{i}": [4, 8 * 2 ** (i // 3)] for i in range(layers)}
    stages = [i // 3 for i in range(layers)]
    row = {"widths": json.dumps(widths), "stages": json.dumps(stages)}
    four = [
        row | {"method": f"m{i}", "widths": json.dumps(widths | {"l0": [i, 8]})} for i in range(4)
    ]
    axes = shown(kept_width(few_runs(*four)))[0]
    # 31 letters over 30 layers: 3.1 a stage, "8" to "64" fit side by side, "128" does not
    texts = [label.get_text() for label in axes.get_xticklabels()]
    assert texts == ["8", "16", "32", "64", "256", "1024", "4096"]


def test_title_says_at_which_ratio() -> None:
    figure = kept_width(few_runs(*CURVE, {"method": "greg_1", "ratio": 0.75}))
    assert "resnet20 · digits · ratio 0.75" in words(figure)


@pytest.mark.parametrize(("layers", "columns"), [(20, 4), (56, 2), (150, 1)])
def test_many_layers_get_wider_panels(layers: int, columns: int) -> None:
    rows = [
        {
            "method": f"m{i}",
            "widths": json.dumps({f"l{j}": [i + 1, 8] for j in range(layers)}),
            "stages": json.dumps([0] * layers),
        }
        for i in range(4)
    ]
    panels = shown(kept_width(few_runs(*rows)))
    assert [axes.get_subplotspec().get_gridspec().ncols for axes in panels] == [columns] * 4
