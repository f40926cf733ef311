"""`prunebench compare` runs one method beside stored rows."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prunebench.cli.compared_method import seeds_of, write_experiment
from prunebench.experiments.config import read_experiment
from prunebench.planning.grid import resolve_experiment
from tests.workflow.conftest import ROOT


def compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prunebench", "compare", *arguments],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )


def test_only_the_new_method_runs_and_stands_beside_the_stored_rows(quick_copy: Path) -> None:
    stored = quick_copy / "stored.csv"
    shutil.copy(quick_copy / "results/quick/runs.csv", stored)
    done = compare(quick_copy, "l2", "--with", "stored.csv", "--seeds", "1", "--cores", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    place = quick_copy / "results/quick_with_l2"
    assert {path.name for path in (place / "digits/resnet20").iterdir() if path.is_dir()} == {"l2"}
    with (place / "compared/runs.csv").open(encoding="utf-8", newline="") as file:
        methods = [row["method"] for row in csv.DictReader(file)]
    assert methods == ["unpruned", "random", "l1", "l2"]
    with (place / "compared/differences.csv").open(encoding="utf-8", newline="") as file:
        differences = {row["to"]: row for row in csv.DictReader(file)}
    assert set(differences) == {"l1", "random"}
    assert differences["l1"]["n"] == "1"
    assert "| l2 " in done.stdout
    assert "l2 · default · digits · resnet20 · ratio units_per_group 0.5" in done.stdout
    for name in ("summary.md", "accuracy_speedup.svg"):
        assert (place / "compared" / name).stat().st_size
    file = quick_copy / "config/experiments/quick_with_l2.yaml"
    assert f"{file.relative_to(quick_copy)}: written" in done.stdout


def test_what_cannot_be_compared_is_one_line(workflow: Path) -> None:
    rows = "experiment,method\nquick,l1\ndigits,l1\n"
    (workflow / "two.csv").write_text(rows, encoding="utf-8")
    done = compare(workflow, "l2", "--with", "two.csv")
    assert done.returncode == 1
    assert done.stderr == "prunebench: two.csv: the rows are of 2 experiments, one is needed\n"
    (workflow / "one.csv").write_text("experiment,method\nquick,l1\n", encoding="utf-8")
    done = compare(workflow, "l9", "--with", "one.csv")
    assert done.stderr.startswith("prunebench: unknown method 'l9' (allowed: ")


def test_the_experiment_holds_the_method_alone_and_stays_once_written(
    workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workflow)
    config = Path("config")
    name, words = write_experiment("greg_1", "digits", config)
    assert name == "digits_with_greg_1"
    assert words.startswith("config/experiments/digits_with_greg_1.yaml: written")
    own, whole = (read_experiment(config, one) for one in (name, "digits"))
    assert own.methods == {"greg_1": whole.methods["greg_1"]}
    assert (own.datasets, own.networks, own.ratios) == (
        whole.datasets,
        whole.networks,
        whole.ratios,
    )
    assert (own.controls, own.recipe_cross, own.highlight) == (False, {}, ())
    assert {run.method for run in resolve_experiment(name, config)} == {"greg_1"}
    file = config / "experiments" / f"{name}.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    assert write_experiment("greg_1", "digits", config)[1].endswith("used as it is")
    assert file.read_text(encoding="utf-8").endswith("# mine\n")
    assert seeds_of("digits", config, 1) == [0]
    assert seeds_of("digits", config, 3) == [0, 1, 2]


def test_stored_runs_have_the_same_specifications_in_the_new_experiment(
    workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that rows of the method itself are reused, and differences are of equal conditions."""
    monkeypatch.chdir(workflow)
    name, _ = write_experiment("greg_1", "cifar10_resnet20", Path("config"))
    own = {run.hash for run in resolve_experiment(name, Path("config"), seeds=(0,))}
    stored = ROOT / "results/reference/cifar10_resnet20/runs.csv"
    with stored.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "greg_1"]
    assert {row["spec_hash"] for row in rows if row["seed"] == "0"} <= own
    assert rows
