"""Several processes that train one run, and the GPU that each of them takes.

`torchrun` or `srun` starts the processes and names them in the environment. All hold the same
network, each trains on its portion of every batch, DistributedDataParallel averages the gradients,
and only process 0 writes files. Decisions that depend on the clock or on signals are made by
process 0 for all, or by all together at the same step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from prunebench.core.errors import ConfigError, TrainingError
from prunebench.measure.claimed_gpus import (
    claimed_device,
    claimed_gpus,
    current_device,
    visible_gpus,
)
from prunebench.measure.device import usable_gpus
from prunebench.training.rendezvous import Group, reason

T = TypeVar("T")
Forward = Callable[..., Any]  # of inputs, and of targets if the network computes its loss
# One process may take long to select or evaluate while the others wait.
TIMEOUT = timedelta(hours=2)


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
        """Copy the running statistics of process 0 to all processes, in one message per dtype."""
        buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            buffers.setdefault(buffer.dtype, []).append(buffer)
        for alike in buffers.values():
            together = torch.cat([buffer.flatten() for buffer in alike])
            dist.broadcast(together, src=0)
            parts = torch.split(together, [buffer.numel() for buffer in alike])
            for buffer, part in zip(alike, parts, strict=True):
                buffer.copy_(part.view_as(buffer))

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
def processes(device: torch.device, group: Group | None) -> Iterator[Alone]:
    """Yield the processes of a group, ready to exchange tensors; `Alone` without one."""
    if group is None:
        yield Alone()
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=group.store,
        rank=group.own.rank,
        world_size=group.own.world,
        timeout=TIMEOUT,
    )
    try:
        yield Processes(device)
    except RuntimeError as error:
        if "gloo/transport" not in str(error) and not isinstance(error, dist.DistError):
            raise
        raise TrainingError(
            f"process {group.own.rank} of {group.own.world} has lost another one "
            f"({reason(error)}); the same command goes on from the last checkpoint"
        ) from None
    finally:
        dist.destroy_process_group()


@contextmanager
def device_of(
    name: str, group: Group | None, say: Callable[[str], None] = print
) -> Iterator[torch.device]:
    """Yield this process's device for "auto", "cpu" or "cuda"; a GPU is claimed meanwhile.

    Processes that see the same GPUs of their machine take one each, which the first one claims for
    all. A process to which SLURM has assigned other GPUs than to the rest claims one of its own.
    ConfigError if there are too few GPUs.
    """
    if group is None:
        with claimed_device(name, say) as device:
            yield device
        return
    own, seen = group.own, visible_gpus() if usable_gpus(name) else []
    found = [json.loads(text) for text in group.gathered("gpus", json.dumps([own.machine, *seen]))]
    if len({bool(gpus) for _, *gpus in found}) > 1:
        raise ConfigError("some of the processes see GPUs and others see none; allowed: all, none")
    here = [gpus for machine, *gpus in found if machine == own.machine]
    distinct = len(set().union(*here))
    if 0 < distinct < own.local_world:
        raise ConfigError(
            f"{own.local_world} processes on this machine need a GPU each and see {distinct}; "
            "start fewer, or ask for more GPUs"
        )
    if any(gpus != seen for gpus in here) or not seen:
        with claimed_device(name, say) as device:
            yield device
    elif own.local_rank == 0:
        with claimed_gpus(seen, own.local_world, say) as claims:
            group.tell(f"claims/{own.machine}", json.dumps(claims))
            yield current_device(claims[0])
    else:
        claims = json.loads(group.told(f"claims/{own.machine}"))
        yield current_device(claims[own.local_rank])


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
