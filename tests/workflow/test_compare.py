"""`prunebench compare` runs one method beside stored rows."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from prunebench.cli import compared_method
from prunebench.cli.compared_method import (
    finished,
    run_workflow,
    seeds_of,
    trial_report,
    write_experiment,
)
from prunebench.core.errors import PrunebenchError
from prunebench.experiments.config import read_experiment
from prunebench.experiments.override import Override
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
    options = ["--with", "stored.csv", "--seeds", "1", "--cores", "1", "--ratio", "0.5"]
    done = compare(quick_copy, "l2", *options)
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
    assert "\n> l2 " in done.stdout
    assert "1 seed in common: no interval and no test is possible" in done.stdout
    shown = done.stdout[done.stdout.index("digits · resnet20 · ratio 0.5") :].splitlines()
    assert max(map(len, shown)) <= 100
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


def test_a_trial_shows_its_rows_alone() -> None:
    stored = ROOT / "results/reference/digits/runs.csv"
    lines = list(trial_report({"l1": stored}, Override(max_steps=2)))
    assert [line for line in lines if line.startswith("> l1 ")]
    assert lines[-2:] == [
        f"rows: {stored}",
        "a trial (at most 2 steps per phase): it ran; stored rows are of whole runs, not shown",
    ]


@pytest.mark.slow
def test_a_trial_runs_several_methods_and_compares_none(quick_copy: Path) -> None:
    shutil.copy(quick_copy / "results/quick/runs.csv", quick_copy / "stored.csv")
    trial = ["--with", "stored.csv", "--seeds", "1", "--cores", "1"]
    trial += ["--max-steps", "2", "--max-images", "40"]
    done = compare(quick_copy, "l2", "fpgm", *trial)
    assert done.returncode == 0, done.stdout + done.stderr
    for method in ("l2", "fpgm"):
        assert f"\n> {method} " in done.stdout
        file = quick_copy / f"results/quick_with_{method}_steps2_images40/runs.csv"
        with file.open(encoding="utf-8", newline="") as content:
            assert [row["max_steps"] for row in csv.DictReader(content)] == ["2"]
    assert "a trial (at most 2 steps per phase, at most 40 images): it ran" in done.stdout
    assert "minus" not in done.stdout


def test_the_methods_of_shortened_rows_are_shortened_alike(
    workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workflow)
    name, words = write_experiment("l2", "quick_steps2", Path("config"))
    assert name == "quick_with_l2_steps2"
    assert words.startswith("config/experiments/quick_with_l2.yaml: written")
    (run,) = resolve_experiment(name, Path("config"))
    assert run.recipes["fine_tune"].max_steps == 2
    rows = "experiment,method\nquick_steps2,l1\n"
    (workflow / "one.csv").write_text(rows, encoding="utf-8")
    done = compare(workflow, "l2", "--with", "one.csv", "--max-steps", "3")
    assert done.stderr == (
        "prunebench: one.csv: its runs are shortened already; leave out the trial's options\n"
    )


@pytest.mark.parametrize(
    ("number", "child", "status"),
    [
        (signal.SIGTERM, "import time; time.sleep(60)", -signal.SIGTERM),  # it is passed on
        (signal.SIGINT, "import time; time.sleep(2)", 0),  # a terminal sends it to the child
    ],
)
def test_a_stopped_workflow_is_waited_for(number: int, child: str, status: int) -> None:
    before = signal.getsignal(number)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
    timer.start()
    assert finished([sys.executable, "-c", child]) == (status, True)
    assert signal.getsignal(number) is before
    assert finished([sys.executable, "-c", "raise SystemExit(3)"]) == (3, False)


def test_a_stopped_workflow_is_not_said_to_have_failed(
    workflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workflow)
    monkeypatch.setattr(compared_method, "finished", lambda command: (1, True))
    words = r"^the workflow of a, b was stopped; the same command goes on from there$"
    with pytest.raises(PrunebenchError, match=words):
        run_workflow(["a", "b"], Path("x.csv"), seeds=[0], ratios=[], cores="1")


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
