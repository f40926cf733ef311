"""The memory of training: its layout, and on a CPU what becomes of freed memory."""

from __future__ import annotations

import ctypes

import torch
from torch import nn

# Of mallopt, in glibc's malloc.h: freed bytes at the end of the heap, and bytes of a block, from
# which on memory goes back to the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30

NARROWEST = 8  # channels of a block of oneDNN's kernels for AVX2


def memory_format(model: nn.Module) -> torch.memory_format:
    """Return the layout of weights and images in which a network trains fastest: channels last.

    It is contiguous for a network with a strided 1x1 convolution that reads fewer than 8 channels.
    For these, oneDNN's AVX2 kernel writes beyond its workspace in channels last: gradients of the
    weights are wrong, or the process dies (oneDNN issue 6035; seen with PyTorch 2.14.1). The layout
    depends on the network alone, so that results depend on the processor as little as possible.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.in_channels // module.groups < NARROWEST
            and module.kernel_size == (1, 1)
            and module.stride != (1, 1)
        ):
            return torch.contiguous_format
    return torch.channels_last


def keep_freed_memory() -> None:
    """Let the C library keep the memory that this process frees, for its next tensors.

    By default glibc returns blocks of 32 MiB and more, and all that is free at the end of the heap,
    to the system, which has to clear their pages when they are needed again: for most activations,
    in each step. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, LARGEST)
        mallopt(M_MMAP_THRESHOLD, LARGEST)
