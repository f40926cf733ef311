"""Every experiment of config/experiments: how many jobs it has, and that it runs to its tables.

A file that is new there is tested without an edit below, but for its line in JOBS.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from prunebench.data.registry import dataset_info
from prunebench.experiments.config import read_experiment
from prunebench.experiments.override import Override
from prunebench.experiments.phases import Steps
from prunebench.experiments.spec import ratio_slug, run_path
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.planning.grid import resolve_experiment
from tests.workflow.conftest import ROOT, planned, snakemake
from tests.workflow.test_declared import DECLARED

CONFIG = ROOT / "config"
FILES = sorted(path.stem for path in (CONFIG / "experiments").glob("*.yaml"))
EXPERIMENTS = [name for name in FILES if name not in DECLARED]


class Jobs(NamedTuple):
    """Numbers that follow from an experiment's file by hand."""

    runs: int  # what `prune` does: cells x seeds
    bases: int  # networks x seeds, of each recipe and data set
    networks: int = 1
    datasets: int = 1


# Seeds x (unpruned + method: settings x ratios + ...), for each network.
JOBS = {
    # Both networks, 2 + 1 seeds: unpruned, seven methods at 3 ratios, epruner in 3 settings, two
    # controls at 3 ratios; 18 methods show one point on ResNet-20, 2 seeds.
    "digits": Jobs(runs=3 * (1 + 7 * 3 + 3 + 2 * 3) + 2 * 18, bases=2 + 1, networks=2),
    # 29 methods in their main setting on three networks. On ResNet-20 alone: random 1, l1 10,
    # bn_scale 1, fisher 2, greg_1 3, greg_2 3, fixreg 1, sfp 2, asfp 2, srfp 4, asrfp 4,
    # soft_fpgm 1, epruner 2, increg 6, increg_accuracy 1, orthoreg 3, orthoreg_from_base 1,
    # early_bird 1, group_fisher 3.
    "digits_full": Jobs(runs=3 * 29 + 51, bases=3, networks=3),
    # unpruned, epruner in 3 settings, l1, random
    "epruner_cifar10_googlenet": Jobs(runs=3 * (1 + 3 + 1 + 1), bases=3),
    "epruner_cifar10_resnet110": Jobs(runs=3 * (1 + 3 + 1 + 1), bases=3),
    "epruner_cifar10_resnet56": Jobs(runs=3 * (1 + 3 + 1 + 1), bases=3),
    "epruner_cifar10_vgg16": Jobs(runs=3 * (1 + 3 + 1 + 1), bases=3),
    # unpruned, epruner in 3 settings, l1, random; one seed
    "epruner_imagenet_resnet18": Jobs(runs=1 + 3 + 1 + 1, bases=1),
    "epruner_imagenet_resnet34": Jobs(runs=1 + 3 + 1 + 1, bases=1),
    "epruner_imagenet_resnet101": Jobs(runs=1 + 3 + 1 + 1, bases=1),
    "epruner_imagenet_resnet152": Jobs(runs=1 + 3 + 1 + 1, bases=1),
    # epruner in 6 settings; l1 and random with the widths of its 4 betas, of one beta
    "epruner_imagenet_resnet50": Jobs(runs=1 + 6 + 2 * 4, bases=1),
    "epruner_imagenet_resnet50_7c8453c": Jobs(runs=1 + 6 + 2, bases=1),
    # unpruned; random, l1, greg_1 at 5 ratios
    "greg_table1_resnet56": Jobs(runs=3 * (1 + 3 * 5), bases=3),
    "greg_table1_vgg19": Jobs(runs=3 * (1 + 3 * 5), bases=3),
    # unpruned, l1, greg_1, greg_2
    "greg_table2_resnet56": Jobs(runs=3 * (1 + 3), bases=3),
    "greg_table2_vgg19": Jobs(runs=3 * (1 + 3), bases=3),
    "greg_table3_resnet34": Jobs(runs=1 + 3, bases=1),
    # unpruned; l1, greg_1, greg_2 in 4 settings
    "greg_table3_resnet50": Jobs(runs=1 + 3 * 4, bases=1),
    "greg_table4_resnet50": Jobs(runs=1 + 3, bases=1),
    # unpruned, group_fisher in 2 settings
    "group_fisher_mmrazor_mobilenet_v2": Jobs(runs=1 + 2, bases=1),
    "group_fisher_mmrazor_resnet50": Jobs(runs=1 + 2, bases=1),
    # four networks: unpruned, 3 settings; a fourth one on two of them
    "group_fisher_table1": Jobs(runs=4 * (1 + 3) + 2, bases=4, networks=4),
    # five networks, four of them pruned
    "group_fisher_table2": Jobs(runs=5 + 4, bases=5, networks=5),
    "group_fisher_table3": Jobs(runs=5 + 4, bases=5, networks=5),
    "group_fisher_table4_mobilenet_v2": Jobs(runs=2 + 2, bases=2, networks=2),
    "group_fisher_table4_resnet101_resnext50": Jobs(runs=2 + 2, bases=2, networks=2),
    "group_fisher_table4_resnet50": Jobs(runs=1 + 3, bases=1),
    # three networks: unpruned, increg and l1_columns at the speedup of each
    "increg_abstract": Jobs(runs=3 * (1 + 1 + 1), bases=3, networks=3),
    # 3 seeds: unpruned; increg in 3 settings at 3 ratios and one at 2; l1_columns, l1, random at 3
    "increg_cifar10_convnet": Jobs(runs=3 * (1 + 3 * 3 + 2 + 3 * 3), bases=3),
    # unpruned, increg in 2 settings, l1_columns, l1, random
    "increg_readme_resnet50": Jobs(runs=1 + 2 + 3, bases=1),
    "increg_readme_vgg16": Jobs(runs=1 + 2 + 3, bases=1),
    # 3 seeds: unpruned, early_bird in 5 settings at 3 ratios
    "orthoreg_early_bird_mobilenet_v1": Jobs(runs=3 * (1 + 5 * 3), bases=3),
    "orthoreg_early_bird_resnet34": Jobs(runs=3 * (1 + 5 * 3), bases=3),
    "orthoreg_early_bird_vgg13": Jobs(runs=3 * (1 + 5 * 3), bases=3),
    # 2 data sets, 3 seeds: unpruned, 8 methods at 3 ratios
    **dict.fromkeys(
        (
            "orthoreg_iterative_mobilenet_v1",
            "orthoreg_iterative_resnet34",
            "orthoreg_iterative_vgg13",
        ),
        Jobs(runs=2 * 3 * (1 + 8 * 3), bases=2 * 3, networks=2, datasets=2),
    ),
    # unpruned, random, l1
    "quick": Jobs(runs=3, bases=1),
    # Four networks, 3 seeds: unpruned; l1, random, sfp, asfp, srfp, asrfp at 4 ratios; soft_fpgm at
    # 2, mixed at one. On CIFAR-10 soft_fpgm from the base network, ResNet-56 in 2 ways, -110 in 1.
    "srfp_cifar10": Jobs(runs=3 * (4 * (1 + 6 * 4 + 2 + 1) + 3), bases=3 * 4, networks=4),
    "srfp_cifar100": Jobs(runs=3 * 4 * (1 + 6 * 4 + 2 + 1), bases=3 * 4, networks=4),
    # three networks, 3 seeds: unpruned, six methods at 5 ratios
    "srfp_cifar10_weights": Jobs(runs=3 * 3 * (1 + 6 * 5), bases=3 * 3, networks=3),
    # unpruned; at each ratio l1, random; four methods from weights of both kinds; soft_fpgm from
    # both, mixed or not, which has but one ratio on ResNet-34, and its mix on ResNet-50
    "srfp_imagenet_resnet18": Jobs(runs=1 + 2 + 4 * 2 + 4, bases=1),
    "srfp_imagenet_resnet34": Jobs(runs=1 + 2 * (2 + 4 * 2) + 4, bases=1),
    "srfp_imagenet_resnet50": Jobs(runs=1 + 2 * (2 + 4 * 2) + 2 * 2 + 2, bases=1),
    "srfp_imagenet_resnet101": Jobs(runs=1 + 2 + 4 * 2 + 4, bases=1),
}


def jobs_of(experiment: str) -> Jobs:
    if experiment not in JOBS:
        pytest.fail(
            f"config/experiments/{experiment}.yaml has no line in JOBS of tests/workflow/"
            "test_experiments.py: add its numbers of runs, bases, networks and data sets, counted "
            "by hand from methods x settings x ratios x networks x data sets x seeds"
        )
    return JOBS[experiment]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_has_as_many_runs_as_its_file_asks_for(experiment: str) -> None:
    expected, runs = jobs_of(experiment), resolve_experiment(experiment, CONFIG)
    found = Jobs(
        runs=len({run.path for run in runs}),
        bases=len({run.base.path for run in runs}),
        networks=len({(run.dataset, run.architecture) for run in runs}),
        datasets=len({run.dataset for run in runs}),
    )
    assert found == expected


def test_no_line_is_left_of_an_experiment_that_is_gone() -> None:
    assert set(JOBS) <= set(EXPERIMENTS)


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
    """Return the data set of stripes on which the experiment's networks are tried, as printed.

    8x8 pixels where its own images have at most 32x32, which keeps timing short; for the networks
    of larger images, and those that cannot take so small ones, a handful of larger stripes.
    """
    config = read_experiment(CONFIG, experiment)
    is_small = all(max(dataset_info(name).shape[1:]) <= 32 for name in config.datasets)
    sides = (8, 32, 40, 64) if is_small else (32, 40, 64)
    side = next(side for side in sides if all(takes(net, side) for net in config.networks))
    return "synthetic" if side == 8 else f"synthetic_{side}"


def takes(architecture: str, side: int) -> bool:
    """Whether a network computes something of images of that side."""
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
