"""Every chart is valid Vega-Lite; what it shows is tested in test_browser.py."""

from __future__ import annotations

from typing import Any

import pytest
import vl_convert

from prunebench.report.pages.charts import (
    Spec,
    curves,
    epochs,
    kept_units,
    library,
    run_charts,
    speedup_ticks,
)

CHARTS = {
    "curves": curves("MACs speedup", "Top-1 accuracy (%)", "top-1", [1.5, 4]),
    "epochs": epochs("Test top-1 accuracy (%)", "top-1"),
    "kept_units": kept_units(3),
    **run_charts("top-1", "Test top-1 accuracy (%)"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_compiles_and_can_highlight_a_method(name: str) -> None:
    compiled = vl_convert.vegalite_to_vega(CHARTS[name])
    assert "picked" in {signal["name"] for signal in compiled["signals"]}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_as_wide_as_its_place_and_holds_no_data(name: str) -> None:
    spec = CHARTS[name]
    assert (spec["width"], spec["autosize"]["type"]) == ("container", "fit-x")
    assert "datasets" not in spec


def marks(spec: Spec) -> list[dict[str, Any]]:
    return [layer for layer in spec["layer"] if layer["data"]["name"] == "points"]


@pytest.mark.parametrize("name", ["curves", "epochs"])
def test_every_visible_mark_of_a_method_fades_with_it(name: str) -> None:
    for layer in marks(CHARTS[name]):
        is_hover = layer["mark"].get("opacity") == 0
        assert is_hover or "picked" in layer["encoding"]["opacity"]["condition"]["test"]


def test_a_narrow_axis_has_even_ticks_and_a_wide_one_doubles() -> None:
    assert speedup_ticks([0.96, 1.01]) == [0.96, 0.97, 0.98, 0.99, 1.0, 1.01, 1.02]
    assert speedup_ticks([1, 8]) == [1, 1.5, 2, 3, 4, 6, 8]


def test_the_library_ends_no_script_and_is_the_same_every_time() -> None:
    assert "</script" not in library()
    assert library() == library.__wrapped__()
    assert "window.vegaEmbed" in library()
