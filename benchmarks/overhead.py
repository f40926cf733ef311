"""The share of a workflow's time that is neither training, pruning nor measuring.

    snakemake --cores 2 && python benchmarks/overhead.py --cores 2

Overhead is the time of a core outside of phases and measurements: starting Python, loading,
planning, drawing tables and figures, waiting for the last job. The elapsed time is that of
Snakemake's newest log, which must be of a run without earlier results.
"""

from __future__ import annotations

import argparse
import csv
import re
from datetime import timedelta
from pathlib import Path

from prunebench.core.files import read_json


def training_seconds(results: Path) -> float:
    """Return the time of all phases of runs and base networks, with evaluation between epochs."""
    files = [*results.glob("*/*/*/*/*/*/seed*/training.json")]
    files += results.glob("base/*/*/*/seed*/training.json")
    return sum(sum(read_json(file)["seconds"].values()) for file in files)


def measuring_seconds(results: Path) -> float:
    """Return the time of all measuring jobs, from Snakemake's benchmark files."""
    total = 0.0
    for file in (results / "benchmarks").glob("*/*/*/measure_*.tsv"):
        with file.open(newline="") as lines:
            total += sum(float(row["s"]) for row in csv.DictReader(lines, delimiter="\t"))
    return total


def elapsed_seconds(logs: Path) -> float:
    """Return the elapsed time of the newest run from its log."""
    newest = max(logs.glob("*.snakemake.log"), key=lambda path: path.stat().st_mtime)
    found = re.search(r"Elapsed time: (\d+):(\d+):([\d.]+)", newest.read_text())
    if found is None:
        raise SystemExit(f"{newest}: no elapsed time found; has the workflow finished?")
    hours, minutes, seconds = found.groups()
    return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)).total_seconds()


def main() -> None:
    """Print the share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--logs", type=Path, default=Path(".snakemake/log"))
    parser.add_argument("--cores", type=int, required=True)
    options = parser.parse_args()
    elapsed = elapsed_seconds(options.logs)
    training, measuring = training_seconds(options.results), measuring_seconds(options.results)
    # A latency job has the machine to itself: all cores wait for it.
    busy = training + measuring * options.cores
    share = 1 - busy / (options.cores * elapsed)
    print(f"elapsed {elapsed:.0f} s on {options.cores} cores")
    print(f"training and pruning {training:.0f} s, measuring {measuring:.0f} s")
    print(f"outside of training, pruning and measuring: {100 * share:.0f} %")


if __name__ == "__main__":
    main()
