from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.config import read_config
from prunebench.experiments.resolved import resolution_keys, write_resolved
from prunebench.experiments.spec import RunSpec
from prunebench.planning.grid import resolve
from prunebench.planning.lookup import (
    check_expected,
    experiment_runs,
    fitting_runs,
    one_run,
    settings_of,
)
from tests.cli.conftest import EXPERIMENT, WriteConfig

CONFIG = Path("config/config.yaml")


@pytest.fixture
def runs(write_config: WriteConfig) -> list[RunSpec]:
    """`unpruned`, and `l1` at 0.5 and 0.25, with seeds 0 and 1: six runs."""
    return resolve_all(write_config({"ratios": [0.5, 0.25], "seeds": [0, 1]}))


def resolve_all(config_dir: Path) -> list[RunSpec]:
    return resolve(read_config(config_dir / "config.yaml"), config_dir)


def found(experiment: str | None = None, resolved: Path | None = None) -> list[RunSpec]:
    runs = experiment_runs(experiment, config=CONFIG, results=Path("results"), resolved=resolved)
    return list(runs.values())


def by_path(runs: list[RunSpec]) -> dict[str, RunSpec]:
    return {run.path: run for run in runs}


@pytest.mark.parametrize("ratio", ["0.5", "0.50", "5e-1"])
def test_a_run_is_found_by_the_values_that_distinguish_it(runs: list[RunSpec], ratio: str) -> None:
    run = one_run(by_path(runs), method="l1", ratio=ratio, seed=1)
    assert run.path == "tiny/synthetic/resnet20_x0_25/l1/default/0.5/seed1"


def test_several_fitting_runs_list_the_open_choices(runs: list[RunSpec]) -> None:
    with pytest.raises(ConfigError) as error:
        one_run(by_path(runs), method="l1", dataset=None, ratio=None, seed=None)
    assert str(error.value) == "4 runs fit; choose --ratio 0.25 | 0.5; --seed 0 | 1"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            {"ratio": "0.55"},
            "--ratio: unknown ratio '0.55'; did you mean 0.5 or 0.25? (allowed: 0, 0.25, 0.5) "
            "among these runs",
        ),
        ({"seed": 2}, "--seed: unknown seed '2' (allowed: 0, 1) among these runs"),
        (
            {"dataset": "synthetik"},
            "--dataset: unknown dataset 'synthetik'; did you mean synthetic? (allowed: synthetic) "
            "among these runs",
        ),
        (
            {"method": "unpruned", "ratio": "0.5"},
            "--ratio: unknown ratio '0.5' (allowed: 0) among these runs",
        ),
    ],
)
def test_an_unknown_value_is_an_error_that_lists_the_known_ones(
    runs: list[RunSpec], wanted: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        fitting_runs(by_path(runs), **wanted)
    assert str(error.value) == words


def test_the_only_experiment_need_not_be_named(runs: list[RunSpec]) -> None:
    assert found() == runs


def test_one_of_several_experiments_must_be_named(write_config: WriteConfig) -> None:
    files = {
        "config.yaml": {"experiments": ["tiny", "other"]},
        "experiments/other.yaml": EXPERIMENT,
    }
    write_config(files=files)
    with pytest.raises(ConfigError, match=r"^config/config\.yaml: choose --experiment tiny \| oth"):
        found()
    assert {run.experiment for run in found("other")} == {"other"}


def test_an_experiment_that_is_not_configured_is_read_from_its_file(
    write_config: WriteConfig,
) -> None:
    write_config(files={"experiments/other.yaml": EXPERIMENT})
    assert [run.method for run in found("other")] == ["unpruned", "l1"]


def test_an_up_to_date_resolved_file_is_used(
    runs: list[RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = resolution_keys(read_config(CONFIG), CONFIG.parent)["tiny"]
    write_resolved(Path("results/resolved/tiny.jsonl"), runs[:2], key)
    monkeypatch.delattr("prunebench.planning.grid.resolve_experiment")
    assert found() == runs[:2]


def test_a_resolved_file_of_another_configuration_is_ignored(runs: list[RunSpec]) -> None:
    write_resolved(Path("results/resolved/tiny.jsonl"), runs[:2], "another key")
    assert found() == runs


def test_a_given_resolved_file_is_read_instead_of_the_configuration(runs: list[RunSpec]) -> None:
    write_resolved(Path("mine.jsonl"), runs[:2], "any key")
    CONFIG.unlink()
    assert found(resolved=Path("mine.jsonl")) == runs[:2]
    with pytest.raises(
        ConfigError, match=r"^mine\.jsonl: unknown experiment 'tny'; did you mean t"
    ):
        found("tny", resolved=Path("mine.jsonl"))


def test_a_changed_specification_stops_a_planned_job(runs: list[RunSpec]) -> None:
    check_expected(runs[:1], None)
    check_expected(runs[:1], runs[0].hash)
    check_expected(runs[:2], f"{runs[0].hash} {runs[1].hash}")
    with pytest.raises(ConfigError, match="this job was planned for 0123; the configuration has"):
        check_expected(runs[:1], "0123")


def test_defaults_apply_without_a_configuration(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "config.yaml")
    assert (settings.device, settings.data_dir) == ("auto", Path("data"))
    assert settings.checkpoint_seconds == 60
