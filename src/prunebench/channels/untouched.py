"""Run a network without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn


def own_randomness(model: nn.Module) -> AbstractContextManager[None]:
    """Restore the random states of the model's devices afterwards."""
    devices = {parameter.device for parameter in model.parameters()}
    return torch.random.fork_rng(devices=[d for d in devices if d.type == "cuda"])


@contextmanager
def untouched(model: nn.Module, training: bool = False) -> Iterator[None]:
    """Run in eval or train mode; restore modes, buffers and, in train mode, random states."""
    # Walking over modules and setting their attributes is slow: do it once, and where it changes.
    modules = list(model.modules())
    modes = [(module, module.training) for module in modules]
    held = [buffer for module in modules for buffer in module._buffers.values()]
    buffers = [(b, b._version, b.detach().clone()) for b in held if b is not None]
    if any(mode != training for _, mode in modes):
        model.train(training)
    try:
        with own_randomness(model) if training else nullcontext():
            yield
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.training = mode
        with torch.no_grad():
            for buffer, version, before in buffers:
                if buffer._version != version:
                    buffer.copy_(before)
