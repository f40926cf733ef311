"""Latency of a pruned network and of its base, timed in one process and in turns.

One input, fixed, on the device; evaluation and inference mode; warm-up first. On a GPU each
forward lies between two CUDA events, with one synchronize at the end of all of them, and a buffer
larger than the L2 cache is written before each, so that no run finds its weights there. Elsewhere
the clock is the wall clock, and the entry says `cpu`. Median and quartiles over the repeats;
the speedup is the ratio of the two medians.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from prunebench.measure.precision import Precision, arithmetic, evaluating

STABLE_WITHIN = 0.05  # warm-up ends when two rounds in a row differ by less
WARMUP_ROUND = 3  # forwards of each network in a round


class LatencyEntry(TypedDict):
    """One comparison, as it stands in latency.json; times are of one forward of the batch."""

    device_kind: Literal["cpu", "cuda"]
    device: str
    batch_size: int
    precision: Precision
    memory_format: Literal["channels_last"]
    median_ms: float
    q25_ms: float
    q75_ms: float
    base_median_ms: float
    base_q25_ms: float
    base_q75_ms: float
    speedup: float
    repeats: int
    warmup: int
    threads: int


# Times forwards in turns: for each repeat one of every network; lists of ms in their order.
Timer = Callable[[Sequence[nn.Module], Tensor, int], list[list[float]]]


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
) -> LatencyEntry:
    """Time both networks on one batch of images of `example_shape` (C, h, w).

    Both are moved to the device and to channels_last, where they stay. `repeats` is at least 2;
    `warmup` is the most forwards of each before timing, fewer where times are stable earlier.
    """
    if repeats < 2:
        raise ValueError(f"{repeats} repeats have no quartiles; at least 2")
    device = torch.device(device)
    models = [m.to(device).to(memory_format=torch.channels_last) for m in (base, pruned)]
    images = torch.randn((batch_size, *example_shape), generator=torch.Generator().manual_seed(0))
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    timer = time_with_events if device.type == "cuda" else time_with_clock
    with (
        evaluating(base),
        evaluating(pruned),
        torch.inference_mode(),
        arithmetic(device, precision),
    ):
        warmed = warm_up(models, images, warmup, timer)
        base_ms, pruned_ms = timer(models, images, repeats)
    base_q25, base_median, base_q75 = _quartiles(base_ms)
    q25, middle, q75 = _quartiles(pruned_ms)
    return LatencyEntry(
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


def warm_up(models: Sequence[nn.Module], images: Tensor, most: int, timer: Timer) -> int:
    """Run the networks until their times are stable; return the forwards of each.

    Stable: the median of a round differs from the round before by less than STABLE_WITHIN, for
    every network.
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


def time_with_clock(models: Sequence[nn.Module], images: Tensor, repeats: int) -> list[list[float]]:
    """Time with the wall clock."""
    times: list[list[float]] = [[] for _ in models]
    for repeat in range(repeats):
        for i in _turn(repeat, len(models)):
            start = time.perf_counter()
            models[i](images)
            times[i].append(1000.0 * (time.perf_counter() - start))
    return times


def time_with_events(
    models: Sequence[nn.Module], images: Tensor, repeats: int
) -> list[list[float]]:
    """Time with CUDA events; the host waits once, at the end."""
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
    """Return the order of a repeat: forth, then back, so that drift falls on both alike."""
    order = list(range(count))
    return order if repeat % 2 == 0 else order[::-1]


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _quartiles(times: Sequence[float]) -> list[float]:
    return quantiles(times, n=4, method="inclusive")
