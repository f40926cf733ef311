"""The specification of a stored run, read back from its folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from prunebench.core.errors import ResultError
from prunebench.experiments.results import TrainingResult
from prunebench.experiments.spec import BaseSpec, RunSpec


def stored_spec(folder: Path) -> tuple[BaseSpec | RunSpec, Path]:
    """Return the specification of the run or base network in `folder`, and the results folder.

    ResultError if training.json is missing, damaged or of another version, if its hash belongs to
    another specification, or if the folder does not lie at its path below the results.
    """
    spec = recorded_spec(TrainingResult.read(folder), folder)
    return spec, _results_above(folder, spec.path)


def recorded_spec(training: TrainingResult, folder: Path) -> BaseSpec | RunSpec:
    """Return the specification that the training.json of a folder records.

    ResultError if it is of another version, or if its hash belongs to another specification.
    """
    path = folder / TrainingResult.FILE
    kind = RunSpec if "experiment" in training.spec else BaseSpec
    try:
        spec: BaseSpec | RunSpec = kind.model_validate(training.spec)
    except ValidationError:
        raise ResultError(
            f"{path}: spec is not a specification of this version; train the run again"
        ) from None
    if training.spec_hash != spec.hash:
        raise ResultError(f"{path}: spec_hash is {training.spec_hash}, expected {spec.hash}")
    return spec


def _results_above(folder: Path, path: str) -> Path:
    """Return the results folder in which a run lies at its path."""
    whole, parts = folder.resolve(), Path(path).parts
    if whole.parts[-len(parts) :] != parts:
        raise ResultError(f"{folder}: the run says that it lies at {path} below its results")
    return whole.parents[len(parts) - 1]
