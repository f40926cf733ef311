from __future__ import annotations

from pathlib import Path

from prunebench.report.missing_runs import (
    MissingRun,
    read_missing,
    with_missing,
    with_missing_notes,
    write_missing,
)
from prunebench.report.run_states import RunState
from prunebench.report.table import Cell, Column, Line, Section, Table

L1 = MissingRun("digits", "resnet20", "l1", "default", "0.5", "1", "failed", "the loss is nan")
COLUMNS = tuple(Column(name, name) for name in ("method", "ratio", "n", "accuracy"))


def table(heading: str = "digits · resnet20") -> Table:
    """Return a table with a row of l1."""
    cells = tuple(Cell(text) for text in ("l1", "0.5", "2", "98.00"))
    line = Line(cells, is_base=False, opens_ratio=False)
    return Table("", "", COLUMNS, (Section(heading, "base", (line,), ("own note",)),))


def texts(section: Section) -> list[list[str]]:
    return [[str(cell) for cell in line.cells] for line in section.lines]


def test_missing_runs_come_back_from_their_file(tmp_path: Path) -> None:
    path = "e/digits/resnet20/l1/default/0.5/seed1"
    write_missing(tmp_path, [RunState(path, "failed", "the loss is nan")])
    assert read_missing(tmp_path / "runs.csv") == [L1]
    write_missing(tmp_path, [])
    assert read_missing(tmp_path / "runs.csv") == []
    assert list(tmp_path.iterdir()) == []


def test_a_cell_with_some_results_gets_a_note_only() -> None:
    (section,) = with_missing(table(), [L1]).sections
    assert len(section.lines) == 1
    assert section.notes == ("l1, 0.5: 1 run failed (seed 1): the loss is nan.", "own note")


def test_a_cell_without_results_is_a_row_of_dashes() -> None:
    (section,) = with_missing(table(), [L1._replace(method="l2")]).sections
    assert texts(section)[1:] == [["l2", "0.5", "0", "–"]]


def test_a_network_without_results_is_a_section_of_its_own() -> None:
    missing = L1._replace(architecture="vgg16", state="waiting", reason="its base failed.")
    first, second = with_missing(table(), [missing]).sections
    assert first == table().sections[0]
    assert second.heading == "digits · vgg16"
    assert second.notes == ("l1, 0.5: 1 run is waiting (seed 1): its base failed.",)
    assert texts(second) == [["l1", "0.5", "0", "–"]]


def test_a_short_table_gets_the_notes_of_its_network() -> None:
    other = L1._replace(architecture="vgg16")
    shown = with_missing_notes(table("digits · resnet20 · ratio 0.5"), [L1, other])
    assert len(shown.sections[0].notes) == 2
    assert len(shown.sections[0].lines) == 1
