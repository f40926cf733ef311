"""What a stored run records, and what differs between two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ResultError
from prunebench.experiments.results import HistoryRow, write_history
from prunebench.experiments.spec import RunSpec
from prunebench.report.run_diff import differences, shown
from tests.stored_files import change as change_file


@pytest.fixture
def pair(one_run: tuple[Path, RunSpec], tmp_path: Path) -> tuple[Path, Path]:
    """A stored run and its copy."""
    results, spec = one_run
    for name in ("a", "b"):
        shutil.copytree(results / spec.path, tmp_path / name)
        structure = {"groups": {"stem": {"kept": [0, 1]}, "block": {"kept": [0, 2]}}, "layers": {}}
        (tmp_path / name / "structure.json").write_text(json.dumps(structure))
    return tmp_path / "a", tmp_path / "b"


def change(folder: Path, **values: Any) -> None:
    change_file(folder / "training.json", **values)


def test_a_copy_has_no_differences(pair: tuple[Path, Path]) -> None:
    assert list(differences(*pair)) == []


def test_causes_come_before_results_most_likely_first(pair: tuple[Path, Path]) -> None:
    spec = json.loads((pair[1] / "training.json").read_text())["spec"]
    change(
        pair[1],
        spec=spec | {"ratio": 0.9},
        data_sha256="other",
        versions={"torch": "3.0"},
        threads=7,
        top1=12.5,
        weights_sha256="f" * 64,
        seconds={"fine_tune": 99.0},
    )
    kinds = list(dict.fromkeys(line.split()[0] for line in differences(*pair)))
    assert kinds == ["specification", "data", "versions", "threads", "weights", "accuracy"]
    assert "ratio: 0.5 | 0.9" in next(iter(differences(*pair)))


def test_the_first_row_that_differs_is_named(pair: tuple[Path, Path]) -> None:
    rows = [HistoryRow("fine_tune", n, 18 * n, train_loss=1 / n, seconds=n) for n in (1, 2, 3)]
    write_history(pair[0], rows)
    write_history(pair[1], [rows[0]._replace(seconds=9), rows[1]._replace(train_loss=0.4), rows[2]])
    (line,) = differences(*pair)
    assert line.split(maxsplit=1)[1] == "phase fine_tune, epoch 2, train_loss: 0.5 | 0.4"
    write_history(pair[1], rows[:2])
    assert next(iter(differences(*pair))).endswith("rows: 3 | 2")


def test_the_first_layer_with_other_units_is_named(pair: tuple[Path, Path]) -> None:
    structure = {"groups": {"stem": {"kept": [0, 1]}, "block": {"kept": [0, 3]}}, "layers": {}}
    (pair[1] / "structure.json").write_text(json.dumps(structure))
    (line,) = differences(*pair)
    assert "block (first of those that differ): 2 units [0, 2] | 2 units [0, 3]" in line


def test_another_name_is_a_label(pair: tuple[Path, Path]) -> None:
    spec = json.loads((pair[1] / "training.json").read_text())["spec"]
    change(pair[1], spec=spec | {"setting": "mine"})
    (line,) = differences(*pair)
    assert line.split()[0] == "label"


def test_a_run_is_shown_with_all_that_it_records(pair: tuple[Path, Path]) -> None:
    change(pair[0], capped=["regularize"], versions={"torch": "2.14.1"})
    text = "\n".join(shown(pair[0]))
    for words in (
        "resnet20",
        "l1 · default · ratio 0.5 of units_per_group",
        "top-1 ",
        "regularize reached its maximum length unfinished",
        "MACs",
        '{"torch": "2.14.1"}',
    ):
        assert words in text


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"training\.json: no such file"):
        list(shown(tmp_path))
