"""GPUs that jobs claim, so that two jobs on a machine do not use the same one.

Snakemake limits the number of jobs on GPUs but assigns no GPU to a job. Each job therefore claims
free GPUs among those that it sees, by a lock on a file for each. A job of SLURM sees the GPUs that
it was given and numbers them from 0, so the file is named by the UUID of the GPU.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

import torch

from prunebench.core.errors import ConfigError
from prunebench.measure.device import usable_gpus

LOCK_FOLDER = Path(tempfile.gettempdir()) / "prunebench-gpus"


@contextmanager
def claimed_device(
    name: str, say: Callable[[str], None] = print, *, wait_s: float = 1.0
) -> Iterator[torch.device]:
    """Yield the device for "auto", "cpu" or "cuda".

    A GPU is the current device of PyTorch, and claimed until the block ends.
    Raises ConfigError for "cuda" without a GPU.
    """
    if not usable_gpus(name):
        yield torch.device("cpu")
        return
    with claimed_gpus(visible_gpus(), 1, say, wait_s=wait_s) as (gpu,):
        yield current_device(gpu)


@contextmanager
def claimed_gpus(
    gpus: Sequence[str], count: int, say: Callable[[str], None] = print, *, wait_s: float = 1.0
) -> Iterator[list[str]]:
    """Yield `count` of the GPUs, claimed until the block ends; wait until so many are free.

    They are claimed all at once, so that two jobs with some of them each do not wait for each
    other.
    """
    is_waiting = False
    while True:
        with ExitStack() as locks:
            free = (gpu for gpu in gpus if _is_locked(gpu, locks))
            found = list(islice(free, count))
            if len(found) == count:
                yield found
                return
        if not is_waiting:
            say(f"other jobs use the GPUs of this machine; waiting for {count} of {len(gpus)}")
        is_waiting = True
        time.sleep(wait_s)


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process sees, in the order of their numbers.

    The name is the UUID: of the GPU or, for a part of one (MIG), the one in CUDA_VISIBLE_DEVICES.
    """
    entries = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if entries[0].startswith("MIG-"):
        return entries[: torch.cuda.device_count()]
    return [
        f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        for index in range(torch.cuda.device_count())
    ]


def current_device(gpu: str) -> torch.device:
    """Make a GPU the current device of PyTorch, and return it."""
    device = torch.device("cuda", visible_gpus().index(gpu))
    torch.cuda.set_device(device)
    return device


def _is_locked(gpu: str, locks: ExitStack) -> bool:
    """Lock the file of a GPU until `locks` ends; False if another process has locked it."""
    path = LOCK_FOLDER / f"{gpu}.lock"
    try:
        _create(path)
        # filelock refuses the file of another user in a folder that all can write to.
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; jobs claim GPUs by files in this folder: set TMPDIR to a "
            "folder that can be written to"
        ) from None
    locks.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _create(path: Path) -> None:
    """Create a lock file and its folder, for all users of this machine."""
    mask = os.umask(0)
    try:
        path.parent.mkdir(mode=0o1777, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    finally:
        os.umask(mask)
