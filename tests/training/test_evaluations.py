"""Each network of a run is evaluated once on each split, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.experiments.results import TrainingResult, read_history
from prunebench.experiments.spec import data_path
from prunebench.testing import start
from prunebench.training import classification
from prunebench.training.progress import PlainProgress
from prunebench.training.train import train_base
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
