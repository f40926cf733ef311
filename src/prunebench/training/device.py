"""Which device a job trains on; of several GPUs, one that no other job has taken."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from prunebench.measure.device import usable_gpus

LOCK_FOLDER = Path(tempfile.gettempdir()) / "prunebench-devices"


@contextmanager
def claimed_device(name: str, *, wait_s: float = 1.0) -> Iterator[torch.device]:
    """Yield the device for "auto", "cpu" or "cuda"; a GPU is claimed until the block ends.

    Snakemake limits how many jobs hold a GPU, but does not say which: jobs find out by a lock per
    device. Raises ConfigError for "cuda" where there is none.
    """
    available = usable_gpus(name)
    if not available:
        yield torch.device("cpu")
        return
    LOCK_FOLDER.mkdir(exist_ok=True)
    index, lock = _claim(available, wait_s)
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def _claim(count: int, wait_s: float) -> tuple[int, FileLock]:
    """Return the first free device and its lock; wait until one is free."""
    while True:
        for index in range(count):
            lock = FileLock(LOCK_FOLDER / f"cuda{index}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return index, lock
        time.sleep(wait_s)
