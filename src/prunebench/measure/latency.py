"""Latency of a pruned network and its base, timed alternately in one process.

One fixed input lies on the device, in evaluation and inference mode, after a warm-up. On a GPU each
forward pass lies between two CUDA events, with one synchronization after all of them, and a buffer
larger than the L2 cache is written before each pass, so that no pass finds its weights there.
Elsewhere the wall clock is used, and the entry says `cpu`. Results are median and quartiles over
the repeats; the speedup is the ratio of the two medians.

A detector has two latencies: of its forward pass (backbone and heads), and of the whole, with the
post-processing that selects boxes. The input is noise, in which a trained detector finds few boxes:
overlapping ones cost little to suppress here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles

import torch
from torch import Tensor, nn

from prunebench.experiments.results import LatencyEntry, Part
from prunebench.measure.device import device_name
from prunebench.measure.precision import Precision, arithmetic, evaluating
from prunebench.models.detection.detector import Detector

STABLE_WITHIN = 0.05  # relative difference of two rounds at which the warm-up ends
WARMUP_ROUND = 3  # passes of each network in a round

Pass = Callable[[Tensor], object]  # what is timed, of a batch of images
# Times passes alternately, one of each network per repeat; a list of ms per network.
Timer = Callable[[Sequence[Pass], Tensor, int], list[list[float]]]


def compare_latency(
    base: nn.Module,
    pruned: nn.Module,
    example_shape: tuple[int, int, int],
    *,
    batch_size: int,
    device: torch.device | str,
    repeats: int,
    warmup: int,
    precision: Precision = "fp32",
    part: Part = "forward",
) -> LatencyEntry:
    """Time both networks on one batch of images of `example_shape` (C, h, w).

    If `pruned` is `base` itself, it is timed once, and the speedup is 1.
    Both networks are moved to the device and to channels_last, and stay there. `repeats` is at
    least 2. `warmup` is the maximum number of passes of each before timing; there are fewer if
    times are stable earlier. The part "whole" needs detectors.
    """
    if repeats < 2:
        raise ValueError(f"repeats is {repeats}, must be at least 2 for quartiles")
    device = torch.device(device)
    both = [base] if pruned is base else [base, pruned]
    models = [m.to(device).to(memory_format=torch.channels_last) for m in both]
    images = torch.randn((batch_size, *example_shape), generator=torch.Generator().manual_seed(0))
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    timer = time_with_events if device.type == "cuda" else time_with_clock
    with (
        evaluating(base),
        evaluating(pruned),
        torch.inference_mode(),
        arithmetic(device, precision),
    ):
        passes = [pass_of(model, part) for model in models]
        warmed = warm_up(passes, images, warmup, timer)
        times = timer(passes, images, repeats)
    base_q25, base_median, base_q75 = _quartiles(times[0])
    q25, middle, q75 = _quartiles(times[-1])
    return LatencyEntry(
        part=part,
        device_kind="cuda" if device.type == "cuda" else "cpu",
        device=device_name(device),
        batch_size=batch_size,
        precision=precision,
        memory_format="channels_last",
        median_ms=middle,
        q25_ms=q25,
        q75_ms=q75,
        base_median_ms=base_median,
        base_q25_ms=base_q25,
        base_q75_ms=base_q75,
        speedup=base_median / middle,
        repeats=repeats,
        warmup=warmed,
        threads=torch.get_num_threads(),
    )


def pass_of(model: nn.Module, part: Part) -> Pass:
    """Return the computation of a part; images fill the whole input. TypeError if it has none."""
    if part == "forward":
        return model
    if not isinstance(model, Detector):
        raise TypeError(f"{type(model).__name__} is no detector: nothing follows its forward pass")

    def detect(images: Tensor) -> object:
        sizes = torch.tensor([images.shape[2:]], device=images.device).expand(len(images), 2)
        return model.detect(images, sizes)

    return detect


def warm_up(models: Sequence[Pass], images: Tensor, most: int, timer: Timer) -> int:
    """Run the networks until their times are stable; return the number of passes of each.

    Times are stable if the median of a round differs from that of the previous round by less than
    STABLE_WITHIN, for every network.
    """
    done, before = 0, [0.0] * len(models)
    while done < most:
        count = min(WARMUP_ROUND, most - done)
        now = [median(times) for times in timer(models, images, count)]
        done += count
        pairs = zip(now, before, strict=True)
        if all(abs(new - old) < STABLE_WITHIN * new for new, old in pairs):
            break
        before = now
    return done


def time_with_clock(models: Sequence[Pass], images: Tensor, repeats: int) -> list[list[float]]:
    """Time with the wall clock."""
    times: list[list[float]] = [[] for _ in models]
    for repeat in range(repeats):
        for i in _turn(repeat, len(models)):
            start = time.perf_counter()
            models[i](images)
            times[i].append(1000.0 * (time.perf_counter() - start))
    return times


def time_with_events(models: Sequence[Pass], images: Tensor, repeats: int) -> list[list[float]]:
    """Time with CUDA events; the CPU waits for the GPU once, at the end."""
    cache = torch.cuda.get_device_properties(images.device).L2_cache_size
    flush = torch.empty(2 * cache, dtype=torch.uint8, device=images.device)
    events: list[list[tuple[torch.cuda.Event, torch.cuda.Event]]] = [[] for _ in models]
    with torch.cuda.device(images.device):  # events belong to the current device's stream
        for repeat in range(repeats):
            for i in _turn(repeat, len(models)):
                start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                flush.zero_()
                start.record()
                models[i](images)
                end.record()
                events[i].append((start, end))
        torch.cuda.synchronize()
    return [[start.elapsed_time(end) for start, end in pairs] for pairs in events]


def _turn(repeat: int, count: int) -> list[int]:
    """Return the order of a repeat, reversed in every second one against the effect of drift."""
    order = list(range(count))
    return order if repeat % 2 == 0 else order[::-1]


def _quartiles(times: Sequence[float]) -> list[float]:
    return quantiles(times, n=4, method="inclusive")
