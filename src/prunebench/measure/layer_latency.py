"""Times of single layers: where a network spends its time, and where pruning saves some.

Forward hooks note the time before and after each convolution, linear and normalization module: by
the wall clock on a CPU, by CUDA events on a GPU. The passes are those of `measure.latency`. Hooks
cost time themselves, at most that of small layers, and what lies between the modules (ReLU,
additions, pooling) belongs to none: the sum over the layers differs from the time of the whole. On
a busy machine it is smaller still, since an interruption delays many passes but few calls of a
layer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from prunebench.measure.latency import example_images, ready_to_time, timer_on, warm_up
from prunebench.measure.layer_counts import Kind, counted_kind
from prunebench.measure.precision import Precision

KINDS: tuple[Kind, ...] = ("conv", "linear", "norm")


@dataclass(frozen=True)
class LayerLatency:
    """A layer of the base network and the same layer of the pruned network.

    Times are medians in ms of all its calls in a pass; widths are output channels or features.
    """

    name: str  # path of the module
    kind: Kind
    width: int
    base_width: int
    ms: float
    base_ms: float


@dataclass(frozen=True)
class LayerLatencies:
    """The layers that are called, in network order, and the whole pass, both with hooks, in ms."""

    layers: tuple[LayerLatency, ...]
    whole_ms: float
    base_whole_ms: float

    @property
    def sum_ms(self) -> float:
        """Return the sum over the layers of the pruned network."""
        return sum(layer.ms for layer in self.layers)

    @property
    def base_sum_ms(self) -> float:
        """Return the sum over the layers of the base."""
        return sum(layer.base_ms for layer in self.layers)


def compare_layers(
    base: nn.Module,
    pruned: nn.Module,
    example_shape: tuple[int, int, int],
    *,
    batch_size: int,
    device: torch.device | str,
    repeats: int,
    warmup: int,
    precision: Precision = "fp32",
) -> LayerLatencies:
    """Time the layers of both networks, which take turns, on images of `example_shape` (C, h, w).

    `pruned` may be `base` itself. A layer that only one of them calls is left out. The networks
    stay on the device, in channels_last.
    """
    device = torch.device(device)
    models = [base] if pruned is base else [base, pruned]
    images, timer = example_images(example_shape, batch_size, device), timer_on(device)
    with ready_to_time(models, device, precision):
        warm_up(models, images, warmup, timer)
        with noting_layers(models, device) as notes:
            whole = timer(models, images, repeats)
    times = [{name: _per_pass(own, repeats, device) for name, own in one.items()} for one in notes]
    of_base, of_pruned = dict(_layers(base)), dict(_layers(pruned))
    layers = tuple(
        LayerLatency(
            name=name,
            kind=of_base[name][0],
            width=_width(of_pruned[name][1]),
            base_width=_width(of_base[name][1]),
            ms=times[-1][name],
            base_ms=times[0][name],
        )
        for name in times[0]
        if name in times[-1]
    )
    return LayerLatencies(layers, median(whole[-1]), median(whole[0]))


Note = tuple[Any, Any]  # start and end of a call: seconds, or events


@contextmanager
def noting_layers(
    models: Sequence[nn.Module], device: torch.device
) -> Iterator[list[dict[str, list[Note]]]]:
    """Note the calls of all layers within the block; yields a dictionary by layer per network."""
    now = _event if device.type == "cuda" else time.perf_counter
    notes: list[dict[str, list[Note]]] = [defaultdict(list) for _ in models]
    hooks = []
    for model, own in zip(models, notes, strict=True):
        for name, (_, module) in _layers(model):
            before, after = _stopwatch(own, name, now)
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after, prepend=True))
    try:
        yield notes
    finally:
        for hook in hooks:
            hook.remove()


def _layers(model: nn.Module) -> Iterator[tuple[str, tuple[Kind, nn.Module]]]:
    for name, module in model.named_modules():
        kind = counted_kind(module)
        if kind in KINDS:
            yield name, (kind, module)


def _stopwatch(
    notes: dict[str, list[Note]], name: str, now: Callable[[], Any]
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the hooks that note start and end of each call of a layer."""
    start: Any = None

    def before(module: nn.Module, args: Any) -> None:
        nonlocal start
        start = now()

    def after(module: nn.Module, args: Any, output: Any) -> None:
        notes[name].append((start, now()))

    return before, after


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _per_pass(notes: list[Note], passes: int, device: torch.device) -> float:
    """Return the median over passes of the ms of all calls in a pass."""
    if device.type == "cuda":
        times: list[float] = [start.elapsed_time(end) for start, end in notes]
    else:
        times = [1000.0 * (end - start) for start, end in notes]
    calls = len(times) // passes
    return median(sum(times[i : i + calls]) for i in range(0, len(times), calls))


def _width(module: nn.Module) -> int:
    """Return the output channels or features of a layer."""
    for name in ("out_channels", "out_features", "num_features", "num_channels"):
        if isinstance(width := getattr(module, name, None), int):
            return width
    return int(module.normalized_shape[-1])  # type: ignore[index]
