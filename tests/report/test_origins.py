"""Tables say which rows were reused, and which were computed on other processors."""

from __future__ import annotations

import pandas as pd

from prunebench.report.figures.kept_width import kept_width
from prunebench.report.figures.registry import marked
from prunebench.report.summary_table import summary_table
from tests.report.conftest import few_runs

HERE = {"device": "cpu", "processor": "EPYC", "date": "2026-12-01", "reused": None}
HERE |= {"versions": '{"torch":"2.14.1"}'}
THERE = HERE | {"date": "2026-11-30", "reused": "old/runs.csv"}


def notes(frame: pd.DataFrame) -> list[str]:
    found = summary_table(frame).sections[0].notes
    return [note for note in found if note.startswith(("Reused", "Computed on"))]


def test_reused_rows_are_counted_and_say_where_they_come_from() -> None:
    later = THERE | {"seed": 1, "date": "2026-12-02", "versions": '{"torch":"2.13.0"}'}
    frame = few_runs(HERE | {"method": "random"}, THERE, later, HERE | {"seed": 2})
    assert notes(frame) == [
        "Reused from old/runs.csv: 2 of 4 runs, computed on EPYC, torch 2.13.0 and 2.14.1, "
        "2026-11-30 to 2026-12-02."
    ]
    table = summary_table(frame)
    (place,) = [i for i, column in enumerate(table.columns) if column.name == "reused"]
    assert [str(line.cells[place]) for line in table.sections[0].lines] == ["0", "2"]


def test_titles_of_figures_count_reused_rows() -> None:
    frame = few_runs(HERE, THERE | {"seed": 1})
    title = marked(kept_width(frame), frame).get_suptitle()
    assert title == "Kept width per layer · 1 of 2 runs reused"
    frame = few_runs(HERE)
    assert marked(kept_width(frame), frame).get_suptitle() == "Kept width per layer"


def test_other_processors_are_named_with_their_methods() -> None:
    rows = [HERE, HERE | {"seed": 1}, HERE | {"method": "random", "processor": "Xeon"}]
    rows.append(HERE | {"method": "fpgm", "device": "NVIDIA H200"})
    assert notes(few_runs(*rows)) == [
        "Computed on different processors, whose rounding differs: 2 runs on EPYC; 1 on Xeon "
        "(random); 1 on NVIDIA H200 (fpgm)."
    ]


def test_runs_of_one_machine_have_no_note() -> None:
    frame = few_runs(HERE, HERE | {"seed": 1})
    assert notes(frame) == []
    assert "reused" not in [column.name for column in summary_table(frame).columns]
