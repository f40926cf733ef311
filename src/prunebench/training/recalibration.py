"""Estimate the running statistics of batch norm again, without training.

A removal changes the inputs of the layers behind it, and the running statistics still describe the
network before. A few hundred images are enough to estimate them again; no weight changes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from prunebench.channels.examples import Example, arguments
from prunebench.measure.precision import arithmetic, evaluating

LARGEST_BATCH = 128


def batch_size(images: int) -> int:
    """Return the size of batches of at most 128 images that divide `images` as evenly as possible.

    >>> batch_size(2000), batch_size(129), batch_size(7)
    (125, 65, 7)
    """
    batches = -(-images // LARGEST_BATCH)
    return -(-images // batches)


def recalibrate(model: nn.Module, batches: Iterable[Example]) -> None:
    """Replace the running statistics of batch norm by their means over `batches`.

    A batch is an input (n, C, h, w), or a tuple of arguments.

    Each layer normalizes a batch by the batch's own mean and variance, as in training; its running
    statistics become the plain means of these (`momentum=None` in PyTorch), with the variance
    unbiased. All other modules are in evaluation mode. Layers without statistics are unchanged.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    momenta = [layer.momentum for layer in layers]
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad(), arithmetic(device, "fp32"):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        try:
            for inputs in batches:
                model(*arguments(inputs))
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
