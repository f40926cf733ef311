"""Printed rows beside runs, on a small hand-made table of GReg's first one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prunebench.core.errors import ResultError
from prunebench.experiments.phases import RatioKind
from prunebench.papers.comparison import Compared, compare, half_interval, same_ratio
from prunebench.papers.comparison_table import comparison_table, to_csv, write_comparison
from prunebench.papers.published import PublishedRow, read_published
from prunebench.report.table_formats import to_latex, to_markdown
from tests.report.conftest import few_runs

PUBLISHED = read_published()
TABLE = {"paper": "greg", "table": "Table 1", "dataset": "cifar10", "architecture": "resnet56"}


def named(method: str | None, setting: str | None = None, ratio: str | None = None) -> str | float:
    if method is None:
        return math.nan
    names = {"architecture": "resnet56", "method": method, "setting": setting, "ratio": ratio}
    return json.dumps(names)


def cell(
    method: str, drops: Sequence[float], printed: str | float, **more: Any
) -> list[dict[str, Any]]:
    """Runs of one cell, one for each drop, from bases of 93.4 %."""
    return [
        {
            **TABLE,
            "method": method,
            "seed": seed,
            "drop": drop,
            "accuracy": 93.4 - drop,
            "base_accuracy": 93.4,
            "speedup_theoretical": 1.993,
            "params_reduction_pct": 49.82,
            "printed": printed,
            **more,
        }
        for seed, drop in enumerate(drops)
    ]


def compared(*cells: list[dict[str, Any]]) -> list[Compared]:
    return compare(few_runs(*(row for rows in cells for row in rows)), PUBLISHED)


def of(found: list[Compared], method: str, ratio: int | None = None) -> Compared:
    (one,) = (
        c
        for c in found
        if c.printed is not None and (c.printed.method, c.printed.ratio_printed) == (method, ratio)
    )
    return one


# printed: l1 at 50 92.97 ± 0.15, greg_1 at 50 93.06 ± 0.09, base 93.36
L1, GREG = named("l1", "one_shot"), named("greg_1", "growing_reg")


def test_a_row_that_agrees() -> None:
    one = of(compared(cell("l1", [0.35, 0.45, 0.40], L1)), "l1", 50)
    assert one.verdict == "agrees"
    assert one.printed_base == 93.36
    assert one.printed_drop == pytest.approx(0.39)
    assert one.difference == pytest.approx(0.01)
    # t(2) = 4.3027 over 0.05 / sqrt(3) and the printed 0.15
    assert one.interval == pytest.approx(4.3027 * math.hypot(0.05 / math.sqrt(3), 0.15), rel=1e-4)


def test_a_row_that_differs() -> None:
    one = of(compared(cell("greg_1", [1.30, 1.32, 1.34], GREG)), "greg_1", 50)
    assert (one.verdict, one.reason) == ("differs", "")
    assert one.difference == pytest.approx(1.32 - 0.30)


def test_one_seed_is_undecided_and_has_no_interval() -> None:
    one = of(compared(cell("l1", [0.4], L1)), "l1", 50)
    assert (one.verdict, one.reason, one.interval) == ("undecided", "n = 1", None)


def test_an_interval_that_agrees_with_all_is_undecided() -> None:
    one = of(compared(cell("l1", [0.0, 0.8], L1)), "l1", 50)
    assert one.verdict == "undecided"
    assert one.reason == "the interval is ± 5.4 points"


def test_a_row_on_other_data_is_not_comparable() -> None:
    one = of(compared(cell("l1", [0.4, 0.4], L1, dataset="digits")), "l1", 50)
    assert (one.verdict, one.reason) == ("not comparable", "digits instead of cifar10")


def test_a_shortened_row_is_not_comparable() -> None:
    one = of(compared(cell("l1", [0.4, 0.4], L1, epochs_scale=0.05)), "l1", 50)
    assert (one.verdict, one.reason) == ("not comparable", "epochs × 0.05")


def test_a_row_of_another_cost_is_not_comparable() -> None:
    one = of(compared(cell("l1", [0.4, 0.4], L1, speedup_theoretical=2.1)), "l1", 50)
    assert (one.verdict, one.reason) == ("not comparable", "speedup 2.10× instead of 1.99×")


def group_fisher_run(architecture: str, speedup: float) -> Compared:
    names = {"architecture": architecture, "method": "group_fisher", "setting": "norm_memory"}
    run = cell(
        "group_fisher",
        [0.1],
        json.dumps(names | {"ratio": "-"}),
        paper="group_fisher",
        table="Table 2",
        dataset="imagenet",
        architecture=architecture,
        speedup_theoretical=speedup,
    )
    return of(compared(run), "group_fisher")


@pytest.mark.parametrize(
    ("speedup", "reason"),
    [
        # 165 / 95 to 175 / 85 from the printed 170 and 90, and four percent beyond either
        (1.66, "speedup 1.66× instead of 1.74 to 2.06× by the printed FLOPs"),
        (1.68, "n = 1"),
        (2.14, "n = 1"),
        (2.15, "speedup 2.15× instead of 1.74 to 2.06× by the printed FLOPs"),
    ],
)
def test_without_a_printed_speedup_flops_give_a_rows_cost(speedup: float, reason: str) -> None:
    assert group_fisher_run("mobilenet_v2_x0_7", speedup).reason == reason


def test_a_row_that_was_never_run() -> None:
    one = of(compared(cell("l1", [0.4], L1)), "greg_1", 90)
    assert (one.verdict, one.ours) == ("not run", None)
    assert one.printed_drop == pytest.approx(93.36 - 89.49)


def test_a_row_without_a_printed_accuracy() -> None:
    row = next(r for r in PUBLISHED if (r.paper, r.table) == ("increg", "abstract of v1"))
    run = cell(
        "increg",
        [0.1, 0.2],
        json.dumps(
            {"architecture": row.architecture, "method": "increg", "setting": None, "ratio": "4"}
        ),
        paper="increg",
        table="abstract of v1",
        dataset="imagenet",
        architecture=row.architecture,
    )
    one = of(compared(run), "increg", 4)
    assert (one.verdict, one.reason) == ("not comparable", "no accuracy is printed")


def test_the_unpruned_network_is_the_base_and_gets_no_verdict() -> None:
    unpruned = cell("unpruned", [0.0, 0.0], named("baseline"), ratio=0.0, speedup_theoretical=1.0)
    one = of(compared(cell("l1", [0.4], L1), unpruned), "baseline")
    assert one.verdict == "base"
    assert one.ours is not None
    assert (one.ours.accuracy, one.printed_base) == (93.4, 93.36)


def test_controls_stand_beside_no_row() -> None:
    (*_, last) = compared(cell("l1", [0.4], L1), cell("random", [0.9], named(None)))
    assert (last.verdict, last.printed) == ("control", None)
    assert last.ours is not None
    assert last.ours.method == "random"


@pytest.mark.parametrize(
    ("architecture", "ratio", "top1"),
    [("resnet101", "-", 78.33), ("resnet50", "flops_m=3060", 76.95)],
)
def test_a_row_that_prints_no_ratio_is_named_by_that_or_by_its_flops(
    architecture: str, ratio: str, top1: float
) -> None:
    names = {"architecture": architecture, "method": "group_fisher", "setting": "norm_memory"}
    run = cell(
        "group_fisher",
        [0.1, 0.2],
        json.dumps(names | {"ratio": ratio}),
        paper="group_fisher",
        table="Table 4",
        dataset="imagenet",
        architecture=architecture,
        ratio_kind="macs",
    )
    printed = [c.printed for c in compared(run) if c.printed is not None and c.ours is not None]
    assert [float(row.top1 or 0) for row in printed] == [top1]


def test_a_cell_whose_row_does_not_exist_says_so() -> None:
    (*_, last) = compared(cell("l1", [0.4], L1, ratio=0.6))
    assert (last.verdict, last.reason) == ("not comparable", "the table has no such row")


def printed_row(kind: str, ratio: str) -> PublishedRow:
    row = next(r for r in PUBLISHED if r.ratio_printed is not None)
    changed = {"ratio_printed": ratio, "ratio_kind_printed": kind}
    return PublishedRow.model_validate(row.model_dump() | changed)


@pytest.mark.parametrize(
    ("printed", "kind", "ratio", "same"),
    [
        (("filters_per_layer", "92.5"), "units_per_group", 0.925, True),
        (("filters_per_layer", "50"), "units_global", 0.5, False),
        (("filters_global", "25"), "units_global", 0.25, True),
        (("flops", "50"), "macs", 0.5, True),
        (("speedup", "2.55"), "macs", 1 - 1 / 2.55, True),
        (("speedup", "2.55"), "macs", 0.6, False),
        (("speedup", "2"), "macs", 0.5, True),
        (("weights", "82.70"), "weights", 0.827, True),
        (("weights", "82.70"), "auto", math.nan, False),
    ],
)
def test_printed_ratios_and_ours(
    printed: tuple[str, str], kind: RatioKind, ratio: float, same: bool
) -> None:
    assert same_ratio(printed_row(*printed), ratio, kind) is same


def test_the_interval_of_three_seeds_without_a_printed_deviation() -> None:
    assert half_interval(0.1, 3, 0.0) == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"paper": math.nan}, "a comparison needs one paper, found none"),
        ({"table": "Table 9"}, "no published rows of 'greg', table 'Table 9'"),
    ],
)
def test_runs_of_no_table_are_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ResultError, match=words):
        compared(cell("l1", [0.4], L1, **changed))


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = [
        *cell("l1", [0.35, 0.45, 0.40], L1),
        *cell("greg_1", [1.30, 1.32, 1.34], GREG),
        *cell("random", [0.9], named(None)),
    ]
    return few_runs(*rows)


def test_cells_of_the_csv(frame: pd.DataFrame) -> None:
    lines = to_csv(compare(frame, PUBLISHED)).splitlines()
    assert lines[0].startswith("paper,table,dataset,architecture,method,setting,ratio,speedup_pri")
    assert lines[2] == (
        "greg,Table 1,cifar10,resnet56,l1,one_shot,50,1.99,1.993,49.82,3,93.36,93.4,92.97,0.15,"
        "93,0.05,0.39,0.4,0.05,0.01,0.657241,agrees,"
    )
    assert lines[-1] == (
        ",,cifar10,resnet56,random,default,0.5,,1.993,49.82,1,,93.4,,,92.5,,,0.9,,,,control,"
    )


def test_cells_of_markdown_and_latex(frame: pd.DataFrame) -> None:
    table = comparison_table(frame, compare(frame, PUBLISHED), "GReg")
    assert table.title == "GReg · greg, Table 1"
    (section,) = table.sections
    assert section.subtitle == "base 93.36 (paper) / 93.40 ± 0.00 (ours, n = 3)"
    (line,) = (x for x in to_markdown(table).splitlines() if "one_shot | 50" in " ".join(x.split()))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells == [
        *("l1", "one_shot", "50", "1.99×", "1.99×", "49.8", "3", "92.97 ± 0.15", "93.00 ± 0.05"),
        *("0.39", "0.40 ± 0.05", "0.01", "agrees"),
    ]
    assert r"l1 & one\_shot & 50 & 1.99 & 1.99 & 49.8 & 3 & 92.97 \pm 0.15" in to_latex(table)


def test_a_row_has_the_printed_method_s_name_and_the_base_ours() -> None:
    # one method of ours in two settings is two methods of the paper
    frame = few_runs(
        *cell("unpruned", [0.0], named("baseline"), ratio=0.0),
        *cell("early_bird", [0.4], L1, setting="magnitude"),
        *cell("early_bird", [1.3], GREG, setting="growing"),
    )
    table = comparison_table(frame, compare(frame, PUBLISHED))
    names = [(str(x.cells[0]), str(x.cells[2])) for x in table.sections[0].lines]
    assert names[0] == ("unpruned", "–")
    assert {("l1", "50"), ("greg_1", "50")} <= set(names)
    assert "early_bird" not in dict(names)


def test_other_data_are_said_before_all_else() -> None:
    moved = few_runs(*cell("l1", [0.4, 0.4], L1, dataset="digits"))
    (section,) = comparison_table(moved, compare(moved, PUBLISHED)).sections
    assert section.subtitle.startswith(
        "digits instead of cifar10: accuracies are not comparable to the paper's · base"
    )


def test_each_way_of_shortening_is_said_once() -> None:
    runs = few_runs(  # an unpruned network is not trained and has no steps
        *cell("l1", [0.4, 0.4], L1, max_images=200, max_steps=20),
        *cell("unpruned", [0.0, 0.0], named("baseline"), ratio=0.0, max_images=200),
    )
    (section,) = comparison_table(runs, compare(runs, PUBLISHED)).sections
    assert section.subtitle.startswith("at most 20 steps per phase, at most 200 images: accuracies")


def test_files_are_written_for_runs_of_a_table_alone(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "runs.csv", index=False)
    names = [path.name for path in write_comparison(tmp_path / "runs.csv", tmp_path)]
    assert names == ["published.csv", "published.md", "published.tex", "published.html"]
    few_runs({}).to_csv(tmp_path / "other.csv", index=False)
    assert write_comparison(tmp_path / "other.csv", tmp_path) == []
