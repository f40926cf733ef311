"""The speed of a network's forward and backward pass on this machine, in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunebench.channels.costs import costs_of
from prunebench.channels.trace.tracer import trace

MOST_MACS = 2e10  # of a timed pass: about half a second on one core
REPEATS = 3


class Passes(NamedTuple):
    """The size of a network, and the seconds of a forward and backward pass.

    They take `per_step` seconds, and `per_mac` for each multiply-accumulate of the forward pass.
    """

    macs: int
    params: int
    per_step: float
    per_mac: float


def time_passes(
    model: nn.Module, image: tuple[int, int, int], batch_size: int, device: torch.device
) -> Passes:
    """Time forward and backward passes of two batch sizes, the larger one at most `batch_size`.

    A detector runs without its selection of boxes and its loss.
    """
    model = model.to(device).eval()
    costs = costs_of(trace(model, torch.zeros(1, *image, device=device)))
    macs, params = costs.macs(), costs.params()
    most = int(max(1, min(batch_size, MOST_MACS / max(macs, 1))))
    large = _seconds(model, torch.rand(most, *image, device=device))
    few = max(1, most // 4)
    small = _seconds(model, torch.rand(few, *image, device=device)) if few < most else 0.0
    per_image = (large - small) / (most - few) if few < most else large / most
    per_image = max(per_image, 0.5 * large / most)  # noise must not make images free
    return Passes(macs, params, max(0.0, large - most * per_image), per_image / max(macs, 1))


def _seconds(model: nn.Module, inputs: Tensor) -> float:
    """Return the median time of a forward and backward pass, after one to warm up."""

    def passes() -> None:
        outputs = [t for t in tree_leaves(model(inputs)) if isinstance(t, Tensor)]
        total = sum(t.float().sum() for t in outputs if t.requires_grad)
        if isinstance(total, Tensor):
            total.backward()  # type: ignore[no-untyped-call]

    passes()
    return median(_timed(passes, inputs.device) for _ in range(REPEATS))


def _timed(function: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
