"""The memory of training on a CPU."""

from __future__ import annotations

import ctypes

# Of mallopt, in glibc's malloc.h: freed bytes at the end of the heap, and bytes of a block, from
# which on memory goes back to the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30


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
