from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from prunebench.experiments.spec import RunSpec
from prunebench.report.by_class_table import by_class, by_class_table, write_by_class
from prunebench.report.collect import collect, write_rows
from prunebench.report.seed_statistics import averages
from tests.report.conftest import few_runs
from tests.stored_files import change

CATS = {"cat": 50.0, "traffic light": None, "masked": 70.0}


def detected(*rows: dict[str, float | None] | None) -> pd.DataFrame:
    """Runs of one cell with these APs by class, one per seed."""
    return few_runs(
        *(
            {
                "task": "detection",
                "seed": seed,
                "by_class": cell if cell is None else json.dumps(cell),
            }
            for seed, cell in enumerate(rows)
        )
    )


def test_each_class_is_a_column() -> None:
    found = by_class(detected(CATS, {"cat": 30.0}))
    assert list(found.columns) == [f"accuracy of {name}" for name in CATS]
    assert found["accuracy of cat"].tolist() == [50.0, 30.0]
    assert found["accuracy of traffic light"].isna().all()


def test_runs_without_classes_have_no_columns() -> None:
    assert by_class(detected(None)).empty
    assert by_class(few_runs({})).empty  # of an earlier version


def test_a_row_has_the_means_over_seeds() -> None:
    frame = detected(CATS, CATS | {"cat": 60.0})
    found = by_class(frame)
    wanted = ["method", "setting", "ratio", "ratio_kind", "n", "accuracy", *found]
    summary = averages(frame.join(found), list(found))[["dataset", "architecture", *wanted]]
    table = by_class_table(frame, summary)
    assert table.title == "digits · by class"
    assert [column.head for column in table.columns] == [
        *("method", "ratio", "n", "all (AP)"),
        *CATS,
    ]
    assert [str(cell) for cell in table.sections[0].lines[0].cells] == [
        *("l1", "0.5", "2", "98.00"),
        *("55.00", "–", "70.00"),
    ]


def test_80_classes_are_no_problem() -> None:  # pandas warns of many inserted columns
    frame = detected({f"class {i}": 1.0 for i in range(80)})
    found = by_class(frame)
    assert len(averages(frame.join(found), list(found.columns)).filter(like="_std")) == 1


@pytest.mark.parametrize("has_classes", [True, False])
def test_files_are_written_if_a_run_has_classes(
    one_run: tuple[Path, RunSpec], tmp_path: Path, has_classes: bool
) -> None:
    results, spec = one_run
    if has_classes:
        change(results / spec.path / "training.json", by_class={"a": 1 / 3, "b": None})
    write_rows(tmp_path / "runs.csv", collect(results, [spec]))
    paths = write_by_class(tmp_path / "runs.csv", tmp_path / "tables", "Boxes")
    if not has_classes:
        assert paths == []
        return
    assert [path.name for path in paths] == ["by_class.csv", "by_class.md"]
    lines = paths[0].read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith(",ratio_kind,n,top1,top1 of a,top1 of b")
    assert lines[1].endswith(",0.3333,")
    assert paths[1].read_text(encoding="utf-8").startswith("# Boxes · by class\n")
