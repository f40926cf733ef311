"""Several processes that train one run, and the GPU that each of them takes.

`torchrun` starts the processes and names them in the environment. All hold the same network, each
trains on its portion of every batch, DistributedDataParallel averages the gradients, and only
process 0 writes files. Decisions that depend on the clock or on signals are made by process 0 for
all, or by all together at the same step.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import Tensor, nn

from prunebench.core.errors import ConfigError, TrainingError
from prunebench.measure.device import usable_gpus

T = TypeVar("T")
Forward = Callable[..., Any]  # of inputs, and of targets if the network computes its loss
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# One process may take long to select or evaluate while the others wait.
TIMEOUT = timedelta(hours=2)


def started_by_torchrun() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Whether this process writes the files."""
    return int(os.environ.get("RANK", "0")) == 0 or not started_by_torchrun()


@dataclass(frozen=True)
class Network:
    """The network as a step calls it: directly, compiled, or in one of several processes.

    Within `without_reduction`, a backward pass does not average gradients over the processes: for
    all parts of a batch but the last.
    """

    forward: Forward
    without_reduction: Callable[[], AbstractContextManager[None]] = nullcontext


class Alone:
    """One process by itself: there is nothing to exchange."""

    rank, world = 0, 1
    agree_every = 1  # steps between two checks of the signals and the clock

    def network(
        self, model: nn.Module, forward: Forward, rehearse: Callable[[Forward], Tensor]
    ) -> Network:
        """Return the network as a step calls it: `model`, whose forward pass is `forward`.

        `rehearse` returns a scalar of a pass like that of a step.
        """
        return Network(forward)

    def from_first(self, value: Callable[[], T]) -> T:
        """Return the value that process 0 computes; the others do not call `value`."""
        return value()

    def any_of(self, numbers: list[int]) -> list[int]:
        """Return the maximum of each number over all processes."""
        return numbers

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return tensor

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked in order."""
        return tensor.unsqueeze(0)

    def spread_buffers(self, model: nn.Module) -> None:
        """Copy the running statistics of process 0 to all processes."""

    def wait(self) -> None:
        """Wait until all processes have arrived."""


ALONE = Alone()


class Processes(Alone):
    """One of several processes, in the default group of torch.distributed."""

    agree_every = 8  # each check is a message between the processes

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world, self.device = dist.get_rank(), dist.get_world_size(), device

    def network(
        self, model: nn.Module, forward: Forward, rehearse: Callable[[Forward], Tensor]
    ) -> Network:
        """Return the network wrapped by DistributedDataParallel.

        It reorders its gradients after its first backward pass, and the order of a sum decides its
        last bits. That pass is done here and its result dropped, so that a resumed run adds in the
        same order as an uninterrupted one.
        """
        from torch.nn.parallel import DistributedDataParallel  # loads PyTorch's compiler

        ids = [self.device.index] if self.device.type == "cuda" else None
        wrapped = DistributedDataParallel(_Calling(model, forward), device_ids=ids)
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with torch.random.fork_rng(devices=[] if ids is None else ids):
            for _ in range(2):  # the second one builds the new order
                rehearse(wrapped).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        model.zero_grad(set_to_none=True)
        return Network(wrapped, wrapped.no_sync)

    def from_first(self, value: Callable[[], T]) -> T:
        """Return the value that process 0 computes; the others do not call `value`."""
        box: list[Any] = [value() if self.rank == 0 else None]
        dist.broadcast_object_list(box, src=0, device=self.device)
        found: T = box[0]
        return found

    def any_of(self, numbers: list[int]) -> list[int]:
        """Return the maximum of each number over all processes."""
        tensor = torch.tensor(numbers, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor.tolist()

    def total(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes."""
        result = tensor.clone()
        dist.all_reduce(result)
        return result

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked in order."""
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(parts, tensor)
        return torch.stack(parts)

    def spread_buffers(self, model: nn.Module) -> None:
        """Copy the running statistics of process 0 to all processes."""
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait until all processes have arrived."""
        dist.barrier()


class _Calling(nn.Module):
    """A module with the parameters of `model` and the forward pass of `forward`."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model, self.call = model, forward

    def forward(self, *args: Tensor) -> Any:
        return self.call(*args)


@contextmanager
def processes(device: torch.device) -> Iterator[Alone]:
    """Yield the group of processes that torchrun started, or `Alone`."""
    if not started_by_torchrun():
        yield Alone()
        return
    if missing := [name for name in ENVIRONMENT if name not in os.environ]:
        raise ConfigError(
            f"WORLD_SIZE is set and {', '.join(missing)} not; start several processes by torchrun"
        )
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Processes(device)
    finally:
        dist.destroy_process_group()


LOCK_FOLDER = Path(tempfile.gettempdir()) / "prunebench-devices"


@contextmanager
def claimed_device(name: str, *, wait_s: float = 1.0) -> Iterator[torch.device]:
    """Yield the device for "auto", "cpu" or "cuda"; a GPU is claimed until the block ends.

    Snakemake limits the number of jobs on GPUs but assigns no GPU to a job: each job claims a free
    one by a lock file. A process started by torchrun claims the GPU of its local rank.
    Raises ConfigError for "cuda" without a GPU.
    """
    available = usable_gpus(name)
    if not available:
        yield torch.device("cpu")
        return
    LOCK_FOLDER.mkdir(exist_ok=True)
    own = int(os.environ["LOCAL_RANK"]) if started_by_torchrun() else None
    if own is not None and own >= available:
        raise ConfigError(
            f"torchrun started process {own} on this machine, which has {available} GPUs"
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


@contextmanager
def synchronized(model: nn.Module, device: torch.device, *, asked: bool) -> Iterator[None]:
    """Normalize over the images of all processes within the block, if asked to.

    TrainingError on a CPU, which PyTorch does not support.
    """
    if not asked:
        yield
        return
    if device.type == "cpu":
        raise TrainingError(
            "sync_batch_norm: true needs GPUs, since PyTorch has no synchronized batch norm for "
            "several processes on a CPU; false normalizes over each process's own images"
        )
    with converted(model):
        yield


@contextmanager
def converted(model: nn.Module) -> Iterator[None]:
    """Replace each batch norm by PyTorch's SyncBatchNorm within the block.

    Parameters and running statistics stay the same tensors under the same names, so the optimizer
    and checkpoints are not affected.
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
