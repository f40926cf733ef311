from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from prunebench.papers.cost_rules import (
    COUNTS,
    Cell,
    Rounded,
    Rule,
    as_column,
    how_printed,
    kept_share,
    spread,
)


@pytest.mark.parametrize(
    "column", ["flops_m", "flops_reduction_pct", "params_reduction_pct", "speedup_theoretical"]
)
def test_a_share_comes_back_from_every_column(column: str) -> None:
    printed = as_column(column, 30.0, 120.0)
    assert kept_share(column, printed, 120.0) == pytest.approx(0.25)
    assert (column in COUNTS) == (printed == 30.0)


def test_printed_ratios_are_speedups_or_remaining_percentages() -> None:
    assert kept_share("speedup_ratio", 5, 100.0) == 0.2
    assert kept_share("remaining_ratio", 50.1, 100.0) == pytest.approx(0.501)


@pytest.mark.parametrize(
    ("decimals", "speedup"),
    [((3,), "46.82"), ((4, 3), "44.22")],
)
def test_double_rounding_of_vgg19_at_90_percent(decimals: tuple[int, ...], speedup: str) -> None:
    rounded = Rounded(unit="G", decimals=decimals)
    base, kept = rounded.apply(2 * 398.1824), rounded.apply(2 * 8.745756)
    assert f"{base / kept:.2f}" == speedup  # 0.796 / 0.017, 0.796 / 0.018


@pytest.mark.parametrize(
    ("value", "printed", "quantum", "digits", "how"),
    [
        (11.114984, "11.11", "0.01", "round", "rounded"),
        (297.4618, "297.4", "0.1", "round", ""),
        (297.4618, "297.4", "0.1", "truncate", "truncated"),
        (297.4618, "297.5", "0.1", "either", "rounded"),
        (582.195824, "580", "10", "either", "rounded"),
        (586.0, "580", "10", "either", "truncated"),
        (0.5, "1", "1", "round", "rounded"),  # half goes up
    ],
)
def test_digits_are_rounded_or_truncated(
    value: float, printed: str, quantum: str, digits: str, how: str
) -> None:
    found = how_printed(value, Decimal(printed), Decimal(quantum), digits)  # type: ignore[arg-type]
    assert found == how


@pytest.mark.parametrize(
    ("digits", "ends"),
    [("round", (2.215, 2.225)), ("truncate", (2.22, 2.23)), ("either", (2.215, 2.23))],
)
def test_numbers_that_print_the_same(digits: str, ends: tuple[float, float]) -> None:
    assert spread(Decimal("2.22"), Decimal("0.01"), digits) == ends  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"of": "macs", "share": 0.5, "column": "flops_m"}, "give either share or column"),
        ({"of": "macs", "row": {"paper": "greg"}}, "row and instead require column"),
        ({"of": "macs", "instead": "1.05"}, "row and instead require column"),
        ({"of": "flops"}, "of"),
    ],
)
def test_a_rule_has_one_source(content: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Rule.model_validate(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "give by, otherwise or undetermined"),
        ({"otherwise": [{"of": "macs"}]}, "each rule in otherwise needs a reason"),
        (
            {"by": {"of": "macs"}, "undetermined": "unknown"},
            "by and undetermined exclude",
        ),
    ],
)
def test_words_alone_explain_no_cell(content: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Cell.model_validate(content)


def test_a_target_may_be_missed() -> None:
    content = {"by": {"of": "macs", "share": 0.5}, "undetermined": "needs training"}
    assert Cell.model_validate(content).by is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"of": "macs", "share": 0.25}, "25% of the base's multiply-accumulates of"),
        ({"of": "thop4", "column": "flops_m"}, "printed flops_m against the recomputed base; thop"),
        (
            {"of": "two_per_mac", "rounded": {"unit": "G", "decimals": [4, 3]}},
            "two operations per multiply-accumulate; counts rounded to 4, then 3 decimals of G",
        ),
    ],
)
def test_a_convention_in_words(content: dict[str, object], words: str) -> None:
    assert Rule.model_validate(content).words.startswith(words)
