"""Runs that other code of their method has made are marked, and a command repeats them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from prunebench.experiments.results import TrainingResult
from prunebench.experiments.spec import RunSpec
from prunebench.report.collect import collect
from prunebench.report.other_code import rerun_lines
from prunebench.report.summary_table import short_table, summary_table
from tests.report.conftest import few_runs

NOTE = "Computed by another version of the method's source code: l1."
ROWS = [{"method": "greg_1"}, {"code": "other"}, {"code": "other", "ratio": float("nan")}]
ROWS[2]["ratio_kind"] = "auto"


def column(frame: pd.DataFrame, name: str) -> list[str]:
    table = summary_table(frame)
    (place,) = [i for i, column in enumerate(table.columns) if column.name == name]
    return [str(line.cells[place]) for line in table.sections[0].lines]


def test_rows_by_other_code_are_marked_and_noted() -> None:
    frame = few_runs(*ROWS)
    assert column(frame, "code") == ["", "other", "other"]
    assert summary_table(frame).sections[0].notes[-1] == NOTE
    assert "code" in [one.name for one in short_table(frame).columns]


def test_without_such_rows_there_is_neither_column_nor_note_nor_command() -> None:
    for frame in (few_runs({}), few_runs({"code": None})):
        table = summary_table(frame)
        assert "code" not in [one.name for one in table.columns]
        assert not any("source code" in note for note in table.sections[0].notes)
        assert rerun_lines(frame) == []


def test_the_command_repeats_exactly_those_runs() -> None:
    (line,) = rerun_lines(few_runs(*ROWS))
    assert line == (
        "2 of 3 runs were computed by another version of their method's source code; if the "
        "edit changes results, raise `revision` of l1, and the workflow repeats its runs; to "
        "repeat these without that: prunebench discard "
        "results/digits/digits/resnet20/l1/default/0.5/seed0 "
        "results/digits/digits/resnet20/l1/default/auto/seed0 "
        "&& snakemake --cores all --config experiments=digits"
    )


def test_a_run_is_marked_if_its_hash_is_another_one(one_run: tuple[Path, RunSpec]) -> None:
    results, spec = one_run
    folder = results / spec.path
    stored = TrainingResult.read(folder)

    def mark(code: str | None, now: str | None) -> str | None:
        stored.model_copy(update={"code": code}).write(folder)
        (row,) = collect(results, [spec], code_now=lambda method, options: now)
        return row.code

    assert mark("a", "b") == "other"
    assert mark("a", "a") is None
    assert mark(None, "b") is None  # a result of an earlier version
    assert mark("a", None) is None
