"""Time one stored run for `prunebench measure --latency`, and print what was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from prunebench.experiments.results import LatencyEntry, LatencyResult
from prunebench.experiments.spec import RunSpec
from prunebench.experiments.stability import MOST_DIFFERENCE
from prunebench.experiments.stored_spec import stored_spec
from prunebench.measure.layer_latency import LayerLatencies, compare_layers
from prunebench.measure.stored_runs import (
    networks_to_time,
    saves_time,
    store_latency,
    time_run,
)
from prunebench.network import read_structure
from prunebench.report.table import DASH, significant
from prunebench.report.table_formats import markdown_table


def time_stored_run(
    folder: Path, *, device: str, capture: bool, per_layer: bool, write: bool
) -> Iterator[str]:
    """Time the run or base network in a folder, and yield tables of its latencies.

    latency.json gets the new entries if `write` is true. ResultError if the folder has no finished
    run. `device` is "cpu" or "cuda", the current GPU.
    """
    where = torch.device(device)
    spec, results = stored_spec(folder)
    base = results / (spec.base if isinstance(spec, RunSpec) else spec).path
    yield spec.path
    if not saves_time(folder):
        yield "weights are masked and no unit was removed: masks save no time"
        return
    torch.set_num_threads(spec.threads)
    entries = time_run(folder, base, device=where, capture=capture)
    yield from latency_lines(entries)
    if write:
        store_latency(folder, spec.hash, entries)
        yield f"written to {folder / LatencyResult.FILE}"
    if per_layer:
        networks, image = networks_to_time(folder, base), read_structure(folder).image
        for entry in entries:
            if entry.part == "forward" and entry.mode == "eager":
                found = compare_layers(
                    *networks,
                    image,
                    batch_size=entry.batch_size,
                    device=where,
                    repeats=entry.repeats,
                    warmup=entry.warmup,
                )
                yield from layer_lines(found, entry)


def latency_lines(entries: Sequence[LatencyEntry]) -> Iterator[str]:
    """Yield where the entries were measured, a table of them, and how it is to be read."""
    yield _device(entries[0])
    heads = ["part", "mode", "batch", "n", "network, ms", "base, ms", "base again, ms"]
    rows = [[*heads, "speedup", "range", "stable"], *map(_row, entries)]
    yield ""
    yield markdown_table(rows, range(2, len(heads) + 2)).rstrip()
    yield ""
    for entry in entries:
        if entry.unstable:
            yield f"{entry.part}, {entry.mode}, batch {entry.batch_size}: {entry.unstable}."
    yield (
        "Medians (quartiles) over n = repetitions × passes; base again: a second copy of the base; "
        "range: of the speedup between quartiles."
    )
    yield (
        "Stable: the base and its copy, and two repetitions, differ by at most "
        f"{100 * MOST_DIFFERENCE:g} % in the median."
    )


def _device(entry: LatencyEntry) -> str:
    """Return device, threads or clocks, and what is unknown about them."""
    words = [entry.device]
    if entry.device_kind == "cpu":
        cores = "not pinned"
        if entry.cores is not None:
            cores = f"pinned to core {', '.join(map(str, entry.cores))}"
        words.append(f"{entry.threads} thread{'s' * (entry.threads > 1)}, {cores}")
    else:
        words.append(f"driver {entry.driver or 'unknown'}")
        for name, clock in (("SM", entry.sm_clock_mhz), ("memory", entry.memory_clock_mhz)):
            words.append(f"{name} {'clock unknown' if clock is None else f'{clock} MHz'}")
    return " · ".join(words)


def _row(entry: LatencyEntry) -> list[str]:
    network = _times(entry.median_ms, entry.q25_ms, entry.q75_ms)
    base = _times(entry.base_median_ms, entry.base_q25_ms, entry.base_q75_ms)
    again = [significant(one.base_again.median_ms) for one in entry.repetitions or ()]
    low, high = entry.speedup_range
    return [
        entry.part,
        entry.mode,
        str(entry.batch_size),
        f"{len(again)} × {entry.repeats}",
        network,
        base,
        ", ".join(again),
        f"{entry.speedup:.2f}×",
        f"{low:.2f}–{high:.2f}",
        "no" if entry.unstable else "yes",
    ]


def _times(median: float, low: float, high: float) -> str:
    return f"{significant(median)} ({significant(low)}–{significant(high)})"


def layer_lines(found: LayerLatencies, entry: LatencyEntry) -> Iterator[str]:
    """Yield a table of the layers, their sum beside the whole, and how it is to be read.

    `entry` has the times of the same networks without hooks.
    """
    heads = ["layer", "kind", "width", "network, ms", "share", "base, ms", "speedup"]
    rows = [
        [
            layer.name,
            layer.kind,
            f"{layer.width}/{layer.base_width}",
            *_compared(layer.ms, found.whole_ms, layer.base_ms),
        ]
        for layer in found.layers
    ]
    sums = [
        "sum of the layers",
        "",
        "",
        *_compared(found.sum_ms, found.whole_ms, found.base_sum_ms),
    ]
    whole = _compared(found.whole_ms, found.whole_ms, found.base_whole_ms)
    bare = _compared(entry.median_ms, None, entry.base_median_ms)
    rows += [sums, ["whole, with hooks", "", "", *whole], ["whole, without", "", "", *bare]]
    yield ""
    yield f"Layers at batch {entry.batch_size}"
    yield ""
    yield markdown_table([heads, *rows], range(2, len(heads))).rstrip()
    yield ""
    yield (
        "Medians over the passes; share: of the whole with hooks. Hooks add time to every layer; "
        "ReLU, additions and pooling belong to none."
    )


def _compared(ms: float, whole_ms: float | None, base_ms: float) -> list[str]:
    share = DASH if whole_ms is None else f"{100 * ms / whole_ms:.1f} %"
    return [significant(ms), share, significant(base_ms), f"{base_ms / ms:.2f}×"]
