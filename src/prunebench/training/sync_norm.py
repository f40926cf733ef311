"""Batch norm over the images of all processes, for as long as a phase trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from prunebench.core.errors import TrainingError


@contextmanager
def synchronized(model: nn.Module, device: torch.device, *, asked: bool) -> Iterator[None]:
    """Normalize over the batch's images of all processes, if asked to.

    TrainingError on a CPU, where PyTorch cannot.
    """
    if not asked:
        yield
        return
    if device.type == "cpu":
        raise TrainingError(
            "sync_batch_norm: true needs GPUs, since PyTorch has no synchronized batch norm for "
            "several processes of a CPU; false normalizes over each process's own images"
        )
    with converted(model):
        yield


@contextmanager
def converted(model: nn.Module) -> Iterator[None]:
    """Have PyTorch's SyncBatchNorm in the place of each batch norm; put them back afterwards.

    Parameters and running statistics are the same tensors under the same names, so that neither
    the optimizer nor a checkpoint notices.
    """
    kinds = nn.modules.batchnorm._BatchNorm
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, kinds)
    ]
    nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for parent, name, child in places:
            child.train(getattr(parent, name).training)
            setattr(parent, name, child)
