"""Repair a stored run: make again what is missing or damaged, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prunebench.core.errors import ResultError
from prunebench.experiments.machine import Machine
from prunebench.experiments.resolved import read_resolved, resolved_file
from prunebench.experiments.results import TrainingResult
from prunebench.experiments.spec import BaseSpec, RunSpec, run_parts
from prunebench.experiments.stored_spec import stored_spec
from prunebench.measure.stored_runs import measure_runs
from prunebench.training.progress import Progress
from prunebench.training.train import train_base, train_run


def repair_run(folder: Path, *, machine: Machine, progress: Progress) -> Iterator[str]:
    """Train a run or base network again if a file of its training is damaged; measure it again.

    Yields what the measuring says. Whole files and measurements stay. The specification is the
    stored one or, if training.json is damaged, the one that the workflow has resolved. ResultError
    if neither can be read.
    """
    spec, results = specification_of(folder)
    if isinstance(spec, BaseSpec):
        train_base(spec, results, progress=progress, machine=machine)
        return
    train_run(spec, results, progress=progress, machine=machine)
    yield from measure_runs(
        [spec], results, only=None, device=machine.device, capture=machine.capture
    )


def specification_of(folder: Path) -> tuple[BaseSpec | RunSpec, Path]:
    """Return the specification of the run in a folder, and the results folder above it."""
    try:
        TrainingResult.read(folder)
    except ResultError as error:
        return _resolved(folder, error)
    return stored_spec(folder)


def _resolved(folder: Path, problem: ResultError) -> tuple[RunSpec, Path]:
    """Return the specification that the workflow has resolved for a folder."""
    parts = folder.resolve().parts
    path, results = "/".join(parts[-7:]), Path(*parts[:-7])
    try:
        runs = read_resolved(resolved_file(results, run_parts(path)["experiment"]))
        return runs[path], results
    except (ResultError, KeyError, ValueError):
        raise ResultError(
            f"{problem}; its specification is not in {results / 'resolved'} either: the workflow "
            "makes it again"
        ) from None
