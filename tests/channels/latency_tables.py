"""Latency tables made by hand, for tests: nothing in them was measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from prunebench.channels.costs import costs_of
from prunebench.channels.trace.tracer import trace
from prunebench.experiments.latency_table import LatencyTable, LayerTimes


def made_table(
    layers: dict[str, tuple[int, ...]], times: tuple[LayerTimes, ...], **more: Any
) -> LatencyTable:
    given: dict[str, Any] = {
        "architecture": "resnet20_x0_25",
        "num_classes": 4,
        "image": (3, 8, 8),
        "batch_size": 2,
        "precision": "fp32",
        "memory_format": "channels_last",
        "device_kind": "cpu",
        "device": "a processor",
        "threads": 1,
        "torch": "2.0",
        "date": "2020-01-01",
        "repeats": 1,
        "remainder_ms": 0.0,
        "factor": 1.0,
        "sums": {},
        "networks": (),
    }
    return LatencyTable(layers=layers, times=times, **given | more)


def product_table(network: nn.Module, image: tuple[int, int, int], **more: Any) -> LatencyTable:
    """Return a table in which a layer takes outputs times inputs milliseconds."""
    sizes = costs_of(trace(network, torch.zeros(1, *image))).weight_sizes()
    times = tuple(product_times(name, *own[:2]) for name, own in sizes.items())
    return made_table({name: (i,) for i, name in enumerate(sizes)}, times, image=image, **more)


def product_times(name: str, outputs: int, inputs: int) -> LayerTimes:
    rows, columns = tuple(sorted({1, outputs})), tuple(sorted({1, inputs}))
    ms = tuple(tuple(float(a * b) for b in columns) for a in rows)
    return LayerTimes(layer=name, outputs=rows, inputs=columns, ms=ms)
