"""A short run that waits a second at each step while a file exists: time to disturb it.

The method `slow` is `l1`, and comes from a package as pip would install it. Its jobs look for the
file `slow` in their working folder. Without it the run ends within seconds, with the same results.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from prunebench.core.files import read_csv, read_json
from prunebench.experiments.results import DIAGNOSTICS_FILE, HISTORY_FILE

METHOD = '''
import time
from dataclasses import replace
from pathlib import Path

from prunebench.criteria.weights import L1
from prunebench.methods.one_shot import one_shot


class Slow(one_shot(L1)):
    """L1 that waits at each step while the file `slow` exists."""

    summary = "slow l1"

    def phases(self, recipes, budget):
        found = super().phases(recipes, budget)
        hooks = frozenset({"after_optimizer_step"})
        return [replace(phase, hooks=hooks) if phase.recipe else phase for phase in found]

    def after_optimizer_step(self, run):
        if Path("slow").exists():
            time.sleep(1)
'''
FILES = {
    "site/slow_method.py": METHOD,
    "site/slow_method-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.1\nName: slow-method\nVersion: 1.0\n"
    ),
    "site/slow_method-1.0.dist-info/entry_points.txt": (
        "[prunebench.methods]\nslow = slow_method:Slow\n"
    ),
    "config/config.yaml": "{experiments: disturbed, device: cpu}",
    "config/recipes/short.yaml": "{epochs: 2, batch_size: 64, lr: 0.05, weight_decay: 0.001}",
    # 192 steps: as many seconds while the file exists, otherwise a few
    "config/recipes/long.yaml": "{epochs: 24, batch_size: 64, lr: 0.05, weight_decay: 0.001}",
    "config/experiments/disturbed.yaml": """
title: Disturbed
datasets: [synthetic]
networks: {resnet20_x0_25: {}}
seeds: [0]
ratios: [0.5]
recipes: {base: short, fine_tune: long}
methods: {slow: {}}
""",
}
BASE = Path("base/synthetic/resnet20_x0_25/short/seed0")
RUN = Path("disturbed/synthetic/resnet20_x0_25/slow/default/0.5/seed0")
LOG = Path(f"logs/{RUN}.log")
PRUNE = ("prune", "--method", "slow")


def write_experiment(folder: Path) -> None:
    """Write the method, and the experiment `disturbed` with this one run, into a workflow."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment in which Python finds the method, and programs beside Python."""
    found = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    changed = {"PYTHONPATH": os.pathsep.join(found), "PATH": os.pathsep.join(programs)}
    return {**os.environ, **changed}


def prunebench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a workflow; stdout holds output and errors."""
    return subprocess.run(
        [sys.executable, "-m", "prunebench", *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def train_base(folder: Path) -> None:
    """Prepare the data and the base network."""
    network = ("--architecture", "resnet20_x0_25", "--recipe", "short")
    for command in (("data",), ("base", *network)):
        done = prunebench(folder, *command, "--dataset", "synthetic")
        assert done.returncode == 0, done.stdout


MEASURED = {
    "seconds",
    "selection_seconds",
    "peak_memory_mb",
    "checksum",
    "date",
    "commit",
    "resumed_at",
}


def outcome(folder: Path, without: Collection[str] = MEASURED) -> dict[str, Any]:
    """Return all numbers of a run without times, memory, resumes and commit."""
    found: dict[str, Any] = read_json(folder / "training.json")
    for plan in found["plans"]:
        plan.pop("selection_seconds")
    found["files"].pop(HISTORY_FILE)  # it holds times
    history = read_csv(folder / HISTORY_FILE, ())
    return {
        **{key: value for key, value in found.items() if key not in without},
        "history": [{**row, "seconds": ""} for row in history],
        "diagnostics": read_csv(folder / DIAGNOSTICS_FILE, ()),
    }


def timeless_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a runs.csv without times and what follows from them, and dates."""
    timed = re.compile(r"seconds|latency|speedup_(cpu|cuda|measured)|^date$")
    return [
        {name: cell for name, cell in row.items() if not timed.search(name)}
        for row in read_csv(path, ())
    ]


def wait_for(what: str, holds: Callable[[], bool], seconds: float = 300) -> None:
    """Return when something holds; TimeoutError after so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:.0f} s for this: {what}")
        time.sleep(0.1)


def start_snakemake(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake in a process group of its own; its output goes to main.log."""
    with (folder / "main.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=folder,
            env=environment(folder),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def processes(folder: Path, stage: str) -> list[psutil.Process]:
    """Return the processes of a stage that work in a folder, jobs of this node's SLURM included."""
    found = []
    for process in psutil.process_iter():
        try:
            words, place = process.cmdline(), process.cwd()
        except psutil.Error:  # it has just ended
            continue
        if words[1:4] == ["-m", "prunebench", stage] and Path(place) == folder:
            found.append(process)
    return found


def slurm_jobs(folder: Path) -> dict[str, str]:
    """Return the states of the unfinished SLURM jobs of a folder, by number."""
    listed = subprocess.run(
        ["squeue", "--noheader", "--format=%i %T %Z"], capture_output=True, text=True, check=True
    )
    lines = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
    return {number: state for number, state, place in lines if Path(place) == folder}


def unlock(folder: Path) -> None:
    """Remove the lock that a killed Snakemake has left behind, as its message says."""
    command = [sys.executable, "-m", "snakemake", "--unlock"]
    subprocess.run(command, cwd=folder, env=environment(folder), check=True, capture_output=True)


def kill_processes(folder: Path, stage: str) -> int:
    """Kill the processes of a stage that work in a folder, and return when they have ended."""
    found = processes(folder, stage)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    wait_for("the processes end", lambda: not processes(folder, stage))
    return len(found)
