from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prunebench.core.errors import ResultError
from prunebench.report.summary_table import short_table, summary_table, write_summary
from prunebench.report.table import Table

from .conftest import few_runs


def heads(table: Table) -> list[str]:
    return [column.head for column in table.columns]


def column_of(table: Table, name: str) -> list[str]:
    """Return a column of the first section as plain text."""
    place = [column.name for column in table.columns].index(name)
    return [str(line.cells[place]) for line in table.sections[0].lines]


def test_columns_without_a_value_vanish() -> None:
    assert heads(summary_table(few_runs({}))) == [
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
        ({"accuracy_masked": 98.5}, "masked"),
        ({"macs_theoretical": 25, "speedup_theoretical": 4.0}, "theoretical"),
        ({"sparsity_pct": 90.0}, "sparsity"),
        ({"latency_speedup_cuda_b64": 1.5}, "latency CUDA b64"),
        ({"latency_speedup_cpu_whole_b1": 1.5}, "latency CPU whole b1"),
        ({"latency_speedup_cuda_graph_b1": 1.5}, "latency CUDA graph b1"),
        ({"selection_seconds": 0.5}, "selection"),
        ({"magnitude_ratio": 30.0}, "magnitude"),
    ],
)
def test_column_appears_where_one_run_says_something(values: dict[str, Any], head: str) -> None:
    assert head in heads(summary_table(few_runs({}, {"method": "x"} | values)))


def test_masked_accuracy_equal_to_the_reported_one_says_nothing() -> None:
    assert "masked" not in heads(
        summary_table(few_runs({"accuracy": 98.5, "accuracy_masked": 98.5}))
    )


def test_masked_accuracy_is_a_dash_where_nothing_was_masked() -> None:
    table = summary_table(few_runs({}, {"method": "sfp", "accuracy_masked": 98.5}))
    assert column_of(table, "accuracy_masked") == ["–", "98.50"]


def test_theoretical_speedup_stands_beside_the_physical_one() -> None:
    masked = {"method": "sfp", "macs_theoretical": 25, "speedup_theoretical": 4.0}
    table = summary_table(few_runs({}, masked))
    assert column_of(table, "speedup_macs") == ["2.00×", "2.00×"]
    assert column_of(table, "speedup_theoretical") == ["2.00×", "4.00×"]
    assert table.sections[0].notes[1:-1] == (
        "sfp: pruned weights stay in the network as zeros; theoretical counts them as saved, "
        "MACs does not.",
    )


def test_means_have_a_spread_where_there_are_two_seeds() -> None:
    rows = [{"accuracy": 97.0, "seed": 0}, {"accuracy": 98.0, "seed": 1}, {"method": "greg_1"}]
    # deviations of half a point: sqrt(2 * 0.25 / 1) = 0.707
    assert column_of(summary_table(few_runs(*rows)), "accuracy") == ["97.50 ± 0.71", "98.00"]


def test_unpruned_is_the_base_row_and_comes_first() -> None:
    table = summary_table(few_runs({}, {"method": "unpruned", "ratio": 0.0, "accuracy": 99.0}))
    assert [line.is_base for line in table.sections[0].lines] == [True, False]
    assert column_of(table, "method") == ["unpruned", "l1"]


@pytest.mark.parametrize(
    ("ratio", "kind", "text"),
    [(0.5, "units_per_group", "0.5"), (0.7, "macs", "macs-0.7"), (math.nan, "auto", "auto")],
)
def test_ratio_is_spelled_as_in_paths(ratio: float, kind: str, text: str) -> None:
    table = summary_table(few_runs({"ratio": ratio, "ratio_kind": kind}, {"ratio": 0.875}))
    assert text in column_of(table, "ratio")


def test_rows_of_one_ratio_are_a_block() -> None:
    rows = [{"ratio": 0.75}, {}, {"method": "greg_1"}, {"method": "unpruned", "ratio": 0.0}]
    (section,) = summary_table(few_runs(*rows)).sections
    assert [line.opens_ratio for line in section.lines] == [False, True, False, True]


def test_base_counts_each_seed_once() -> None:
    rows = [{"seed": 0}, {"seed": 1, "base_accuracy": 98.0}, {"method": "greg_1"}]
    assert summary_table(few_runs(*rows)).sections[0].subtitle == "base 98.50 ± 0.71 % (n = 2)"


def test_base_of_one_seed_has_no_spread() -> None:
    assert summary_table(few_runs({})).sections[0].subtitle == "base 99.00 % (n = 1)"


def test_unfinished_phases_are_noted_with_the_number_of_runs() -> None:
    capped = {"method": "greg_1", "capped": "regularize;stabilize"}
    (section,) = summary_table(few_runs({}, capped, {"method": "x", "capped": "prune"})).sections
    assert section.notes[1:-1] == (
        "greg_1: regularize, stabilize reached its maximum length unfinished (1 run).",
        "x: prune reached its maximum length unfinished (1 run).",
    )


def test_rounded_widths_are_noted_once_a_setting() -> None:
    eight = {"method": "l1", "setting": "cores", "round_to": 8}
    (section,) = summary_table(few_runs({}, eight, eight | {"seed": 1})).sections
    (note,) = [note for note in section.notes if "rounded" in note]
    assert note == (
        "l1, cores: the widths that meet the ratio are rounded up to multiples of 8 channels, so "
        "the ratio is not met exactly."
    )


def test_latencies_that_miss_their_target_are_noted() -> None:
    at = {"method": "l1", "ratio_kind": "latency", "ratio": 0.3, "ratio_reached": 0.25}
    frame = few_runs({}, at | {"ratio_missed": 1}, at | {"seed": 1}, at | {"ratio": 0.5})
    (section,) = summary_table(frame).sections
    assert [note for note in section.notes if note.startswith("l1, ")] == [
        "l1, latency-0.3: the measured latency differs from the target by more than 5 % (1 of 2 "
        "runs; 0.250 removed on average)."
    ]
    assert any(note.startswith("Ratios of latency: the widths are") for note in section.notes)


def test_unstable_latencies_are_noted() -> None:
    unstable = {"ratio_kind": "latency", "ratio": 0.3, "ratio_reached": 0.3, "ratio_unstable": 1}
    (section,) = summary_table(few_runs({}, unstable | {"method": "fpgm"})).sections
    assert (
        "fpgm, latency-0.3: no measurement of the latency was stable (1 of 1 runs; 0.300 removed "
        "on average)."
    ) in section.notes


def test_experiments_are_the_title_unless_one_is_given() -> None:
    frame = few_runs({}, {"experiment": "more"})
    assert summary_table(frame).title == "digits, more"
    assert summary_table(frame, "Ours").title == "Ours"


def test_every_network_is_a_section_with_the_same_columns(runs: pd.DataFrame) -> None:
    table = summary_table(runs)
    assert [section.heading for section in table.sections] == [
        "digits · resnet20",
        "digits · vgg16_x0_25",
    ]
    assert [len(section.lines) for section in table.sections] == [31, 31]
    assert {len(line.cells) for section in table.sections for line in section.lines} == {13}
    assert table.sections[1].notes[1:-1] == (
        "greg_1: regularize reached its maximum length unfinished (1 run).",
    )


def test_difference_to_l1_has_an_interval_from_three_seeds_on() -> None:
    rows = [{"seed": seed, "accuracy": 90.0 + seed} for seed in range(3)]
    rows += [{"method": "greg_1", "seed": seed, "accuracy": 91.0 + 2 * seed} for seed in range(3)]
    table = summary_table(few_runs(*rows))
    # differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.303: 2 ± 2.48
    assert column_of(table, "difference") == ["–", "2.00"]
    assert column_of(table, "difference_low") == ["–", "[−0.48, 4.48]"]
    assert column_of(table, "verdict") == ["", "unclear"]
    assert column_of(table, "group") == ["a", "a"]
    assert table.sections[0].notes[-2:] == (
        "vs. l1: mean difference in top-1 to l1 at the same ratio, by seed; interval: its 95 % t "
        "interval, of 3 seeds or more, uncorrected; verdict: higher or lower than l1 by a paired t "
        "test at 5 %, after Holm's correction for all differences of the summary, otherwise "
        "unclear.",
        "group: methods at the same ratio that share a letter cannot be told apart by paired t "
        "tests at 5 %, after Holm's correction for all pairs of the summary, which is stricter "
        "than the verdict's; a: the highest mean (letters after Piepho 2004).",
    )


def test_two_seeds_have_no_interval_and_no_test() -> None:
    rows = [{"seed": seed, "accuracy": 90.0 + seed} for seed in range(2)]
    rows += [{"method": "greg_1", "seed": seed, "accuracy": 95.0 + 2 * seed} for seed in range(2)]
    table = summary_table(few_runs(*rows))
    assert not {"interval", "verdict", "group"} & set(heads(table))
    assert table.sections[0].notes[-1].endswith("by seed.")


def test_one_seed_beside_three_has_no_spread_interval_or_letter() -> None:
    rows = [{"seed": seed, "accuracy": 90.0 + seed} for seed in range(3)]
    rows += [{"method": "greg_1", "seed": s, "accuracy": 91.0 + 2 * s} for s in range(3)]
    table = summary_table(few_runs(*rows, {"method": "x", "accuracy": 99.0}))
    assert column_of(table, "accuracy")[-1] == "99.00"
    assert column_of(table, "difference_low")[-1] == "–"
    assert (column_of(table, "verdict")[-1], column_of(table, "group")[-1]) == ("", "")


def test_experiment_names_a_second_reference() -> None:
    rows = [
        {"method": name, "seed": s, "accuracy": y + s * slope}
        for name, y, slope in (("l1", 90.0, 1.0), ("sfp", 91.0, 2.0), ("greg_1", 97.0, 1.1))
        for s in range(3)
    ]
    table = summary_table(few_runs(*rows), reference="sfp")
    assert column_of(table, "difference") == ["–", "2.00", "7.10"]
    assert column_of(table, "difference_to_sfp") == ["−2.00", "–", "5.10"]
    assert column_of(table, "verdict_to_sfp") == ["unclear", "", "higher"]
    assert table.sections[0].notes[-2].startswith("vs. sfp: mean difference in top-1 to sfp")


def test_unknown_reference_is_named() -> None:
    with pytest.raises(ResultError, match="no run of the reference 'x', only of l1"):
        summary_table(few_runs({}), reference="x")


def test_short_table_is_corrected_for_the_comparisons_that_it_leaves_out() -> None:
    def at(ratio: float, gain: float) -> list[dict[str, Any]]:
        cell = [{"ratio": ratio, "seed": seed} for seed in range(3)]
        better = [98.0 + gain + noise for noise in (0.0, 0.1, -0.1)]
        return cell + [
            run | {"method": "greg_1", "accuracy": y} for run, y in zip(cell, better, strict=True)
        ]

    one, others = at(0.5, 0.6), [run for r in (0.1, 0.2, 0.6, 0.7, 0.8) for run in at(r, 0.0)]
    # t = 0.6 / (0.1 / sqrt(3)) = 10.4 with 2 degrees of freedom: p = 0.0091, and 0.055 of six
    assert column_of(short_table(few_runs(*one)), "verdict") == ["", "higher"]
    assert column_of(short_table(few_runs(*one, *others)), "verdict") == ["", "unclear"]


def test_short_table_without_a_method_of_the_papers_has_all_rows() -> None:
    frame = few_runs({"method": "unpruned", "ratio": 0.0}, {"method": "my_method"})
    assert column_of(short_table(frame), "method") == ["unpruned", "my_method"]


@pytest.mark.parametrize("table", [summary_table, short_table])
def test_unpruned_network_alone_is_a_table(table: Callable[[pd.DataFrame], Table]) -> None:
    frame = few_runs({"method": "unpruned", "ratio": 0.0})
    assert column_of(table(frame), "method") == ["unpruned"]


def test_fairness_is_the_first_note() -> None:
    (section,) = summary_table(few_runs({}, {"method": "greg_1"})).sections
    assert section.notes[0].startswith("Fairness level S4.2 (arXiv 2301.05219): the methods share")


def test_short_table_has_the_papers_methods_and_the_references_at_one_ratio() -> None:
    methods = ["random", "l1", "l2", "greg_1", "scratch_e", "my_method"]
    rows = [{"method": name, "ratio": ratio} for name in methods for ratio in (0.25, 0.5, 0.75)]
    rows += [{"method": "unpruned", "ratio": 0.0}]
    rows += [{"method": "epruner", "ratio": math.nan, "ratio_kind": "auto"}]
    rows += [{"method": "sfp", "architecture": "vgg16"}]
    table = short_table(few_runs(*rows))
    (section,) = table.sections
    assert section.heading == "digits · resnet20 · ratio 0.5 or the nearest in MACs"
    assert column_of(table, "method") == ["unpruned", "random", "l1", "greg_1", "epruner"]
    assert table.title == ""


def test_short_table_takes_the_first_setting_of_a_method() -> None:
    table = short_table(few_runs({}, {"setting": "other"}))
    assert len(table.sections[0].lines) == 1


def test_every_form_is_written(runs_csv: Path, tmp_path: Path) -> None:
    paths = write_summary(runs_csv, tmp_path)
    names = ["summary.csv", "summary.md", "summary.tex", "summary.html", "summary_short.md"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_same_runs_give_the_same_bytes(runs_csv: Path, tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_summary(runs_csv, tmp_path / "a")]
    assert [path.read_bytes() for path in write_summary(runs_csv, tmp_path / "b")] == first


def test_csv_has_a_row_per_cell_with_plain_numbers(runs_csv: Path, tmp_path: Path) -> None:
    lines = write_summary(runs_csv, tmp_path)[0].read_text(encoding="utf-8").splitlines()
    assert len(lines) == 63
    assert lines[0].startswith("dataset,architecture,method,setting,ratio,ratio_kind,n,base_top1")
    assert not re.search("[–×±−]", "".join(lines))


def test_tables_import_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, prunebench.report.table_formats, prunebench.report.collect; "
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_nothing_in_the_report_imports_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, prunebench.report as report\n"
        "for module in pkgutil.iter_modules(report.__path__):\n"
        "    importlib.import_module('prunebench.report.' + module.name)\n"
        "print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False False\n"


@pytest.mark.parametrize(("place", "explained"), [("cpu_b1", False), ("cpu_whole_b1", True)])
def test_latencies_of_the_whole_detector_are_explained(place: str, explained: bool) -> None:
    table = summary_table(few_runs({f"latency_speedup_{place}": 1.5}))
    assert any("post-processing" in note for note in table.sections[0].notes) is explained


UNSTABLE = {
    "latency_speedup_cpu_b1": 1.6,
    "latency_speedup_low_cpu_b1": 1.418,
    "latency_speedup_high_cpu_b1": 1.75,
    "latency_unstable_cpu_b1": 1,
}


def test_an_unstable_latency_is_a_range_without_a_rank() -> None:
    stable = {"method": "x", "latency_speedup_cpu_b1": 2.0, "latency_unstable_cpu_b1": 0}
    table = summary_table(few_runs(UNSTABLE, stable))
    assert column_of(table, "latency_speedup_cpu_b1") == ["(1.42–1.75×) unstable", "2.00×"]
    place = [column.name for column in table.columns].index("latency_speedup_cpu_b1")
    assert [line.cells[place].key for line in table.sections[0].lines] == [None, 2.0]
    assert table.sections[0].notes[-1] == (
        "unstable: in a run, the base timed against itself or two repetitions differed by more "
        "than 3 % in the median; the range is that of the speedup, which is in no mean and not "
        "ranked."
    )


def test_a_table_of_unstable_latencies_only_has_their_column() -> None:
    assert "latency CPU b1" in heads(summary_table(few_runs(UNSTABLE)))


def test_the_rule_is_explained_only_where_a_latency_is_unstable() -> None:
    table = summary_table(few_runs(UNSTABLE | {"latency_unstable_cpu_b1": 0}))
    assert column_of(table, "latency_speedup_cpu_b1") == ["1.60×"]
    assert not any(note.startswith("unstable") for note in table.sections[0].notes)


def test_a_detector_has_ap_at_two_overlaps() -> None:
    run = {"task": "detection", "accuracy": 40.0, "ap50": 60.0, "ap75": 45.0, "ap_small": 9.0}
    for table in (summary_table(few_runs(run)), short_table(few_runs(run))):
        assert heads(table)[:6] == ["method", "ratio", "n", "AP", "AP50", "AP75"]
        assert column_of(table, "ap75") == ["45.00"]
        assert "AP minus the row's" in table.legend


def test_numbers_of_a_classifier_are_not_read_as_ap() -> None:
    assert "AP50" not in heads(summary_table(few_runs({"ap50": 60.0})))
