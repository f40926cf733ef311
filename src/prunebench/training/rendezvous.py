"""Where the processes of a launch meet and exchange texts, before they train together."""

from __future__ import annotations

import itertools
import os
import socket
import time
from datetime import timedelta
from functools import cache

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from prunebench.core.errors import TrainingError
from prunebench.training.launch import Launch, launch

ARRIVAL = timedelta(minutes=10)  # within which all processes of a launch start
# One process may wait for another job to end: for its GPUs, or for the folder of the run.
WAITING = timedelta(days=30)


class Group:
    """The processes of a launch, before they can exchange tensors: they exchange texts."""

    def __init__(self, own: Launch, store: Store) -> None:
        self.own, self.store = own, store

    def tell(self, key: str, text: str = "") -> None:
        """Give a text to those that wait for it."""
        self.store.set(key, text)

    def told(self, key: str) -> str:
        """Wait for a text and return it; TrainingError if process 0 ends before."""
        try:
            self.store.wait([key], WAITING)
            text: bytes = self.store.get(key)
        except dist.DistError as error:
            raise TrainingError(
                f"process {self.own.rank} of {self.own.world} waited for others, which have ended "
                f"({reason(error)})"
            ) from None
        return text.decode()

    def gathered(self, key: str, text: str) -> list[str]:
        """Return the texts of all processes in order."""
        self.tell(f"{key}/{self.own.rank}", text)
        return [self.told(f"{key}/{rank}") for rank in range(self.own.world)]

    def after_first(self) -> None:
        """Wait for process 0 to call this, too."""
        if self.own.rank == 0:
            self.tell("first")
        else:
            self.told("first")


_GROUPS = itertools.count()  # each run of this process has its own texts


def joined() -> Group | None:
    """Wait for all processes of this launch to start; None if this process is by itself.

    TrainingError if they do not within ARRIVAL.
    """
    own = launch()
    return None if own is None else Group(own, PrefixStore(str(next(_GROUPS)), _store(own)))


@cache
def _store(own: Launch) -> Store:
    os.environ.update(MASTER_ADDR=own.address, MASTER_PORT=str(own.port))
    try:
        if own.rank > 0:
            _wait_for_first(own)
        store: Store = next(rendezvous("env://", own.rank, own.world, timeout=ARRIVAL))[0]
    except (OSError, dist.DistError) as error:
        raise TrainingError(
            f"process {own.rank} of {own.world} did not meet the others at {own.address}:{own.port}"
            f" ({reason(error)}); start all of them with one torchrun or srun, or set MASTER_ADDR "
            "and MASTER_PORT to a host and a port that they can use"
        ) from None
    return store


def _wait_for_first(own: Launch) -> None:
    """Wait until process 0 listens; PyTorch would print a page if it does not."""
    end = time.monotonic() + ARRIVAL.total_seconds()
    while True:
        try:
            socket.create_connection((own.address, own.port), timeout=10).close()
            return
        except (ConnectionError, TimeoutError):
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def reason(error: Exception) -> str:
    """Return the first line of an error of PyTorch, without its general advice."""
    return str(error).partition("\n")[0].partition(". This is typically")[0].rstrip(".")
