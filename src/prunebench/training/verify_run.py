"""Check a stored run against its specification, inputs, recorded accuracy and costs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from prunebench.channels.verify import TOLERANCE
from prunebench.core.errors import ResultError
from prunebench.core.files import file_hash
from prunebench.data.dataset import Dataset, load
from prunebench.data.normalization import normalization
from prunebench.experiments.results import (
    MASKS_FILE,
    MODEL_FILE,
    CostResult,
    DetectionsResult,
    LatencyResult,
    PicturesResult,
    TrainingResult,
)
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.experiments.stored_spec import stored_spec
from prunebench.measure.device import device_name
from prunebench.measure.stored_runs import count_structure
from prunebench.network import (
    Structure,
    load_masks,
    load_network,
    read_structure,
    whole_and_removed,
)
from prunebench.training.processes import ALONE
from prunebench.training.pruning import removed_and_difference
from prunebench.training.run import noise
from prunebench.training.task import task_of
from prunebench.training.train import phases_of

OTHER_DEVICE = 0.001  # by which the accuracy may differ on another device or processor
ROUNDING = 1e-9  # of the stored accuracy


def verify_run(folder: Path) -> str:
    """Check the run or the base network in `folder`; return the confirmed facts as one line.

    The hashes of specification, weights, base network and data must match; measurements must be
    whole and of these weights; accuracy and costs must come out again; masking the removed units
    in the whole network must give the same outputs; masked weights must be zero. Everything runs
    on the CPU with the run's number of threads. On another device or processor than the run's, one
    image in a thousand may be classified differently; the line names both processors.
    ResultError or ModelError names the first mismatch.
    """
    training = TrainingResult.read(folder)
    spec, results = stored_spec(folder)
    for problem in training.damages(folder):
        raise ResultError(problem)
    _check_measurements(folder, training)
    hashes = [f"specification {spec.hash[:8]}", f"weights {training.weights_sha256[:8]}"]
    if training.base_hash is not None:
        assert isinstance(spec, RunSpec)
        base = results / spec.base.path / MODEL_FILE
        _must_equal(base, "SHA-256", file_hash(base), training.base_hash)
        hashes.append(f"base {training.base_hash[:8]}")
    data = data_path(results, spec.dataset)
    base_recipe = spec.base.recipe if isinstance(spec, RunSpec) else spec.recipe
    dataset = _dataset(data, base_recipe.max_images)
    _must_equal(data, "SHA-256", dataset.sha256, training.data_sha256)
    hashes.append(f"data {dataset.sha256[:8]}")
    model, structure = load_network(folder), read_structure(folder)
    found = [
        _accuracy(folder, model, spec, training, dataset),
        *_costs(folder, structure),
        *_removal(folder, structure, results, spec, training),
        *_zeros(folder, model),
    ]
    return f"{spec.path} · {' · '.join(found)} · {', '.join(hashes)}"


def _check_measurements(folder: Path, training: TrainingResult) -> None:
    for kind in (CostResult, LatencyResult, DetectionsResult, PicturesResult):
        path = folder / kind.FILE
        if path.exists():
            found = kind.read(folder, training.spec_hash).weights_sha256
            _must_equal(path, "weights_sha256", found, training.weights_sha256)


@lru_cache(maxsize=1)
def _dataset(path: Path, most: int | None) -> Dataset:
    return load(path, most=most)


def _accuracy(
    folder: Path,
    model: nn.Module,
    spec: BaseSpec | RunSpec,
    training: TrainingResult,
    dataset: Dataset,
) -> str:
    base_recipe = spec.base.recipe if isinstance(spec, RunSpec) else spec.recipe
    recipe = [base_recipe, *(phase.recipe for phase in phases_of(spec) if phase.recipe)][-1]
    torch.set_num_threads(training.threads)
    model.to(memory_format=torch.channels_last)
    task, own = task_of(dataset.info), normalization(recipe.normalize, dataset.info)
    found = task.evaluate(model, dataset.test, own, ALONE)
    metric, was = task.metric.short, task.known(dataset.test, training.accuracy, training)
    here = other_processor(training)
    exact = training.device == "cpu" and not here
    allowed = ROUNDING if exact else OTHER_DEVICE
    if abs(found.fraction - was.fraction) > allowed:
        raise ResultError(
            f"{folder}: {metric} is {found.percent:.2f} % ({found.words}), and was "
            f"{was.percent:.2f} % when it was stored{here and f' ({here})'}"
        )
    again = f"{metric} {found.percent:.2f} % again ({found.words})"
    return f"{again}, {here}" if here else again


def other_processor(training: TrainingResult) -> str:
    """Return that the run was stored on another processor than this one, or ""."""
    here = device_name(torch.device("cpu"))
    if training.processor in (None, here):
        return ""
    return f"recomputed on {here}, stored on {training.processor}"


def _costs(folder: Path, structure: Structure) -> list[str]:
    """Count the operations and parameters in metrics.json again, if the run has been measured."""
    path = folder / CostResult.FILE
    if not path.exists():
        return []
    metrics, found = CostResult.read(folder), count_structure(structure)
    for key in ("macs", "params", "activations"):
        _must_equal(path, key, getattr(metrics, key), getattr(found, key))
    return [f"{found.macs / 1e6:.2f} M MACs and {found.params / 1e6:.3f} M parameters again"]


def _removal(
    folder: Path,
    structure: Structure,
    results: Path,
    spec: BaseSpec | RunSpec,
    training: TrainingResult,
) -> list[str]:
    """Compare masked with removed, with the base network's weights if the run started from it."""
    model, graph, removed = whole_and_removed(structure)
    if not removed:
        return []
    if isinstance(spec, RunSpec) and training.base_hash is not None:
        model.load_state_dict(load_network(results / spec.base.path).state_dict())
    _, difference = removed_and_difference(model, graph, removed, noise(structure.image))
    if not difference <= TOLERANCE:
        raise ResultError(f"{folder}: masked and removed differ by {difference:.1e}")
    return [f"masked = removed to {difference:.0e}"]


def _zeros(folder: Path, model: nn.Module) -> list[str]:
    masks, params = load_masks(folder), dict(model.named_parameters())
    for name, kept in masks.items():
        if bool(params[name][~kept].any()):
            raise ResultError(f"{folder / MASKS_FILE}: {name!r} is not zero at masked weights")
    return ["masked entries are zero"] if masks else []


def _must_equal(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ResultError(f"{path}: {what} is {found}, expected {expected}")
