from __future__ import annotations

import math

import pytest

from prunebench.report.table import Cell, Style, format_number, number_cell


def test_absent_number_is_a_dash_without_a_key() -> None:
    assert number_cell(math.nan, "points") == Cell("–", None, None)


def test_no_spread_is_printed_for_one_run() -> None:
    assert str(number_cell(98.5, "points", std=math.nan)) == "98.50"


def test_spread_of_equal_runs_is_printed() -> None:
    assert str(number_cell(98.5, "points", std=0.0)) == "98.50 ± 0.00"


def test_spread_has_the_digits_of_the_mean_and_no_unit() -> None:
    cell = number_cell(1.996, "speedup", std=0.0149)
    assert (cell.text, cell.spread, cell.key) == ("2.00×", "0.01", 1.996)


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (-0.25, "points", "−0.25"),
        (-0.004, "points", "0.00"),
        (75.04, "percent", "75.0"),
        (3.0, "count", "3"),
        (0.0051234, "significant", "0.00512"),
        (123456.0, "significant", "1.2e5"),
    ],
)
def test_numbers_have_as_many_digits_as_mean_something(
    value: float, style: Style, text: str
) -> None:
    assert format_number(value, style) == text
