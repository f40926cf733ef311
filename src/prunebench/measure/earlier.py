"""Earlier measurements, which are kept if they belong to the same specification and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from prunebench.core.errors import ResultError
from prunebench.core.files import read_json
from prunebench.experiments.results import (
    CostResult,
    DetectionsResult,
    LatencyResult,
    PicturesResult,
)
from prunebench.network import MODEL_FILE, file_hash

R = TypeVar("R", CostResult, LatencyResult, DetectionsResult, PicturesResult)


def weights_hash(run_dir: Path) -> str:
    """Return the hash of the run's weights; ResultError if training recorded another one."""
    weights = file_hash(run_dir / MODEL_FILE)
    training = run_dir / "training.json"
    if training.exists():
        recorded = read_json(training).get("weights_sha256", weights)
        if recorded != weights:
            raise ResultError(
                f"{run_dir / MODEL_FILE}: SHA-256 is {weights}, expected {recorded} as in "
                f"{training.name}"
            )
    return weights


def earlier(kind: type[R], run_dir: Path, spec_hash: str, weights: str) -> R | None:
    """Return the stored result of this specification and weights; None: measure again."""
    try:
        stored = kind.read(run_dir, spec_hash)
    except ResultError:
        return None
    return stored if stored.weights_sha256 == weights else None
