"""The accuracy of a network that was not trained here, evaluated once for all jobs.

Imported weights, and base networks that were stored with other data, are evaluated before a run.
That takes minutes on large data sets. The accuracies are stored below `results/base`, by a hash of
everything that they depend on, so that other base networks and runs take them from there.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

import prunebench
from prunebench.core.errors import ResultError
from prunebench.core.files import make_folder, read_object, write_json
from prunebench.data.normalization import normalization
from prunebench.experiments.spec import BaseSpec, digest
from prunebench.measure.device import device_name
from prunebench.training.progress import Progress
from prunebench.training.run import Evaluated, RunState
from prunebench.training.task import Evaluation


def evaluate_start(run: RunState, base: BaseSpec, results: Path, progress: Progress) -> None:
    """Evaluate the present network on the test and validation split, unless that is known.

    All processes call it together.
    """
    splits: list[Evaluated] = ["test", "val"] if len(run.dataset.val) else ["test"]
    own = normalization(base.recipe.normalize, run.dataset.info)
    for split in splits:
        if run.is_known(split, own):
            continue
        path = _file(run, base, results, split)
        found = run.parallel.from_first(partial(_stored, path, progress))
        if found is not None:
            run.know(split, own, found)
            continue
        images = len(run.images(split))
        progress.say(f"{'evaluate':<10} {images:,} {split} images · {base.path}")
        progress.phase("evaluate", images, 0)
        found = run.evaluated(split, own, progress.step)
        if run.parallel.rank == 0:
            make_folder(path.parent)
            write_json(path, asdict(found))


def _file(run: RunState, base: BaseSpec, results: Path, split: Evaluated) -> Path:
    """Return the file of an accuracy: its name is a hash of all that the accuracy depends on."""
    own = normalization(base.recipe.normalize, run.dataset.info)
    content = {
        "weights": run.weights_hash(),
        "network": [base.architecture, base.network_code],
        "data": [run.dataset.sha256, split, len(run.images(split))],
        "normalization": [own.mean, own.std],
        "device": device_name(run.device),
        "versions": [prunebench.__version__, torch.__version__],
    }
    folder = results / "base" / base.dataset / base.architecture / ".evaluated"
    return folder / f"{digest(content)}.json"


def _stored(path: Path, progress: Progress) -> Evaluation | None:
    """Return a stored accuracy; None without a file, or if it is damaged."""
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = read_object(path)
        return Evaluation(**content)
    except (ResultError, TypeError) as error:
        progress.say(f"{path}: {error}; evaluated again")
        return None
