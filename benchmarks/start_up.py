"""CPU seconds that a `prune` job needs before training, by the number of runs in its experiment.

    python benchmarks/start_up.py --runs 10 10000

A job looks up its run in the resolved file of its experiment. Its start is measured as a process:
from the start of Python to the call that trains, which returns at once here. Beside it are the
look-up alone, in one process, and the reading of all runs, as the workflow does when it is parsed.
Files of both sizes take turns, so that load on the machine affects them alike.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

from prunebench.experiments.resolved import read_together, resolved_file, write_resolved
from prunebench.experiments.spec import RunSpec
from prunebench.planning.grid import resolve_experiment
from prunebench.planning.lookup import experiment_runs, one_run

CONFIG = Path("config/config.yaml")
EXPERIMENT = "digits"
START = """
import sys
from prunebench.cli import command
from prunebench.training import train
train.train_run = lambda *args, **kwargs: None
command.run(sys.argv[1:])
"""


def runs_of(count: int) -> list[RunSpec]:
    """Return the first `count` runs of the experiment, with as many seeds as that takes."""
    cells = len(resolve_experiment(EXPERIMENT, CONFIG.parent, seeds=(0,)))
    seeds = tuple(range(-(-count // cells)))
    return resolve_experiment(EXPERIMENT, CONFIG.parent, seeds)[:count]


def choice(run: RunSpec) -> dict[str, str | int]:
    """Return the options by which the workflow names a run."""
    return {
        "dataset": run.dataset,
        "architecture": run.architecture,
        "method": run.method,
        "setting": run.setting,
        "ratio": run.ratio_slug,
        "seed": run.seed,
    }


def start_seconds(file: Path, run: RunSpec) -> float:
    """Return the CPU seconds of a job until it would train."""
    options = [word for key, value in choice(run).items() for word in (f"--{key}", str(value))]
    command = ["prune", "--experiment", EXPERIMENT, "--runs", str(file), *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", START, *command], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def look_up_seconds(file: Path, run: RunSpec) -> float:
    """Return the CPU seconds of finding one run."""
    start = process_time()
    runs = experiment_runs(EXPERIMENT, config=CONFIG, results=file.parent, resolved=file)
    assert one_run(runs, **choice(run)) == run
    return process_time() - start


def read_all_seconds(file: Path, run: RunSpec) -> float:
    """Return the CPU seconds of reading all runs, as the workflow does."""
    start = process_time()
    assert run.path in read_together(file.parents[1], {EXPERIMENT: "key"}).runs
    return process_time() - start


MEASURES: dict[str, Callable[[Path, RunSpec], float]] = {
    "a job's start": start_seconds,
    "look-up of its run": look_up_seconds,
    "reading all runs": read_all_seconds,
}


def main() -> None:
    """Print medians as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs=2, default=[10, 10_000], metavar="N")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for count in options.runs:
            runs = runs_of(count)
            file = resolved_file(Path(folder) / str(count), EXPERIMENT)
            write_resolved(file, runs, "key")
            files.append((file, runs[-1]))
            print(f"{count} runs: {file.stat().st_size / 1e6:.2f} MB", file=sys.stderr)
        gc.freeze()  # garbage collection then skips the runs made above
        print(f"| CPU seconds | {' | '.join(f'{n} runs' for n in options.runs)} | difference |")
        print("|---|---|---|---|")
        for name, measure in MEASURES.items():
            rounds = [[measure(*file) for file in files] for _ in range(options.repeats)]
            few, many = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"| {name} | {few:.3f} | {many:.3f} | {many - few:+.3f} |")


if __name__ == "__main__":
    main()
