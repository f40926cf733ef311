from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ModelError, RunStoppedError, TrainingError
from prunebench.experiments.machine import Machine
from prunebench.training import several_runs
from prunebench.training.progress import PlainProgress
from prunebench.training.several_runs import train_runs
from tests.experiments.test_spec import run

ERRORS = {
    0: None,
    1: ModelError("no group"),
    2: ZeroDivisionError("division by zero"),
    3: RunStoppedError(15, "fine_tune", 7),
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the runs that were begun; a seed decides how its run ends."""
    seeds: list[int] = []

    def train(spec: Any, results: Path, **_: Any) -> None:
        seeds.append(spec.seed)
        print(f"training {spec.seed}")
        if (error := ERRORS[spec.seed]) is not None:
            raise error

    monkeypatch.setattr(several_runs, "train_run", train)
    return seeds


def train_all(*seeds: int, logs: Path | None = None) -> None:
    specs = [run(seed=seed) for seed in seeds]
    train_runs(specs, Path("results"), progress=PlainProgress(), machine=Machine(), logs=logs)


def log_of(logs: Path, seed: int) -> str:
    return (logs / f"{run(seed=seed).path}.log").read_text(encoding="utf-8")


def test_a_failed_run_does_not_stop_the_others(trained: list[int]) -> None:
    failed = f"2 of 3 runs failed; {run(seed=1).path}: no group"
    with pytest.raises(TrainingError, match=failed):
        train_all(1, 2, 0)
    assert trained == [1, 2, 0]


def test_a_signal_stops_all(trained: list[int]) -> None:
    with pytest.raises(RunStoppedError):
        train_all(0, 3, 0)
    assert trained == [0, 3]


@pytest.mark.usefixtures("trained")
def test_the_output_of_each_run_is_appended_to_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled():  # pytest's own output would not go through file descriptors
        train_all(0, logs=tmp_path)
        with pytest.raises(TrainingError):
            train_all(0, 1, 2, logs=tmp_path)
        with pytest.raises(RunStoppedError):
            train_all(3, logs=tmp_path)
    assert log_of(tmp_path, 0) == "training 0\ntraining 0\n"
    assert log_of(tmp_path, 1) == "training 1\nprunebench: no group\n"
    assert log_of(tmp_path, 2).endswith("ZeroDivisionError: division by zero\n")
    assert "prunebench: stopped by signal 15 in phase fine_tune" in log_of(tmp_path, 3)
