from __future__ import annotations

import json
from pathlib import Path

import pytest

from prunebench.core.errors import ResultError
from prunebench.experiments.results import (
    CostResult,
    DiagnosticRow,
    HistoryRow,
    diagnostics_of,
    read_history,
    write_diagnostics,
    write_history,
)

COST = CostResult(
    macs=600,
    params=70,
    macs_theoretical=500,
    sparsity=0.25,
    activations=30,
    base_macs=1200,
    base_params=140,
    base_activations=60,
    uncounted_operators={"aten::relu": 3},
    spec_hash="ab12",
    weights_sha256="cd34",
)


def test_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    COST.write(tmp_path)
    assert CostResult.read(tmp_path, "ab12") == COST
    assert list(json.loads((tmp_path / "metrics.json").read_text())) == [
        "macs",
        "params",
        "macs_theoretical",
        "sparsity",
        "activations",
        "base_macs",
        "base_params",
        "base_activations",
        "uncounted_operators",
        "spec_hash",
        "weights_sha256",
        "checksum",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"macs": None}, "macs: expected an integer, found None; .* measure it again"),
        ({"flops": 3}, "unknown key 'flops'.*; the file is damaged or from another version"),
        ({"spec_hash": "0123"}, "stale result of the specification 0123, expected ab12"),
    ],
)
def test_file_of_another_form_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    content = COST.model_dump(mode="json") | changes
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match=rf"metrics\.json: {message}"):
        CostResult.read(tmp_path, "ab12")


def test_missing_key_is_named(tmp_path: Path) -> None:
    content = COST.model_dump(mode="json")
    del content["params"]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match=r"metrics\.json: the key 'params' is missing; the file"):
        CostResult.read(tmp_path)


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    history = [
        HistoryRow("select", 0, 0, val_accuracy=40.5, test_accuracy=41.0, macs=9, event="pruned"),
        HistoryRow("fine_tune", 1, 18, 0.1, 2.5, 30.0, None, 50.0, 9, 0.4, "", True),
    ]
    diagnostics = [DiagnosticRow("select", 0, "conv1", "clusters", 3.0)]
    write_history(tmp_path, history)
    write_diagnostics(tmp_path, diagnostics)
    assert (tmp_path / "history.csv").read_text().splitlines()[1:] == [
        "select,0,0,,,,40.5,41.0,9,,pruned,",
        "fine_tune,1,18,0.1,2.5,30.0,,50.0,9,0.4,,True",
    ]
    assert read_history(tmp_path) == history
    path = tmp_path / "diagnostics.csv"
    assert diagnostics_of(path.read_bytes(), path) == diagnostics


@pytest.mark.parametrize(
    ("cell", "found"),
    [("18", "step is 'x', not a number"), ("True", "reportable is 'x', not True or")],
)
def test_damaged_cell_is_named(tmp_path: Path, cell: str, found: str) -> None:
    write_history(tmp_path, [HistoryRow("train", 1, 18, reportable=True)])
    path = tmp_path / "history.csv"
    path.write_text(path.read_text().replace(cell, "x"))
    with pytest.raises(ResultError, match=rf"history\.csv: {found}"):
        read_history(tmp_path)
