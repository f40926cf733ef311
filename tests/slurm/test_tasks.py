"""Jobs of several tasks on a SLURM with two cores and a (pretend) GPU, trained on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.files import read_json
from prunebench.data.dataset import prepare
from prunebench.experiments.spec import data_path
from tests.workflow.conftest import snakemake

pytestmark = pytest.mark.slurm

EXPERIMENT = """
title: Pairs
datasets: [synthetic]
networks: {resnet20_x0_25: {}}
seeds: [0]
ratios: [0.5]
recipes: {base: pairs, fine_tune: pairs}
methods: {l1: {}}
"""
# As the comment in profiles/slurm says, in small.
PROFILE = """
executor: slurm
jobs: 2
default-resources: {slurm_partition: main}
set-resources:
  base:
    launcher: srun --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 --kill-on-bad-exit python
    mpi: true
    nodes: 1
    tasks_per_node: 2
    cpus_per_task: 1
    gres: gpu:1
    gpu: 0
    tasks_per_gpu: 0
    mem_mb: 1500
  prune:
    launcher: torchrun --standalone --nproc-per-node=2
    cpus_per_task: 2
    gpu: 1
    mem_mb: 1500
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 3
slurm-no-account: true
rerun-triggers: [mtime, params, input]
scheduler: greedy
"""
BASE = Path("base/synthetic/resnet20_x0_25/pairs/seed0")
RUN = Path("pairs/synthetic/resnet20_x0_25/l1/default/0.5/seed0")
TRAIN_BASE = "base --dataset synthetic --architecture resnet20_x0_25 --recipe pairs --device cpu"
PRUNE = "prune --experiment pairs --method l1 --device cpu"


@pytest.fixture
def place(workflow: Path) -> Path:
    """A copy of the workflow with an experiment and data."""
    files = {
        "config/experiments/pairs.yaml": EXPERIMENT,
        "config/recipes/pairs.yaml": "{epochs: 2, batch_size: 64, lr: 0.05, weight_decay: 0.001}",
        "config/config.yaml": "{experiments: pairs, device: cpu}",
        "profiles/pairs/config.yaml": PROFILE,
    }
    for name, text in files.items():
        (workflow / name).parent.mkdir(exist_ok=True)
        (workflow / name).write_text(text, encoding="utf-8")
    prepare("synthetic", workflow / "data", data_path(workflow / "results", "synthetic"))
    return workflow


def trained(folder: Path) -> dict[str, Any]:
    """Return a run's training.json without times and memory, which differ every time."""
    found: dict[str, Any] = read_json(folder / "training.json")
    found["files"].pop("history.csv")  # it holds times
    for plan in found["plans"]:
        plan.pop("selection_seconds")
    measured = {"seconds", "selection_seconds", "peak_memory_mb", "checksum"}
    return {key: value for key, value in found.items() if key not in measured}


def test_two_tasks_have_the_results_of_two_processes_without_slurm(place: Path) -> None:
    (place / "alone").mkdir()
    (place / "alone/data").symlink_to(place / "results/data")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for arguments in (TRAIN_BASE, PRUNE):
        words = ["--nproc-per-node=2", "-m", "prunebench", *arguments.split(), "--results", "alone"]
        subprocess.run([*torchrun, *words], cwd=place, check=True)
    target = f"results/{RUN}/finished.json"
    done = snakemake(place, target, "--workflow-profile", "profiles/pairs")
    assert done.returncode == 0, done.stdout
    for path in (BASE, RUN):
        slurm, alone = trained(place / "results" / path), trained(place / "alone" / path)
        assert slurm["processes"] == 2
        assert slurm == alone
        log = (place / f"results/logs/{path}.log").read_text(encoding="utf-8")
        assert log.count("epoch   1") == 1
        assert "SLURM job" in log


@pytest.mark.parametrize("launcher", ["", "srun --ntasks=1 "], ids=["script", "step"])
def test_a_script_in_a_job_of_two_tasks_is_one_process(place: Path, launcher: str) -> None:
    script = f"{launcher}{sys.executable} -m prunebench {TRAIN_BASE} --results results"
    options = ["--wait", "--ntasks=2", "--mem=1500", "--time=5", f"--output={place}/out.txt"]
    done = subprocess.run(
        ["sbatch", *options],
        input=f"#!/bin/sh\necho tasks: $SLURM_NTASKS\n{script}\n",
        cwd=place,
        text=True,
        check=False,
    )
    output = (place / "out.txt").read_text(encoding="utf-8")
    assert done.returncode == 0, output
    assert "tasks: 2" in output
    assert trained(place / "results" / BASE)["processes"] == 1
