"""Earlier measurements, which are kept if they belong to the same specification and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from prunebench.core.errors import ResultError
from prunebench.core.files import file_hash
from prunebench.experiments.results import (
    MODEL_FILE,
    CostResult,
    DetectionsResult,
    LatencyResult,
    PicturesResult,
    TrainingResult,
)

R = TypeVar("R", CostResult, LatencyResult, DetectionsResult, PicturesResult)


def weights_hash(run_dir: Path) -> str:
    """Return the hash of the run's weights; ResultError if a file is not as training recorded."""
    if not (run_dir / TrainingResult.FILE).exists():
        return file_hash(run_dir / MODEL_FILE)
    training = TrainingResult.read(run_dir)
    for problem in training.damages(run_dir):
        raise ResultError(problem)
    return training.weights_sha256


def earlier(kind: type[R], run_dir: Path, spec_hash: str, weights: str) -> R | None:
    """Return the stored result of this specification and weights; None: measure again."""
    try:
        stored = kind.read(run_dir, spec_hash)
    except ResultError:
        return None
    return stored if stored.weights_sha256 == weights else None
