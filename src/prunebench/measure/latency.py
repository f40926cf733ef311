"""Latency of a pruned network and its base, timed alternately in one process.

One fixed input lies on the device, in evaluation and inference mode. The passes take turns: one of
the base, one of the pruned network, one of a second copy of the base, and back in the next turn.

1. Warm-up in rounds of ten turns, until the median of each network differs by less than 3 % from
   that of the round before.
2. Two repetitions of equally many turns. Median and quartiles are over the passes of both; the
   speedup is the ratio of the two medians.
3. The times of the base and of its copy, and those of the two repetitions, decide whether the
   latency is stable (`experiments.stability`).

On a GPU each forward pass lies between two CUDA events, with one synchronization after all of them,
and a buffer larger than the L2 cache is written before each pass, so that no pass finds its weights
there. The mode "graph" times the replay of a captured CUDA graph, without the time that PyTorch
needs to launch kernels. Driver and clocks are read right after the last pass.

Elsewhere the wall clock is used, the entry says `cpu`, and all threads of the process are pinned to
as many cores as PyTorch has threads. The last-level cache of a CPU is not flushed: the passes of
the other networks lie between two passes of one network, and small networks may stay in it.

A detector has two latencies: of its forward pass (backbone and heads), and of the whole, with the
post-processing that selects boxes. The input is noise, in which a trained detector finds few boxes:
overlapping ones cost little to suppress here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median, quantiles

import torch
from torch import Tensor, nn

from prunebench.core.errors import ModelError
from prunebench.experiments.results import LatencyEntry, LatencyRepetition, Mode, Part, Times
from prunebench.experiments.stability import MOST_DIFFERENCE, instability
from prunebench.measure.cuda_graphs import WARM_UP, CudaGraphs
from prunebench.measure.device import device_name, gpu_state
from prunebench.measure.pinned_threads import pinned_threads
from prunebench.measure.precision import Precision, arithmetic, evaluating
from prunebench.models.detection.detector import Detector

WARMUP_ROUND = 10  # passes of each network in a round
REPETITIONS = 2
# By kind of device: passes of each network in a repetition, and at most before timing
REPEATS, WARMUP = {"cpu": 15, "cuda": 100}, {"cpu": 30, "cuda": 60}
# Slow networks have fewer passes: as many as fit into this time, of the warm-up and of a repetition
MOST_SECONDS, FEWEST_PASSES = 20.0, 5

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
    repeats: int | None = None,
    warmup: int | None = None,
    precision: Precision = "fp32",
    part: Part = "forward",
    mode: Mode = "eager",
) -> LatencyEntry:
    """Time both networks, and the base against itself, on images of `example_shape` (C, h, w).

    If `pruned` is `base` itself, its times are the base's, and the speedup is 1.
    Both networks are moved to the device and to channels_last, and stay there. `repeats`, at least
    2, is the number of passes of each network in a repetition. `warmup` is the maximum number of
    passes of each before timing; there are fewer if times are stable earlier. The defaults are
    `REPEATS` and `WARMUP`. If so many passes take longer than `MOST_SECONDS`, there are fewer, but
    `FEWEST_PASSES` or more; the entry has the numbers. The part "whole" needs detectors, the mode
    "graph" a GPU and a network whose forward pass can be captured.
    """
    device = torch.device(device)
    kind = "cuda" if device.type == "cuda" else "cpu"
    repeats = REPEATS[kind] if repeats is None else repeats
    warmup = WARMUP[kind] if warmup is None else warmup
    if repeats < 2:
        raise ValueError(f"repeats is {repeats}, must be at least 2 for quartiles")
    if mode == "graph" and device.type != "cuda":
        raise ValueError(f"a CUDA graph needs a GPU, not the device {device.type!r}")
    models = [base, *([] if pruned is base else [pruned]), copy.deepcopy(base)]
    images = example_images(example_shape, batch_size, device)
    with ready_to_time(models, device, precision) as cores:
        passes = [pass_of(model, part) for model in models]
        if mode == "graph":
            passes = [captured(one, images) for one in passes]
        timer = timer_on(device)
        most = most_passes(timer(passes, images, 2))
        warmed = warm_up(passes, images, min(warmup, most), timer)
        repeats = min(repeats, most)
        found = [timer(passes, images, repeats) for _ in range(REPETITIONS)]
        state = gpu_state(device)
    # Before the base's copy comes the pruned network, or the base itself.
    places = {"network": -2, "base": 0, "base_again": -1}
    repetitions = tuple(
        LatencyRepetition(**{name: times_of(one[place]) for name, place in places.items()})
        for one in found
    )
    network, of_base = (times_of([x for one in found for x in one[i]]) for i in (-2, 0))
    return LatencyEntry(
        part=part,
        mode=mode,
        device_kind=kind,
        device=device_name(device),
        batch_size=batch_size,
        precision=precision,
        memory_format="channels_last",
        median_ms=network.median_ms,
        q25_ms=network.q25_ms,
        q75_ms=network.q75_ms,
        base_median_ms=of_base.median_ms,
        base_q25_ms=of_base.q25_ms,
        base_q75_ms=of_base.q75_ms,
        speedup=of_base.median_ms / network.median_ms,
        repeats=repeats,
        warmup=warmed,
        threads=torch.get_num_threads(),
        repetitions=repetitions,
        unstable=instability(
            [one.network.median_ms for one in repetitions],
            [one.base.median_ms for one in repetitions],
            [one.base_again.median_ms for one in repetitions],
        ),
        cores=cores,
        **state._asdict(),
    )


def example_images(shape: tuple[int, int, int], batch_size: int, device: torch.device) -> Tensor:
    """Return a batch of noise of the shape (batch_size, C, h, w), in channels_last."""
    images = torch.randn((batch_size, *shape), generator=torch.Generator().manual_seed(0))
    return images.to(device).contiguous(memory_format=torch.channels_last)


@contextmanager
def ready_to_time(
    models: Sequence[nn.Module], device: torch.device, precision: Precision
) -> Iterator[tuple[int, ...] | None]:
    """Put networks onto the device and into evaluation and inference mode within the block.

    Yields the cores to which all threads of the process are pinned; None: they are not, as on a
    GPU. The networks stay on the device and in channels_last.
    """
    with ExitStack() as stack:
        for model in models:
            model.to(device).to(memory_format=torch.channels_last)
            stack.enter_context(evaluating(model))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(arithmetic(device, precision))
        on_gpu = device.type == "cuda"
        threads = torch.get_num_threads()
        yield None if on_gpu else stack.enter_context(pinned_threads(threads))


def timer_on(device: torch.device) -> Timer:
    """Return the timer of a device."""
    return time_with_events if device.type == "cuda" else time_with_clock


def most_passes(first: Sequence[Sequence[float]]) -> int:
    """Return how many passes of each network fit into `MOST_SECONDS`; at least `FEWEST_PASSES`.

    `first` has the ms of the first passes of each network. The faster one counts, because libraries
    are loaded in the very first.

    >>> most_passes([[800.0, 600.0], [400.0, 400.0]]), most_passes([[9000.0], [9000.0]])
    (20, 5)
    """
    seconds = sum(min(times) for times in first) / 1000
    return max(FEWEST_PASSES, int(MOST_SECONDS / seconds))


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


def captured(run: Pass, images: Tensor) -> Pass:
    """Capture a pass over these images as a CUDA graph; the returned pass replays it.

    ModelError if the pass does what a graph cannot repeat, such as reading a result on the CPU.
    """
    recorder = CudaGraphs(images.device)

    def once() -> None:
        run(images)

    for _ in range(WARM_UP):
        recorder.warm_up(once)
    try:
        replay = recorder.record(once)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"the forward pass cannot be captured as a CUDA graph ({reason}); with capture: false "
            "(--no-capture) it is timed without"
        ) from error
    return lambda _: replay()


def warm_up(models: Sequence[Pass], images: Tensor, most: int, timer: Timer) -> int:
    """Run the networks until their times are stable; return the number of passes of each.

    Times are stable if the median of a round of `WARMUP_ROUND` passes differs from that of the
    round before by less than `MOST_DIFFERENCE`, for every network. There are at most `most` passes
    of each.
    """
    done, before = 0, [0.0] * len(models)
    while done < most:
        count = min(WARMUP_ROUND, most - done)
        now = [median(times) for times in timer(models, images, count)]
        done += count
        pairs = zip(now, before, strict=True)
        if all(abs(new - old) < MOST_DIFFERENCE * new for new, old in pairs):
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


def times_of(passes: Sequence[float]) -> Times:
    """Return the median and the quartiles of two or more times in ms.

    >>> times_of([4.0, 1.0, 2.0, 3.0, 5.0])
    Times(median_ms=3.0, q25_ms=2.0, q75_ms=4.0)
    """
    q25, middle, q75 = quantiles(passes, n=4, method="inclusive")
    return Times(median_ms=middle, q25_ms=q25, q75_ms=q75)
