from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from prunebench.report.fairness_table import fairness_table, pairs_of_rows, write_fairness

from .conftest import few_runs, history

ONE_SHOT = {"history": history([], ["fine_tune"] * 12)}
GREG = {"method": "greg_1", "epochs": 20.0}
GREG |= {"history": history(["regularize"] * 8, ["fine_tune"] * 12)}
FRESH = {"start": "fresh", "base_hash": math.nan, "recipes": "{}", "fine_tune_epochs": math.nan}


def cells(frame: pd.DataFrame) -> list[list[str]]:
    (section,) = fairness_table(frame).sections
    return [[str(cell) for cell in line.cells] for line in section.lines]


def test_each_row_has_its_epochs_its_cost_and_its_level() -> None:
    sfp = FRESH | {"method": "sfp", "history": history(["train"] * 12, [])}
    # after the removal, an epoch costs half: 12 / 2, 8 + 12 / 2
    assert cells(few_runs(ONE_SHOT, GREG, sfp)) == [
        ["l1", "default", "0.5", "1", "12.0", "12.0", "6.00", ""],
        ["greg_1", "default", "0.5", "1", "20.0", "12.0", "14.0", "S3.2"],
        ["sfp", "default", "0.5", "1", "12.0", "–", "12.0", "S1"],
    ]


def test_the_reference_is_that_of_the_same_ratio() -> None:
    # at ratio 0.75, 24 epochs of a quarter of the multiply-accumulates cost as much as 12 of half
    quarter = {"ratio": 0.75, "speedup_macs": 4.0}
    long = quarter | {"epochs": 24.0, "fine_tune_epochs": 24.0}
    long |= {"history": history([], ["fine_tune"] * 24)}
    frame = few_runs(ONE_SHOT, long, quarter | GREG, GREG)
    assert [row[-1] for row in cells(frame)] == ["", "S3.2", "", "S2"]
    auto = {"method": "epruner", "ratio": math.nan, "ratio_kind": "auto"}
    assert cells(few_runs(ONE_SHOT, ONE_SHOT | auto))[-1][-1] == "S4.2"


def test_rows_without_the_reference_have_no_level() -> None:
    assert [row[-1] for row in cells(few_runs(GREG, GREG | {"method": "x"}))] == ["", ""]


def test_every_pair_of_rows_of_a_network_has_a_level() -> None:
    frame = few_runs({}, GREG, {"method": "x", "base_hash": "b1"}, {"architecture": "vgg16"})
    found = pairs_of_rows(frame)
    assert found[["method", "other_method", "level"]].to_numpy().tolist() == [
        ["l1", "greg_1", "S3.2"],
        ["l1", "x", "S1"],
        ["greg_1", "x", "S1"],
    ]
    assert found["differing"].tolist() == ["numbers of pruning epochs", *["base networks"] * 2]
    assert set(found["architecture"]) == {"resnet20"}


def test_the_level_of_the_whole_table_is_a_note() -> None:
    (section,) = fairness_table(few_runs({}, GREG)).sections
    assert section.notes[0].startswith("Fairness level S3.2")
    assert fairness_table(few_runs({})).sections[0].notes == ()


def test_both_forms_are_written(runs_csv: Path, tmp_path: Path) -> None:
    paths = write_fairness(runs_csv, tmp_path, "Ours")
    assert [path.name for path in paths] == ["fairness.csv", "fairness.md"]
    assert paths[1].read_text(encoding="utf-8").startswith("# Ours · fairness\n")
    # 30 rows of two networks, without the unpruned ones: 30 * 29 / 2 pairs each
    assert len(pd.read_csv(paths[0])) == 2 * 435
