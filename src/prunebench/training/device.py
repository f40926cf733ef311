"""Which device a job trains on; of several GPUs, one that no other job has taken."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from prunebench.core.errors import ConfigError
from prunebench.measure.device import usable_gpus
from prunebench.training.parallel import started_by_torchrun

LOCK_FOLDER = Path(tempfile.gettempdir()) / "prunebench-devices"


@contextmanager
def claimed_device(name: str, *, wait_s: float = 1.0) -> Iterator[torch.device]:
    """Yield the device for "auto", "cpu" or "cuda"; a GPU is claimed until the block ends.

    Snakemake limits how many jobs hold a GPU, but does not say which: jobs find out by a lock per
    device. Of several processes of torchrun each claims the GPU of its place on the machine.
    Raises ConfigError for "cuda" where there is none.
    """
    available = usable_gpus(name)
    if not available:
        yield torch.device("cpu")
        return
    LOCK_FOLDER.mkdir(exist_ok=True)
    own = int(os.environ["LOCAL_RANK"]) if started_by_torchrun() else None
    if own is not None and own >= available:
        raise ConfigError(
            f"torchrun has started process {own} here, and there are {available} GPUs"
        )
    index, lock = _claim(range(available) if own is None else [own], wait_s)
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def _claim(indices: Sequence[int], wait_s: float) -> tuple[int, FileLock]:
    """Return the first free device and its lock; wait until one is free."""
    while True:
        for index in indices:
            lock = FileLock(LOCK_FOLDER / f"cuda{index}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return index, lock
        time.sleep(wait_s)
