"""The printed rows: every file fits the schema, and nothing is lost on the way."""

from __future__ import annotations

import csv
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError, ResultError
from prunebench.papers.published import (
    COST_COLUMNS,
    FILE_COLUMNS,
    PublishedRow,
    one_line,
    papers,
    published_dir,
    read_published,
    select,
    write_published,
)

ROWS = read_published()
CELL = dict.fromkeys(FILE_COLUMNS, "") | {
    "paper": "greg",
    "table": "Table 1",
    "task": "classification",
    "dataset": "cifar10",
    "architecture": "resnet56",
    "method": "l1",
    "ratio": "50",
    "ratio_kind": "filters_per_layer",
    "flops_reduction_pct": "42.20",
    "source": "by hand",
}


def write(folder: Path, **changes: str) -> Path:
    """Write a file of one row, with some cells changed, and return its folder."""
    with (folder / "greg.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FILE_COLUMNS)
        writer.writeheader()
        writer.writerow(CELL | changes)
    return folder


def test_every_row_of_every_file_is_read() -> None:
    assert {path.stem for path in published_dir().glob("*.csv")} == set(papers(ROWS))
    assert Counter(row.paper for row in ROWS) == {
        "epruner": 78,
        "greg": 71,
        "group_fisher": 127,
        "increg": 27,
        "orthoreg": 60,
        "srfp": 76,
    }


def test_rows_from_elsewhere_are_marked() -> None:
    own = Counter(row.paper for row in select(ROWS, own_only=True))
    assert own == {
        "epruner": 36,
        "greg": 68,
        "group_fisher": 117,
        "increg": 7,
        "orthoreg": 30,
        "srfp": 1,
    }
    for row in ROWS:
        said = (
            "context row",
            "context only",
            "FPGM paper table",
            "third-party",
            "row IncReg quoted",
        )
        assert row.is_context == row.note.startswith(said), row.note


def test_printed_cost_cells_are_714_and_those_of_the_notes() -> None:
    cells = Counter(name for row in ROWS for name in row.printed())
    assert sum(cells[name] for name in COST_COLUMNS) == 714
    assert (cells["memory_m"], cells["sparsity_pct"]) == (63, 30)


def test_digits_are_kept_as_printed(tmp_path: Path) -> None:
    (row,) = read_published(write(tmp_path))
    assert str(row.flops_reduction_pct) == "42.20"
    assert row.ratio_printed == Decimal(50)
    assert row.ratio_kind_printed == "filters_per_layer"
    assert row.top1 is None


def test_numbers_of_the_note_are_cost_cells(tmp_path: Path) -> None:
    note = "F=4.1e9; memory M=11.11e6 elements; printed sparsity 31.14%"
    (row,) = read_published(write(tmp_path, note=note, flops_reduction_pct=""))
    assert row.printed() == {"memory_m": Decimal("11.11"), "sparsity_pct": Decimal("31.14")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "cifar"}, "dataset: unknown value 'cifar'; did you mean cifar10 or cifar100"),
        ({"ratio_kind": ""}, "ratio and ratio_kind must be both given or both empty"),
        ({"top1": "193.1"}, "top1: must be at most 100"),
        ({"flops_m": "4.1G"}, "flops_m: .*4.1G"),
        ({"method": "L1 norm"}, "method: 'L1 norm' is not a valid name"),
        ({"source": ""}, "source: expected text, found None"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"greg.csv, line 2: .*{words}"):
        read_published(write(tmp_path, **changes))


def test_a_file_holds_its_own_paper_only(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="line 2: paper is 'srfp', expected 'greg'"):
        read_published(write(tmp_path, paper="srfp"))


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    path = write(tmp_path) / "greg.csv"
    path.write_text(path.read_text() + "greg,Table 1\n")
    with pytest.raises(ResultError, match="line 3: expected 24 cells"):
        read_published(tmp_path)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "greg.csv").write_text("paper,table\n")
    with pytest.raises(ResultError, match=r"the columns must be paper,table,task"):
        read_published(tmp_path)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no CSV file"):
        read_published(tmp_path)


def test_rows_are_selected_by_columns() -> None:
    found = select(ROWS, paper="greg", table="Table 3", method="greg_2", architecture=None)
    assert [str(row.ratio_printed) for row in found] == [
        "1.32",
        "1.49",
        "2.31",
        "2.31",
        "2.56",
        "3.06",
    ]
    assert {row.setting for row in found} == {"filter_pruning", "own_base_75.40"}


def test_an_export_holds_the_rows_and_marks_context(tmp_path: Path) -> None:
    rows = [*select(ROWS, paper="srfp")[:2]]
    write_published(rows, ["mine, not run", ""], tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        exported = list(csv.DictReader(file))
    with (published_dir() / "srfp.csv").open(encoding="utf-8", newline="") as file:
        original = list(csv.DictReader(file))[:2]
    assert [row.pop("own") for row in exported] == ["yes", "no"]
    assert [row.pop("state") for row in exported] == ["mine, not run", ""]
    assert exported == original


def test_a_row_in_one_line(tmp_path: Path) -> None:
    (row,) = read_published(write(tmp_path, top1="93.06", setting="one_shot"))
    assert one_line(row) == (
        "greg · Table 1 · cifar10 resnet56 · l1 one_shot · 50 filters_per_layer · top-1 93.06"
    )


def test_missing_rows_are_listed_per_paper() -> None:
    text = (published_dir() / "MISSING.md").read_text(encoding="utf-8")
    for paper in papers(ROWS):
        section = text.split(f"## {paper} ")[1].split("\n## ")[0]
        assert section.count("\n- ") >= 2


def test_rows_are_frozen() -> None:
    assert isinstance(ROWS[0], PublishedRow)
    assert hash(ROWS[0]) == hash(ROWS[0].model_copy())


@pytest.mark.parametrize(
    ("table", "ratio", "is_named"),
    [
        ("Table 6", "50", True),
        ("Table 6", "50.0", True),
        ("Table 6", "-", False),
        ("Table 6", "flops_m=50", False),
        ("Table 1", "-", True),
        ("Table 1", "flops_m=2044", True),
        ("Table 1", "flops_m=2045", False),
        ("Table 1", "2044", False),
        ("Table 1", "params_m=19.42", False),
        ("Table 1", "half", False),
    ],
)
def test_a_row_is_named_by_its_ratio_or_without_one_by_its_flops(
    table: str, ratio: str, is_named: bool
) -> None:
    wanted = {"paper": "group_fisher", "table": table, "setting": "norm_memory"}
    row = select(read_published(), **wanted)[0]  # 50 % of FLOPs; 2044 M without a ratio
    assert row.is_named("group_fisher", "norm_memory", ratio) is is_named
    assert row.is_named("group_fisher")
    assert not row.is_named("group_fisher", "norm_flops")
