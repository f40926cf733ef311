from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from prunebench.report.summary_table import Table, lay_out

from .conftest import few_runs


def heads(table: Table) -> list[str]:
    return [column.head for column in table.columns]


def column_of(table: Table, name: str) -> list[str]:
    """Return a column of the first section as plain text."""
    place = [column.name for column in table.columns].index(name)
    return [str(line.cells[place]) for line in table.sections[0].lines]


def test_columns_without_a_value_vanish() -> None:
    assert heads(lay_out(few_runs({}))) == [
        "method",
        "ratio",
        "n",
        "top-1",
        "drop",
        "MACs",
        "params",
    ]


@pytest.mark.parametrize(
    ("values", "head"),
    [
        ({"setting": "beta0.9"}, "setting"),
        ({"top1_masked": 98.5}, "masked"),
        ({"macs_theoretical": 25, "speedup_theoretical": 4.0}, "theoretical"),
        ({"sparsity_pct": 90.0}, "sparsity"),
        ({"latency_speedup_cuda_b64": 1.5}, "latency CUDA b64"),
        ({"selection_seconds": 0.5}, "selection"),
        ({"magnitude_ratio": 30.0}, "magnitude"),
    ],
)
def test_column_appears_where_one_run_says_something(values: dict[str, Any], head: str) -> None:
    assert head in heads(lay_out(few_runs({}, {"method": "x"} | values)))


def test_masked_accuracy_equal_to_the_reported_one_says_nothing() -> None:
    assert "masked" not in heads(lay_out(few_runs({"top1": 98.5, "top1_masked": 98.5})))


def test_masked_accuracy_is_a_dash_where_nothing_was_masked() -> None:
    table = lay_out(few_runs({}, {"method": "sfp", "top1_masked": 98.5}))
    assert column_of(table, "top1_masked") == ["–", "98.50"]


def test_theoretical_speedup_stands_beside_the_physical_one() -> None:
    masked = {"method": "sfp", "macs_theoretical": 25, "speedup_theoretical": 4.0}
    table = lay_out(few_runs({}, masked))
    assert column_of(table, "speedup_macs") == ["2.00×", "2.00×"]
    assert column_of(table, "speedup_theoretical") == ["2.00×", "4.00×"]
    assert table.sections[0].notes == (
        "sfp: leaves zeros in place; MACs counts what was removed, theoretical the zeros too.",
    )


def test_means_have_a_spread_where_there_are_two_seeds() -> None:
    rows = [{"top1": 97.0, "seed": 0}, {"top1": 98.0, "seed": 1}, {"method": "greg_1"}]
    # deviations of half a point: sqrt(2 * 0.25 / 1) = 0.707
    assert column_of(lay_out(few_runs(*rows)), "top1") == ["97.50 ± 0.71", "98.00"]


def test_unpruned_is_the_base_row_and_comes_first() -> None:
    table = lay_out(few_runs({}, {"method": "unpruned", "ratio": 0.0, "top1": 99.0}))
    assert [line.is_base for line in table.sections[0].lines] == [True, False]
    assert column_of(table, "method") == ["unpruned", "l1"]


@pytest.mark.parametrize(
    ("ratio", "kind", "text"),
    [(0.5, "units_per_group", "0.5"), (0.7, "macs", "macs-0.7"), (math.nan, "auto", "auto")],
)
def test_ratio_is_spelled_as_in_paths(ratio: float, kind: str, text: str) -> None:
    table = lay_out(few_runs({"ratio": ratio, "ratio_kind": kind}, {"ratio": 0.875}))
    assert text in column_of(table, "ratio")


def test_rows_of_one_ratio_are_a_block() -> None:
    rows = [{"ratio": 0.75}, {}, {"method": "greg_1"}, {"method": "unpruned", "ratio": 0.0}]
    (section,) = lay_out(few_runs(*rows)).sections
    assert [line.opens_ratio for line in section.lines] == [False, True, False, True]


def test_base_counts_each_seed_once() -> None:
    rows = [{"seed": 0}, {"seed": 1, "base_top1": 98.0}, {"method": "greg_1"}]
    assert lay_out(few_runs(*rows)).sections[0].base == "base 98.50 ± 0.71 % (n = 2)"


def test_base_of_one_seed_has_no_spread() -> None:
    assert lay_out(few_runs({})).sections[0].base == "base 99.00 % (n = 1)"


def test_unfinished_phases_are_noted_with_the_number_of_runs() -> None:
    capped = {"method": "greg_1", "capped": "regularize;stabilize"}
    (section,) = lay_out(few_runs({}, capped, {"method": "x", "capped": "prune"})).sections
    assert section.notes == (
        "greg_1: regularize, stabilize ended at its cap, unfinished (1 run).",
        "x: prune ended at its cap, unfinished (1 run).",
    )


def test_experiments_are_the_title_unless_one_is_given() -> None:
    frame = few_runs({}, {"experiment": "more"})
    assert lay_out(frame).title == "digits, more"
    assert lay_out(frame, "Ours").title == "Ours"


def test_every_network_is_a_section_with_the_same_columns(runs: pd.DataFrame) -> None:
    table = lay_out(runs)
    assert [section.architecture for section in table.sections] == ["resnet20", "vgg16_x0_25"]
    assert [len(section.lines) for section in table.sections] == [31, 31]
    assert {len(line.cells) for section in table.sections for line in section.lines} == {12}
    assert table.sections[1].notes == ("greg_1: regularize ended at its cap, unfinished (1 run).",)
