"""Measure finished runs: cost into metrics.json, latency into latency.json.

What detectors find in a few images is stored with their cost (`example_detections`).

Many runs are measured in one process, since starting Python takes longer than counting one run.
Base networks, counts and latencies are cached in the process: networks of equal structure are timed
once and share the result, so that their speedups do not differ by noise. A stored file is kept if
it belongs to the same specification and weights. Latencies of earlier versions, whose stability is
unknown, are measured again.
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
from prunebench.experiments.results import (
    MASKS_FILE,
    CostResult,
    LatencyEntry,
    LatencyResult,
    Mode,
    Part,
)
from prunebench.experiments.spec import RunSpec
from prunebench.measure.claimed_gpus import claimed_device
from prunebench.measure.device import device_name
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
    capture: bool = True,
) -> Iterator[str]:
    """Measure each run that is not measured yet; yield one line of text per run.

    Latencies use the number of threads of the run's training. A GPU is claimed meanwhile, so that
    no training job uses it. On a GPU, forward passes are also timed as CUDA graphs if `capture` is
    true.
    Raises ConfigError for "cuda" without a GPU.
    """
    with claimed_device("cpu" if only == "cost" else device) as claimed:
        where = claimed.type
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
                latency = measure_latency(run, base, spec.hash, device=where, capture=capture)
                words += [_in_words(one) for one in latency.entries if one.device_kind == where]
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
    capture: bool = True,
) -> LatencyResult:
    """Time the network of a run alternately with its base; write and return latency.json.

    A network of a structure that was timed before in this process, at the same settings, gets those
    times; one of the base's structure has a speedup of 1. There are no entries if weights are
    masked and nothing was removed: masks save no time. Entries of another kind of device stay in
    the file. `time_run` has the meaning and the defaults of the settings.
    """
    device = torch.device(device)
    structure = read_structure(run_dir)
    stored = earlier(LatencyResult, run_dir, spec_hash, weights_hash(run_dir))
    wanted = wanted_latencies(structure, device, batch_sizes, capture)
    settings = (str(device), tuple(wanted), repeats, warmup, precision)
    key = (structure_key(structure), *settings, torch.get_num_threads())
    found = None if stored is None else _fitting(stored.entries, device, wanted, precision)
    if stored is not None and found is not None:
        if found and found[0].threads == torch.get_num_threads():
            _LATENCIES.setdefault(key, found)
        return stored
    if not saves_time(run_dir):
        return store_latency(run_dir, spec_hash, ())
    if key not in _LATENCIES:
        _LATENCIES[key] = time_run(
            run_dir,
            base_dir,
            device=device,
            batch_sizes=batch_sizes,
            repeats=repeats,
            warmup=warmup,
            precision=precision,
            capture=capture,
        )
    return store_latency(run_dir, spec_hash, _LATENCIES[key])


Wanted = tuple[Part, Mode, int]  # the last is the batch size


def wanted_latencies(
    structure: Structure, device: torch.device, batch_sizes: Sequence[int] | None, capture: bool
) -> list[Wanted]:
    """Return what is timed, in the order of the entries."""
    detects = is_detector(structure.architecture)
    kinds: list[tuple[Part, Mode]] = [("forward", "eager")]
    if device.type == "cuda" and capture and not detects:
        kinds.append(("forward", "graph"))
    if detects:
        kinds.append(("whole", "eager"))
    sizes = batch_sizes or timed_batches(structure.image)
    return [(part, mode, size) for part, mode in kinds for size in sizes]


def time_run(
    run_dir: Path,
    base_dir: Path,
    *,
    device: torch.device | str,
    batch_sizes: Sequence[int] | None = None,
    repeats: int | None = None,
    warmup: int | None = None,
    precision: Precision = "fp32",
    capture: bool = True,
) -> tuple[LatencyEntry, ...]:
    """Time the network of a run alternately with its base, and return the entries.

    A detector has entries for its forward pass and for the whole with post-processing. On a GPU a
    classifier's forward pass also has entries as a CUDA graph, if `capture` is true; a detector's
    has none, because it copies its anchors from the CPU.
    Default: the batches of `timed_batches`, and the passes of `compare_latency`.
    """
    device = torch.device(device)
    structure = read_structure(run_dir)
    base, pruned = networks_to_time(run_dir, base_dir)
    return tuple(
        compare_latency(
            base,
            pruned,
            structure.image,
            batch_size=batch_size,
            device=device,
            repeats=repeats,
            warmup=warmup,
            precision=precision,
            part=part,
            mode=mode,
        )
        for part, mode, batch_size in wanted_latencies(structure, device, batch_sizes, capture)
    )


def saves_time(run_dir: Path) -> bool:
    """Whether a network may be faster than its base: it is smaller, or nothing is masked."""
    return read_structure(run_dir).is_smaller or not load_masks(run_dir)


def networks_to_time(run_dir: Path, base_dir: Path) -> tuple[nn.Module, nn.Module]:
    """Return the base network and that of a run, which is the base if they are equally wide."""
    base = _base_network(base_dir.resolve(), weights_hash(base_dir))
    same = structure_key(read_structure(run_dir)) == structure_key(read_structure(base_dir))
    return base, base if same else load_network(run_dir)


def store_latency(
    run_dir: Path, spec_hash: str, entries: tuple[LatencyEntry, ...]
) -> LatencyResult:
    """Write latency.json with new entries, and return it.

    Earlier entries of the same specification and weights stay if they were timed on another device
    or are about another batch size, part or mode; those of another device of the same kind go,
    because the columns of runs.csv name only the kind.
    """
    weights = weights_hash(run_dir)
    stored = earlier(LatencyResult, run_dir, spec_hash, weights)
    new, devices = set(map(_what, entries)), {e.device_kind: e.device for e in entries}
    kept = [
        entry
        for entry in (stored.entries if stored else ())
        if _what(entry) not in new
        and devices.get(entry.device_kind, entry.device) == entry.device
        and entry.unstable is not None
    ]
    found = (*kept, *entries)
    latency = LatencyResult(entries=found, spec_hash=spec_hash, weights_sha256=weights)
    latency.write(run_dir)
    return latency


def _what(entry: LatencyEntry) -> tuple[str, Part, Mode, int]:
    return entry.device_kind, entry.part, entry.mode, entry.batch_size


def _in_words(entry: LatencyEntry) -> str:
    words = [f"{entry.speedup:.2f}× faster at batch {entry.batch_size}"]
    words += ["with post-processing"] if entry.part == "whole" else []
    words += ["as a CUDA graph"] if entry.mode == "graph" else []
    words += [f"(unstable: {entry.unstable})"] if entry.unstable else []
    return " ".join(words)


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


def _fitting(
    entries: Sequence[LatencyEntry],
    device: torch.device,
    wanted: Sequence[Wanted],
    precision: Precision,
) -> tuple[LatencyEntry, ...] | None:
    """Return the entries that were timed on this device as requested; None if one is missing.

    No entries at all fit any request. An entry of unknown stability fits none.
    """
    if not entries:
        return ()
    here = {
        (entry.part, entry.mode, entry.batch_size): entry
        for entry in entries
        if entry.unstable is not None
        and (entry.device, entry.precision) == (device_name(device), precision)
    }
    found = tuple(here[one] for one in wanted if one in here)
    return found if len(found) == len(wanted) else None
