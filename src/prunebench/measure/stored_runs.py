"""Measure finished runs: cost into metrics.json, latency into latency.json.

What detectors find in a few images is stored with their cost (`example_detections`).

Many runs are measured in one process, since starting Python takes longer than counting one run.
Base networks, counts and latencies are cached in the process: networks of equal structure are timed
once and share the result, so that their speedups do not differ by noise. A stored file is kept if
it belongs to the same specification and weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from prunebench.core.errors import ResultError
from prunebench.experiments.results import MASKS_FILE, CostResult, LatencyEntry, LatencyResult, Part
from prunebench.experiments.spec import RunSpec
from prunebench.measure.device import device_name, usable_gpus
from prunebench.measure.earlier import earlier, weights_hash
from prunebench.measure.example_detections import measure_detections
from prunebench.measure.latency import compare_latency
from prunebench.measure.layer_counts import LayerCount, activations, count_layers
from prunebench.measure.macs import count_macs, count_params, kept_macs, sparsity
from prunebench.measure.precision import Precision
from prunebench.models.registry import is_detector
from prunebench.network import (
    Structure,
    build_pruned,
    check_weights,
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
    """Measure each run that is not measured yet; yield one line of text per run.

    Latencies use the number of threads of the run's training. With several GPUs, the first visible
    one is used: the workflow gives a latency job the whole machine.
    Raises ConfigError for "cuda" without a GPU.
    """
    where = "cuda" if usable_gpus(device) else "cpu"
    for spec in specs:
        run, base = results / spec.path, results / spec.base.path
        words = []
        if only != "latency":
            cost = measure_cost(run, base, spec.hash)
            words.append(f"{cost.base_macs / cost.macs:.2f}× fewer MACs")
            if is_detector(spec.architecture):
                words.append(measure_detections(spec, results))
        if only != "cost":
            torch.set_num_threads(spec.threads)
            latency = measure_latency(run, base, spec.hash, device=where)
            words += [
                f"{entry.speedup:.2f}× faster at batch {entry.batch_size}"
                + (" with post-processing" if entry.part == "whole" else "")
                for entry in latency.entries
            ]
        yield f"{spec.path} · {' · '.join(words) or 'masked weights save no time'}"


def measure_cost(run_dir: Path, base_dir: Path, spec_hash: str) -> CostResult:
    """Count operations and parameters of a run and its base; write and return metrics.json."""
    weights = weights_hash(run_dir)
    check_weights(run_dir)
    if stored := earlier(CostResult, run_dir, spec_hash, weights):
        return stored
    run, base = count_structure(read_structure(run_dir)), count_structure(read_structure(base_dir))
    masks = _checked_masks(run_dir, run)
    cost = CostResult(
        macs=run.macs,
        params=run.params,
        macs_theoretical=kept_macs(run.layers, masks),
        sparsity=sparsity(run.layers, masks),
        activations=run.activations,
        base_macs=base.macs,
        base_params=base.params,
        base_activations=base.activations,
        uncounted_operators=run.uncounted,
        spec_hash=spec_hash,
        weights_sha256=weights,
    )
    cost.write(run_dir)
    return cost


def measure_latency(
    run_dir: Path,
    base_dir: Path,
    spec_hash: str,
    *,
    device: torch.device | str,
    batch_sizes: Sequence[int] | None = None,
    repeats: int | None = None,
    warmup: int | None = None,
    precision: Precision = "fp32",
) -> LatencyResult:
    """Time the network of a run alternately with its base; write and return latency.json.

    A network of a structure that was timed before in this process, at the same settings, gets those
    times; one of the base's structure has a speedup of 1. A detector has entries for its forward
    pass and for the whole with post-processing.
    Default: the batches of `timed_batches`; 15 repeats after at most 6 passes on a CPU, 101 after
    at most 60 on a GPU.
    There are no entries if weights are masked and nothing was removed: masks save no time.
    """
    device = torch.device(device)
    weights = weights_hash(run_dir)
    stored = earlier(LatencyResult, run_dir, spec_hash, weights)
    structure = read_structure(run_dir)
    batch_sizes = batch_sizes or timed_batches(structure.image)
    parts: tuple[Part, ...] = (
        ("forward", "whole") if is_detector(structure.architecture) else ("forward",)
    )
    wanted = [(part, batch_size) for part in parts for batch_size in batch_sizes]
    settings = (str(device), tuple(wanted), repeats, warmup, precision)
    key = (structure_key(structure), *settings, torch.get_num_threads())
    if stored and _covers(stored.entries, device, wanted, precision):
        if stored.entries and stored.entries[0].threads == torch.get_num_threads():
            _LATENCIES.setdefault(key, stored.entries)
        return stored
    entries: tuple[LatencyEntry, ...] = ()
    if structure.is_smaller or not load_masks(run_dir):
        if key not in _LATENCIES:
            base = _base_network(base_dir.resolve(), weights_hash(base_dir))
            is_base = structure_key(structure) == structure_key(read_structure(base_dir))
            pruned = base if is_base else load_network(run_dir)
            on_gpu = device.type == "cuda"
            _LATENCIES[key] = tuple(
                compare_latency(
                    base,
                    pruned,
                    structure.image,
                    batch_size=batch_size,
                    device=device,
                    repeats=repeats or (101 if on_gpu else 15),
                    warmup=(60 if on_gpu else 6) if warmup is None else warmup,
                    precision=precision,
                    part=part,
                )
                for part, batch_size in wanted
            )
        entries = _LATENCIES[key]
    latency = LatencyResult(entries=entries, spec_hash=spec_hash, weights_sha256=weights)
    latency.write(run_dir)
    return latency


_LATENCIES: dict[tuple[object, ...], tuple[LatencyEntry, ...]] = {}
_LARGEST_BATCH = 64
_MOST_PIXELS = 64 * 320 * 320  # of a batch, so that detectors' large images fit into memory


def timed_batches(image: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the batch sizes to time for images (C, h, w): 1, and 64 or less for large images.

    >>> timed_batches((3, 224, 224)), timed_batches((3, 800, 1280)), timed_batches((3, 4096, 4096))
    ((1, 64), (1, 4), (1,))
    """
    fitting = max(1, _MOST_PIXELS // (image[1] * image[2]))
    power = 1 << (fitting.bit_length() - 1)
    return tuple(sorted({1, min(_LARGEST_BATCH, power)}))


@dataclass(frozen=True)
class StructureCount:
    """The cost of a structure, which does not depend on its weights."""

    macs: int
    params: int
    activations: int  # elements of all convolution outputs
    uncounted: dict[str, int]  # operators without a formula, with their number of calls
    layers: tuple[LayerCount, ...]


def count_structure(structure: Structure) -> StructureCount:
    """Count a structure; the count of equal architecture, image and widths is cached."""
    key = structure_key(structure)
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


def structure_key(structure: Structure) -> tuple[object, ...]:
    """Return a key that is equal for networks of equal architecture, image and widths."""
    widths = tuple(sorted(structure.widths.items()))
    return structure.architecture, structure.num_classes, structure.image, widths


@lru_cache(maxsize=4)
def _base_network(folder: Path, weights: str) -> nn.Module:
    """Load a base network; its hash distinguishes a retrained one from the cached one."""
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


def _covers(
    entries: Sequence[LatencyEntry],
    device: torch.device,
    wanted: Sequence[tuple[Part, int]],
    precision: Precision,
) -> bool:
    """Whether the entries were timed on this device as requested; no entries fit any request."""
    where = device_name(device), precision
    return not entries or [(*one, *where) for one in wanted] == [
        (entry.part, entry.batch_size, entry.device, entry.precision) for entry in entries
    ]
