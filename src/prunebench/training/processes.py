"""Which device a job trains on; of several GPUs, one that no other job has taken.

Several processes train one run: what they agree on, and who writes.

`torchrun` starts the processes and names them in the environment. All hold the same network; each
takes its portion of every batch, DistributedDataParallel averages the gradients, and process 0
alone writes files. What the host decides by the clock or by signals, process 0 decides for all or
all decide together, at the same step.

Batch norm over the images of all processes, for as long as a phase trains.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import Tensor, nn

from prunebench.core.errors import ConfigError, TrainingError
from prunebench.measure.device import usable_gpus
from prunebench.training.step import Network

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


T = TypeVar("T")
Forward = Callable[[Tensor], Tensor]
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# A selection or an evaluation that one process does while the others wait may take its time.
TIMEOUT = timedelta(hours=2)


class Alone:
    """One process: all of this is nothing."""

    rank, world = 0, 1
    agree_every = 1  # steps between two looks at the signals and the clock

    def network(self, model: nn.Module, forward: Forward, example: Tensor) -> Network:
        """Return how a step calls `model`, whose forward pass is `forward`."""
        return Network(forward)

    def from_first(self, value: Callable[[], T]) -> T:
        """Return what process 0 finds; the others do not call it."""
        return value()

    def any_of(self, numbers: list[int]) -> list[int]:
        """Return the largest of each number over all processes."""
        return numbers

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return tensor

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked in their order."""
        return tensor.unsqueeze(0)

    def spread_buffers(self, model: nn.Module) -> None:
        """Give all processes the running statistics of process 0."""

    def wait(self) -> None:
        """Wait until all processes are here."""


ALONE = Alone()


class Processes(Alone):
    """One of several processes, in the default group of torch.distributed."""

    agree_every = 8  # each look is a message between the processes

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world, self.device = dist.get_rank(), dist.get_world_size(), device

    def network(self, model: nn.Module, forward: Forward, example: Tensor) -> Network:
        """Return the network wrapped by DistributedDataParallel.

        It orders its gradients anew after its first backward pass, and the order of a sum decides
        its last bits. That pass is made here and dropped, so that a run that was taken up again
        adds in the same order as one that never stopped.
        """
        from torch.nn.parallel import DistributedDataParallel  # loads PyTorch's compiler

        ids = [self.device.index] if self.device.type == "cuda" else None
        wrapped = DistributedDataParallel(_Calling(model, forward), device_ids=ids)
        black = example.contiguous(memory_format=torch.channels_last)
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with torch.random.fork_rng(devices=[] if ids is None else ids):
            for _ in range(2):  # the second one sets the new order up
                wrapped(black).sum().backward()
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        model.zero_grad(set_to_none=True)
        return Network(wrapped, wrapped.no_sync)

    def from_first(self, value: Callable[[], T]) -> T:
        """Return what process 0 finds; the others do not call it."""
        box: list[Any] = [value() if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0, device=self.device)
        found: T = box[0]
        return found

    def any_of(self, numbers: list[int]) -> list[int]:
        """Return the largest of each number over all processes."""
        tensor = torch.tensor(numbers, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor.tolist()

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes."""
        result = tensor.clone()
        dist.all_reduce(result)
        return result

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked in their order."""
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(parts, tensor)
        return torch.stack(parts)

    def spread_buffers(self, model: nn.Module) -> None:
        """Give all processes the running statistics of process 0."""
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        dist.barrier()


class _Calling(nn.Module):
    """A module with the parameters of `model` and the forward pass of `forward`."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model, self.call = model, forward

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def started_by_torchrun() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0 or not started_by_torchrun()


@contextmanager
def processes(device: torch.device) -> Iterator[Alone]:
    """Yield the group of processes that torchrun has started; alone without it."""
    if not started_by_torchrun():
        yield Alone()
        return
    if missing := [name for name in ENVIRONMENT if name not in os.environ]:
        raise ConfigError(f"WORLD_SIZE is set and {', '.join(missing)} not; start it by torchrun")
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Processes(device)
    finally:
        dist.destroy_process_group()


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
