"""Every experiment of config/experiments: its number of jobs, and that it runs to its tables.

The expected numbers are counted from the file itself, so a new experiment needs no edit here.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from prunebench.data.registry import dataset_info
from prunebench.experiments.config import read_experiment, read_recipe
from prunebench.experiments.override import Override
from prunebench.experiments.phases import Steps
from prunebench.experiments.spec import ratio_slug, run_path
from prunebench.measure.device import multiplies_bf16
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.planning.grid import resolve_experiment
from tests.workflow.conftest import ROOT, planned, snakemake

CONFIG = ROOT / "config"
CPU = torch.device("cpu")
EXPERIMENTS = sorted(path.stem for path in (CONFIG / "experiments").glob("*.yaml"))


class Jobs(NamedTuple):
    """The size of an experiment."""

    runs: int  # cells x seeds
    bases: int  # data sets x networks x seeds; one per network if its weights are imported
    networks: int  # data sets x networks
    datasets: int


def jobs_of(experiment: str) -> Jobs:
    """Count the jobs in an experiment's file."""
    path = CONFIG / f"experiments/{experiment}.yaml"
    return WITH_CONTROLS.get(experiment) or jobs_in(
        yaml.safe_load(path.read_text(encoding="utf-8"))
    )


# Files that ask for controls define fewer runs than they have; these are counted by hand.
WITH_CONTROLS = {
    # 3 seeds: unpruned, and in two settings (trained, and under the second recipe); three methods
    # under two recipes; random and l1 at the ratio and at two methods' widths, under two recipes;
    # scratch_e and scratch_b at three widths
    "digits_controls": Jobs(
        runs=3 * (3 + 3 * 2 + 2 * 3 * 2 + 2 * 3), bases=3, networks=1, datasets=1
    )
}


def jobs_in(file: dict[str, Any]) -> Jobs:
    """Count the jobs that the content of a file defines."""
    networks, datasets = file["networks"], len(listed(file["datasets"]))
    seeds = {name: seeds_on(name, file) for name in networks}
    return Jobs(
        runs=datasets * sum(len(own) for own in seeds.values()),
        bases=datasets
        * sum(1 if is_imported(name, file) else len(set(seeds[name])) for name in networks),
        networks=datasets * len(networks),
        datasets=datasets,
    )


def seeds_on(network: str, file: dict[str, Any]) -> list[int]:
    """List the seed of each run on a network: settings x ratios x seeds of all methods."""
    seeds = []
    for method, cell in file["methods"].items():
        own = listed({**file, **(file["networks"][network] or {}), **cell}["seeds"])
        for setting in cell.get("settings", {"default": {}}).values():
            both = [setting.get("networks"), cell.get("networks")]
            if all(names is None or network in listed(names) for names in both):
                seeds += own * ratios_of(method, {**file, **cell, **setting})
    return seeds


def is_imported(network: str, file: dict[str, Any]) -> bool:
    """Whether the base networks of an architecture have imported weights."""
    recipes = file.get("recipes", {}) | (file["networks"][network] or {}).get("recipes", {})
    return "base" in recipes and read_recipe(CONFIG, recipes["base"]).weights is not None


def ratios_of(method: str, given: dict[str, Any]) -> int:
    """Count the ratios of a setting; a method with a fixed or with no ratio has one cell."""
    found = method_class(method)
    kind = given.get("ratio_kind", "auto" if found.decides_ratio else None)
    return 1 if found.ratios is not None or kind == "auto" else len(given["ratios"])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


SMALL: dict[str, Any] = {
    "datasets": ["digits"],
    "networks": {"resnet20": {}},
    "seeds": [0],
    "ratios": [0.5],
    "methods": {"unpruned": {}, "random": {}, "l1": {}},
}
LARGER: dict[str, Any] = {
    "datasets": ["digits", "synthetic"],
    "networks": {"resnet20": {}, "vgg16": {"seeds": [0]}},
    "seeds": [0, 1, 2],
    "ratios": [0.25, 0.5],
    "methods": {
        "unpruned": {},
        "l1": {"networks": "resnet20"},
        "fpgm": {"settings": {"a": {}, "b": {"ratios": [0.5], "networks": ["vgg16"]}}},
    },
}


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        (SMALL, Jobs(runs=3, bases=1, networks=1, datasets=1)),
        # per data set: resnet20 has unpruned, 2 of l1 and 2 of fpgm/a, with 3 seeds; vgg16 has
        # unpruned, 2 of fpgm/a and 1 of fpgm/b, with one seed
        (LARGER, Jobs(runs=2 * (5 * 3 + 4), bases=2 * (3 + 1), networks=4, datasets=2)),
    ],
)
def test_jobs_of_a_file_are_counted_as_by_hand(file: dict[str, Any], jobs: Jobs) -> None:
    assert jobs_in(file) == jobs


# Tables of papers; rows may be added to the other experiments (docs/adding.md).
@pytest.mark.parametrize(
    ("experiment", "jobs"),
    [
        # 2 data sets, 3 seeds: unpruned, 8 methods at 3 ratios
        (
            "orthoreg_iterative_vgg13",
            Jobs(runs=2 * 3 * (1 + 8 * 3), bases=2 * 3, networks=2, datasets=2),
        ),
        # unpruned; epruner in 6 settings; l1 and random with the widths of 4 of them
        ("epruner_imagenet_resnet50", Jobs(runs=1 + 6 + 2 * 4, bases=1, networks=1, datasets=1)),
        # 2 networks: unpruned; 10 criteria with one seed and random with 3, 4 ratios in 2 ways
        (
            "cifar10_no_training",
            Jobs(runs=2 * (1 + (10 + 3) * 4 * 2), bases=2, networks=2, datasets=1),
        ),
    ],
)
def test_jobs_are_counted_as_by_hand(experiment: str, jobs: Jobs) -> None:
    assert jobs_of(experiment) == jobs


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_has_the_number_of_runs_that_its_file_defines(experiment: str) -> None:
    runs = resolve_experiment(experiment, CONFIG)
    found = Jobs(
        runs=len({run.path for run in runs}),
        bases=len({run.base.path for run in runs}),
        networks=len({(run.dataset, run.architecture) for run in runs}),
        datasets=len({run.dataset for run in runs}),
    )
    assert found == jobs_of(experiment)


def test_one_dry_run_plans_every_experiment(workflow: Path) -> None:
    runs = [run for name in EXPERIMENTS for run in resolve_experiment(name, CONFIG)]
    expected = [jobs_of(name) for name in EXPERIMENTS]
    networks = sum(jobs.networks for jobs in expected)
    assert planned(workflow, "--config", f"experiments=[{','.join(EXPERIMENTS)}]") == {
        "data": len({run.dataset for run in runs}),
        "base": len({run.base.path for run in runs}),  # experiments share them
        "prune": sum(jobs.runs for jobs in expected),
        "measure_cost": networks,
        "measure_latency": networks,
        "collect": len(EXPERIMENTS),
        "write_tables": len(EXPERIMENTS),
        "draw_figures": len(EXPERIMENTS),
        "write_report": len(EXPERIMENTS),
        "all": 1,
    }


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_dry_run_plans_an_experiment(workflow: Path, experiment: str) -> None:
    jobs = jobs_of(experiment)
    assert planned(workflow, "--config", f"experiments={experiment}") == {
        "data": jobs.datasets,
        "base": jobs.bases,
        "prune": jobs.runs,
        "measure_cost": jobs.networks,
        "measure_latency": jobs.networks,
        "collect": 1,
        "write_tables": 1,
        "draw_figures": 1,
        "write_report": 1,
        "all": 1,
    }


SHORT = 0.0001  # of the epochs: one of each recipe, and a few steps of what is counted in steps


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_shortened_experiment_trains_for_few_steps(experiment: str) -> None:
    for run in resolve_experiment(experiment + Override(epochs_scale=SHORT).suffix, CONFIG):
        found = method_class(run.method)
        phases = found(found.Options.model_validate(run.options)).phases(run.recipes, run.budget)
        lengths = [phase.length for phase in phases if phase.length is not None]
        assert all(n.n <= (100 if isinstance(n, Steps) else 1) for n in lengths), run.path


def stripes_for(experiment: str) -> str:
    """Return the data set of stripes on which the experiment's networks are tested.

    Images have 8x8 pixels if the experiment's own have at most 32x32, so that timing is short.
    Networks for larger images, or that do not accept 8x8, get a handful of larger stripes.
    """
    config = read_experiment(CONFIG, experiment)
    is_small = all(max(dataset_info(name).shape[1:]) <= 32 for name in config.datasets)
    sides = (8, 32, 40, 64) if is_small else (32, 40, 64)
    side = next(side for side in sides if all(takes(net, side) for net in config.networks))
    return "synthetic" if side == 8 else f"synthetic_{side}"


def takes(architecture: str, side: int) -> bool:
    """Whether a network accepts images of that side."""
    with torch.device("meta"):
        model = build(architecture, num_classes=4).eval()
        try:
            model(torch.zeros(1, 3, side, side))
        except RuntimeError:
            return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_shortened_experiment_runs_to_its_tables_and_figures(
    workflow: Path, experiment: str
) -> None:
    own, dataset = read_experiment(CONFIG, experiment), stripes_for(experiment)
    recipes = [
        each for run in resolve_experiment(experiment, CONFIG) for each in run.recipes.values()
    ]
    if any(recipe.precision == "bf16" for recipe in recipes) and not multiplies_bf16(CPU):
        pytest.skip("needs a processor with bf16 instructions")
    override = {"dataset": dataset, "epochs_scale": SHORT}
    settings = [f"experiments={experiment}", "seeds=0", f"override={json.dumps(override)}"]
    done = snakemake(workflow, "--cores", "2", "--show-failed-logs", "--config", *settings)
    assert done.returncode == 0, done.stdout

    name = experiment + Override.model_validate(override).suffix
    results = workflow / "results" / name
    rows = {path_of(row): row for row in read_rows(results / "runs.csv")}
    assert set(rows) == {run.path for run in resolve_experiment(name, CONFIG, seeds=(0,))}
    for path, row in rows.items():
        assert math.isfinite(float(row["top1"])), path
        assert math.isfinite(float(row["base_top1"])), path
        training = json.loads((workflow / "results" / path / "training.json").read_text())
        difference = training["masked_removed_difference"]  # of the outputs, relative
        assert (difference is not None) == (float(row["params_reduction_pct"]) > 0), path
        assert difference is None or difference <= 1e-9, path

    elsewhere = f"{dataset} instead of {', '.join(own.datasets)}"
    summary = (results / "tables/summary.md").read_text(encoding="utf-8")
    assert elsewhere in summary
    assert (results / "figures/accuracy_speedup.svg").stat().st_size > 0
    if own.published is not None:
        joined = (results / "tables/published.md").read_text(encoding="utf-8")
        assert f"{dataset} instead of" in joined
        assert "accuracies are not comparable to the paper's" in joined
        verdicts = {row["verdict"] for row in read_rows(results / "tables/published.csv")}
        assert verdicts <= {"not comparable", "not run", "control", "base"}
        assert "not comparable" in verdicts


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def path_of(row: dict[str, str]) -> str:
    """Return the folder of a row's run."""
    ratio = ratio_slug(float(row["ratio"]) if row["ratio"] else None, row["ratio_kind"])
    return run_path(
        row["experiment"],
        row["dataset"],
        row["architecture"],
        row["method"],
        row["setting"],
        ratio,
        int(row["seed"]),
    )
