"""CPU seconds and memory of each step of the workflow in an experiment of ten thousand runs.

    snakemake --cores all                      # trains the experiment `digits`
    python benchmarks/scale.py --results results

The runs are copies of those of `digits`, for eight networks and 66 seeds each: real files, with the
specification of each copy and with accuracies that differ by seed. Snakemake finds a record for
each of them, as if it had run them. Each step is a process of its own.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple
from unittest import mock

import yaml
from start_up import START, choice

from prunebench.core.files import file_hash
from prunebench.experiments.config import read_config
from prunebench.experiments.machine import processor_name
from prunebench.experiments.parts import MEASURED_TOGETHER, Parts
from prunebench.experiments.resolved import resolved_runs
from prunebench.experiments.results import (
    HISTORY_FILE,
    MODEL_FILE,
    RECEIPT_FILE,
    TRAINED_FILES,
    CostResult,
    HistoryRow,
    LatencyResult,
    TrainingResult,
    read_history,
    write_history,
    write_receipt,
)
from prunebench.experiments.spec import BaseSpec, RunSpec
from prunebench.planning.grid import resolve_experiment
from prunebench.report.collect import keep_rows
from prunebench.report.kept_rows import FILE as KEPT

ROOT = Path(__file__).resolve().parents[1]
SOURCE, COPY = "digits", "scale"  # experiments
NETWORKS = {  # of the copy, by the network whose files each gets
    "resnet20": ("resnet20", "resnet32", "resnet44", "resnet56"),
    "vgg16_x0_25": ("vgg16_x0_25", "vgg13_x0_25", "vgg19_x0_25", "vgg16_x0_5"),
}
SOURCE_OF = {copy: source for source, copies in NETWORKS.items() for copy in copies}
RUNS = f"results/resolved/{COPY}.jsonl"
RUNS_CSV = f"results/{COPY}/runs.csv"
DATA = "results/data/digits.safetensors"

PRUNEBENCH = [sys.executable, "-m", "prunebench"]
DRY_RUN = [sys.executable, "-m", "snakemake", "-n", "-q", "rules"]

Spec = RunSpec | BaseSpec


def make_project(folder: Path, seeds: int) -> None:
    """Write the configuration of the copied experiment beside links to the workflow."""
    for name in ("Snakefile", "environment.yml", "workflow", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    config = folder / "config"
    shutil.copytree(ROOT / "config" / "recipes", config / "recipes")
    (config / "experiments").mkdir()
    (config / "config.yaml").write_text(f"experiments: [{COPY}]\n")
    experiment = yaml.safe_load((ROOT / f"config/experiments/{SOURCE}.yaml").read_text())
    experiment |= {"networks": {name: {} for name in SOURCE_OF}, "seeds": list(range(seeds))}
    (config / "experiments" / f"{COPY}.yaml").write_text(yaml.safe_dump(experiment))


@dataclass(frozen=True)
class Trained:
    """What a copy takes from a trained run or base network."""

    folder: Path
    training: TrainingResult
    history: tuple[HistoryRow, ...]


@cache
def trained(folder: Path) -> Trained:
    """Read the files of a run that change in a copy."""
    training = TrainingResult.read(folder)
    return Trained(folder, training, tuple(read_history(folder, training.metric)))


def copy_run(source: Trained, spec: Spec, results: Path) -> None:
    """Write a run's files with another specification, and with accuracies of its own."""
    folder = results / spec.path
    folder.mkdir(parents=True)
    os.link(source.folder / MODEL_FILE, folder / MODEL_FILE)
    for name in TRAINED_FILES:
        if name not in (MODEL_FILE, HISTORY_FILE):
            shutil.copyfile(source.folder / name, folder / name)
    noise = random.Random(spec.path)

    def moved(accuracy: float | None) -> float | None:
        return None if accuracy is None else min(100.0, max(0.0, accuracy + noise.gauss(0, 0.5)))

    rows = [
        row._replace(val_accuracy=moved(row.val_accuracy), test_accuracy=moved(row.test_accuracy))
        for row in source.history
    ]
    write_history(folder, rows, source.training.metric)
    names = ("accuracy", "val_accuracy", "accuracy_best_val", "accuracy_best_test")
    changes = {name: moved(getattr(source.training, name)) for name in names}
    changes |= {"spec": spec.model_dump(mode="json"), "spec_hash": spec.hash}
    files = source.training.files or {}
    changes["files"] = files | {HISTORY_FILE: file_hash(folder / HISTORY_FILE)}
    training = source.training.model_copy(update=changes)
    training.write(folder)
    write_receipt(folder, training)
    for kind in (CostResult, LatencyResult):
        if (source.folder / kind.FILE).exists():
            measured = kind.read(source.folder)
            measured.model_copy(update={"spec_hash": spec.hash}).write(folder)


def source_path(spec: Spec) -> str:
    """Return the path of the run whose files a run gets."""
    changes: dict[str, Any] = {"architecture": SOURCE_OF[spec.architecture], "seed": 0}
    if isinstance(spec, RunSpec):
        changes["experiment"] = SOURCE
    return spec.model_copy(update=changes).path


def make_results(folder: Path, source: Path, runs: list[RunSpec]) -> None:
    """Write the files that the workflow leaves when it has trained and measured all runs."""
    results, sources = folder / "results", folder / "source"
    (folder / DATA).parent.mkdir(parents=True)
    shutil.copyfile(source.parent / DATA, folder / DATA)
    bases = {run.base.path: run.base for run in runs}
    specs: list[Spec] = [*bases.values(), *runs]
    for path in dict.fromkeys(map(source_path, specs)):  # no link leads to another file system
        shutil.copytree(source / path, sources / path)
    with mock.patch("os.fsync"):  # 60,000 files need not survive a power failure
        for spec in specs:
            copy_run(trained(sources / source_path(spec)), spec, results)
    records = folder / ".snakemake" / "metadata"
    records.mkdir(parents=True)
    for spec in specs:
        write_record(records, spec)
    config = folder / "config" / "config.yaml"
    resolved = resolved_runs(read_config(config), config.parent, results)
    for network, parts in Parts(resolved, MEASURED_TOGETHER, for_training=False).of_network.items():
        for number in range(len(parts)):
            for what in ("cost", "latency"):
                (results / network / f"{what}_{number}.done").touch()


def write_record(records: Path, spec: Spec) -> None:
    """Write what Snakemake 9 remembers of a finished job of the rules `base` and `prune`."""
    is_run = isinstance(spec, RunSpec)
    starts = []
    if isinstance(spec, RunSpec):
        starts = [] if spec.start == "fresh" else [spec.base.path]
        starts += [spec.widths_from] if spec.widths_from else []
    log = f"results/logs/{spec.path}.job.log"
    record = {
        "record_format_version": 6,
        "rule": "prune" if is_run else "base",
        "input": sorted([DATA, *(f"results/{path}/{RECEIPT_FILE}" for path in starts)]),
        "params": sorted([f"'{spec.hash}'", *([] if is_run else [str(spec.threads)])]),
        "log": [log],
        "shellcmd": f"python -m prunebench prune > {log} 2>&1".ljust(600),
        "starttime": 1.0,
        "endtime": 2.0,
        "incomplete": False,
    }
    name = base64.urlsafe_b64encode(f"results/{spec.path}/{RECEIPT_FILE}".encode()).decode()
    (records / name).write_text(json.dumps(record))


# Starts a command and prints what it used. The peak of a child's memory counts that of the process
# that started it, so this is a small one.
LAUNCHER = """
import resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, time.monotonic() - start, used.ru_maxrss / 1024)
sys.exit(code)
"""


class Cost(NamedTuple):
    """What a command with its children used."""

    cpu_s: float
    wall_s: float
    memory_mb: float  # of the largest process


def cost(command: list[str], folder: Path) -> Cost:
    """Run a command in a folder."""
    launched = [sys.executable, "-S", "-c", LAUNCHER, *command]
    done = subprocess.run(launched, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return Cost(*map(float, done.stdout.split()))


def change_a_run(folder: Path, run: RunSpec) -> None:
    """Write another accuracy into a run."""
    path = folder / "results" / run.path
    training = TrainingResult.read(path)
    training.model_copy(update={"accuracy": training.accuracy - 0.25}).write(path)


def keep_parts(folder: Path, runs: list[RunSpec]) -> None:
    """Keep the rows of each part of the runs, as the jobs that measure them do."""
    results = folder / "results"
    for network in SOURCE_OF:
        own = [run for run in runs if run.architecture == network]
        for number, first in enumerate(range(0, len(own), MEASURED_TOGETHER)):
            place = results / COPY / SOURCE / network / f"rows_{number}.jsonl"
            keep_rows(results, own[first : first + MEASURED_TOGETHER], place)


def steps(folder: Path, runs: list[RunSpec]) -> Iterator[tuple[str, list[str]]]:
    """Yield what is measured: its words and its command."""
    yield "`prunebench resolve`, once per configuration", [*PRUNEBENCH, "resolve"]
    yield "`snakemake -n`, all is to be trained", [*DRY_RUN, "-F"]
    batched = ["-F", "--config", "runs_per_job=20"]
    yield "the same with `runs_per_job: 20`", [*DRY_RUN, *batched]
    words = [word for key, value in choice(runs[-1]).items() for word in (f"--{key}", str(value))]
    prune = ["prune", "--experiment", COPY, "--runs", RUNS, *words]
    yield "start of a `prune` job", [sys.executable, "-c", START, *prune]
    yield "`snakemake -n`, all is trained and measured", DRY_RUN
    collect = [*PRUNEBENCH, "collect", "--experiment", COPY, "--runs", RUNS]
    yield "`collect`, the first time, of runs measured by an earlier version", collect
    (folder / "results" / COPY / KEPT).unlink()
    keep_parts(folder, runs)
    yield "`collect`, the first time", collect
    yield "`collect`, nothing changed", collect
    change_a_run(folder, runs[0])
    yield "`collect`, one run changed", collect
    for name in ("tables", "figures", "report"):
        out = ["--out", f"results/{COPY}/{name}"]
        yield f"`{name}`", [*PRUNEBENCH, name, "--runs-csv", RUNS_CSV, *out]


def main() -> None:
    """Make the runs and print the cost of each step as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, default=66)
    parser.add_argument("--folder", type=Path, help="empty folder that keeps the copies")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        make_project(folder, options.seeds)
        runs = resolve_experiment(COPY, folder / "config")
        make_results(folder, options.results.resolve(), runs)
        names = ("snakemake", "pandas", "pydantic", "matplotlib")
        versions = [f"Python {python_version()}", *(f"{name} {version(name)}" for name in names)]
        print(f"{len(runs)} runs, {datetime.now(UTC):%d %B %Y}, {processor_name()}", end=", ")
        print(", ".join([*versions, f"load {os.getloadavg()[0]:.1f}"]), end="\n\n")
        print("| step | CPU s | s | memory, MB |")
        print("|---|---:|---:|---:|")
        for words, command in steps(folder, runs):
            cpu_s, wall_s, memory_mb = cost(command, folder)
            print(f"| {words} | {cpu_s:.1f} | {wall_s:.1f} | {memory_mb:.0f} |", flush=True)


if __name__ == "__main__":
    main()
