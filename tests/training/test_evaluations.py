"""Each network of a run is evaluated once on each split, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.experiments.results import TrainingResult, read_history
from prunebench.experiments.spec import BaseSpec, data_path
from prunebench.testing import start
from prunebench.training import classification
from prunebench.training.progress import PlainProgress
from prunebench.training.train import train_base
from tests.stored_files import change
from tests.training.conftest import recipe
from tests.training.test_train import HERE, base_spec, run_spec, train


@pytest.fixture
def results(data_file: Path, tmp_path: Path) -> Path:
    """A results folder with a base network."""
    data_path(tmp_path, "synthetic").parent.mkdir()
    shutil.copy(data_file, data_path(tmp_path, "synthetic"))
    train_base(base_spec(), tmp_path, progress=PlainProgress(), machine=HERE)
    return tmp_path


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each evaluation."""
    sizes: list[int] = []
    whole = classification.count_split

    def counted(model: Any, split: Any, *rest: Any) -> Any:
        sizes.append(len(split))
        return whole(model, split, *rest)

    monkeypatch.setattr(classification, "count_split", counted)
    return sizes


def test_a_run_evaluates_only_networks_that_are_new(results: Path, evaluated: list[int]) -> None:
    found = train(run_spec(), results)
    # After removal and after both epochs. The base is known, the network at the end too.
    assert len(evaluated) == 3 * 2
    base = TrainingResult.read(results / base_spec().path)
    assert (found.plans[0].test_accuracy_before, found.plans[0].val_accuracy_before) == (
        base.accuracy,
        base.val_accuracy,
    )
    rows = read_history(results / run_spec().path)
    assert [row.test_accuracy for row in rows] == [
        found.plans[0].test_accuracy_after,
        *(row.test_accuracy for row in rows[1:]),
    ]
    assert rows[-1].test_accuracy == found.accuracy


def test_nothing_removed_is_not_evaluated_again(results: Path, evaluated: list[int]) -> None:
    train(run_spec(ratio=0.0), results)
    assert len(evaluated) == 2 * 2  # after each epoch


def test_a_change_behind_autograds_back_is_noticed(evaluated: list[int]) -> None:
    run = start()
    run.accuracies()
    run.accuracies()
    assert len(evaluated) == 2
    run.params["fc.bias"].data[0] += 1  # no version counter counts this
    run.accuracies()
    assert len(evaluated) == 4
    run.params["fc.bias"].data[0] -= 1
    run.model.get_buffer("norm.running_mean").add_(1)
    run.accuracies()
    assert len(evaluated) == 6


def test_another_normalization_is_another_evaluation(evaluated: list[int]) -> None:
    run = start()
    run.accuracies()
    run.recipe = run.recipe.model_copy(update={"normalize": "digits"})
    run.accuracies()
    assert len(evaluated) == 4


def test_a_remembered_accuracy_is_exact(evaluated: list[int]) -> None:
    run = start()
    before = run.accuracies()
    torch.nn.init.zeros_(run.params["fc.weight"])
    own = next(iter(run.evaluations))[1]
    run.remember("test", own, 25.0)
    run.remember("val", own, 75.0)
    assert run.accuracies() == (75.0, 25.0) != before
    assert run.validate() == 0.75
    assert len(evaluated) == 2


def test_accuracies_are_evaluated_in_fp32() -> None:
    run, found = start(), set[torch.dtype]()
    run.model.register_forward_hook(lambda model, args, output: found.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        run.accuracies()
    assert found == {torch.float32}


def given(results: Path, name: str) -> BaseSpec:
    """A base network whose weights are the trained one's, by a recipe of this name."""
    shutil.copy(results / base_spec().path / "model.safetensors", results / "given.safetensors")
    settings = recipe(weights="given.safetensors")
    return base_spec().model_copy(update={"recipe_name": name, "recipe": settings})


def import_base(results: Path, name: str) -> TrainingResult:
    machine = HERE.model_copy(update={"data_dir": results})
    return train_base(given(results, name), results, progress=PlainProgress(), machine=machine)


def test_imported_weights_are_evaluated_once_for_all_recipes(
    results: Path, evaluated: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    first = import_base(results, "first")
    assert len(evaluated) == 2  # test and validation split
    assert "evaluate   200 test images · base/synthetic" in capsys.readouterr().out
    second = import_base(results, "second")
    assert len(evaluated) == 2
    assert (second.accuracy, second.val_accuracy) == (first.accuracy, first.val_accuracy)


def test_a_damaged_file_is_named_and_the_network_evaluated_again(
    results: Path, evaluated: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    import_base(results, "first")
    files = sorted((results / "base").glob("*/*/.evaluated/*.json"))
    assert len(files) == 2
    for file in files:
        file.write_text("{", encoding="utf-8")
    import_base(results, "second")
    assert len(evaluated) == 4
    assert "not valid JSON" in capsys.readouterr().out


def test_a_base_of_other_data_is_evaluated_once_for_all_runs(
    results: Path, evaluated: list[int]
) -> None:
    path = results / base_spec().path / "training.json"
    change(path, data_sha256="other")
    train(run_spec(), results)
    before = len(evaluated)
    train(run_spec(setting="again"), results)
    # The second run knows the base; after removal and both epochs it has new networks.
    assert before == 4 * 2
    assert len(evaluated) == before + 3 * 2


def test_an_evaluation_reports_its_progress(results: Path) -> None:
    run, done = start(), []
    run.evaluated("test", run.normalization, done.append)
    assert done[-1] == len(run.dataset.test)
