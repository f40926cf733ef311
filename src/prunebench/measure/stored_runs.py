"""Measuring many runs in one process: starting Python costs more than counting one of them.

The two measuring stages: what a run costs (`metrics.json`), how fast it is (`latency.json`).

A file is kept when it belongs to the same specification and weights. Base networks and counts are
cached in the process, since one process measures many runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunebench.core.errors import ResultError
from prunebench.core.files import read_json, write_json
from prunebench.experiments.spec import RunSpec
from prunebench.measure.device import usable_gpus
from prunebench.measure.latency import LatencyEntry, compare_latency, device_name
from prunebench.measure.layer_counts import LayerCount, activations, count_layers
from prunebench.measure.macs import count_macs, count_params, kept_macs, sparsity
from prunebench.measure.precision import Precision
from prunebench.network import (
    MASKS_FILE,
    MODEL_FILE,
    Structure,
    build_pruned,
    file_hash,
    load_masks,
    load_network,
    read_structure,
)


def measure_runs(
    specs: Sequence[RunSpec],
    results: Path,
    *,
    only: Literal["cost", "latency"] | str | None,
    device: str,
) -> Iterator[str]:
    """Measure each run that has no such file yet; yield a line per run.

    Latencies take the threads that the runs were trained with. On a GPU machine the device is the
    first that the process sees: the workflow gives a latency job all of the machine.
    Raises ConfigError for "cuda" where there is no GPU.
    """
    where = "cuda" if usable_gpus(device) else "cpu"
    for spec in specs:
        run, base = results / spec.path, results / spec.base.path
        words = []
        if only != "latency":
            cost = measure_cost(run, base, spec.hash)
            words.append(f"{cost['base_macs'] / cost['macs']:.2f}× fewer MACs")
        if only != "cost":
            torch.set_num_threads(spec.threads)
            latency = measure_latency(run, base, spec.hash, device=where)
            words += [
                f"{entry['speedup']:.2f}× faster at batch {entry['batch_size']}"
                for entry in latency["entries"]
            ]
        yield f"{spec.path} · {' · '.join(words) or 'zeros save no time'}"


@dataclass(frozen=True)
class StructureCount:
    """What a structure costs, whatever its weights are."""

    macs: int
    params: int
    activations: int  # elements of all convolution outputs
    uncounted: dict[str, int]
    layers: tuple[LayerCount, ...]


def measure_cost(run_dir: Path, base_dir: Path, spec_hash: str) -> dict[str, Any]:
    """Count the run's and its base's operations and parameters; write and return metrics.json."""
    path, weights = run_dir / "metrics.json", _weights_hash(run_dir)
    if metrics := _existing(path, spec_hash, weights):
        return metrics
    run, base = count_structure(read_structure(run_dir)), count_structure(read_structure(base_dir))
    masks = _checked_masks(run_dir, run)
    metrics = {
        "macs": run.macs,
        "params": run.params,
        "macs_theoretical": kept_macs(run.layers, masks),
        "sparsity": sparsity(run.layers, masks),
        "activations": run.activations,
        "base_macs": base.macs,
        "base_params": base.params,
        "base_activations": base.activations,
        "uncounted_operators": run.uncounted,
        "spec_hash": spec_hash,
        "weights_sha256": weights,
    }
    write_json(path, metrics)
    return metrics


def measure_latency(
    run_dir: Path,
    base_dir: Path,
    spec_hash: str,
    *,
    device: torch.device | str,
    batch_sizes: Sequence[int] = (1, 64),
    repeats: int | None = None,
    warmup: int | None = None,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Time the run's network beside its base; write and return latency.json.

    Without numbers: 15 repeats after at most 6 forwards on a CPU, 101 after at most 60 on a GPU.
    There are no entries where zeros are masked and nothing was removed: masks save no time.
    """
    device = torch.device(device)
    path, weights = run_dir / "latency.json", _weights_hash(run_dir)
    latency = _existing(path, spec_hash, weights)
    if latency and _covers(latency["entries"], device, batch_sizes, precision):
        return latency
    structure = read_structure(run_dir)
    entries: list[LatencyEntry] = []
    if structure.is_smaller or not load_masks(run_dir):
        pruned = load_network(run_dir)
        base = _base_network(base_dir.resolve(), _weights_hash(base_dir))
        on_gpu = device.type == "cuda"
        entries = [
            compare_latency(
                base,
                pruned,
                structure.image,
                batch_size=batch_size,
                device=device,
                repeats=repeats or (101 if on_gpu else 15),
                warmup=(60 if on_gpu else 6) if warmup is None else warmup,
                precision=precision,
            )
            for batch_size in batch_sizes
        ]
    latency = {"entries": entries, "spec_hash": spec_hash, "weights_sha256": weights}
    write_json(path, latency)
    return latency


def count_structure(structure: Structure) -> StructureCount:
    """Count a structure; one of the same architecture, image and widths is counted once."""
    key = (
        structure.architecture,
        structure.num_classes,
        structure.image,
        tuple(sorted(structure.widths.items())),
    )
    if key not in _COUNTS:
        model, example = build_pruned(structure), torch.zeros(1, *structure.image)
        operations, layers = count_macs(model, example), count_layers(model, example)
        _COUNTS[key] = StructureCount(
            macs=operations.total,
            params=count_params(model),
            activations=activations(layers),
            uncounted=operations.uncounted,
            layers=layers,
        )
    return _COUNTS[key]


_COUNTS: dict[tuple[object, ...], StructureCount] = {}


@lru_cache(maxsize=4)
def _base_network(folder: Path, weights: str) -> nn.Module:
    """Load a base network; its hash tells a retrained one from the one in the cache."""
    return load_network(folder)


def _checked_masks(run_dir: Path, count: StructureCount) -> dict[str, Tensor]:
    masks = load_masks(run_dir)
    weights = {layer.weight: layer.weights for layer in count.layers}
    for name, mask in masks.items():
        if name in weights and mask.numel() != weights[name]:
            raise ResultError(
                f"{run_dir / MASKS_FILE}: {name!r} has {mask.numel()} entries, "
                f"expected {weights[name]}"
            )
    return masks


def _weights_hash(run_dir: Path) -> str:
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


def _existing(path: Path, spec_hash: str, weights: str) -> dict[str, Any] | None:
    """Return what an earlier call wrote for the same specification and weights."""
    try:
        content = read_json(path)
    except ResultError:  # missing, or damaged and then measured again
        return None
    same = content.get("spec_hash") == spec_hash and content.get("weights_sha256") == weights
    return dict(content) if same else None


def _covers(
    entries: Sequence[LatencyEntry],
    device: torch.device,
    batch_sizes: Sequence[int],
    precision: Precision,
) -> bool:
    """Whether the entries were timed on this device as asked; no entries fit every device."""
    wanted = [(device_name(device), size, precision) for size in batch_sizes]
    return not entries or wanted == [
        (entry["device"], entry["batch_size"], entry["precision"]) for entry in entries
    ]
