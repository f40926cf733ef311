"""Training on a GPU: capture of the step as a CUDA graph, memory, determinism.

The step of a phase is captured once and replayed. A graph repeats the same kernels on the same
addresses. Values that change from step to step (learning rate, penalties, masks, method state) lie
in tensors that are updated in place, so the graph sees them. A batch of another size, the last one
of an epoch, is trained eagerly. If tensors were replaced between two steps, the step is captured
again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from prunebench.core.errors import ConfigError, TrainingError
from prunebench.measure.cuda_graphs import WARM_UP
from prunebench.methods.base import Method
from prunebench.training.batches import Portion
from prunebench.training.optimizer import Optimizer
from prunebench.training.processes import Network
from prunebench.training.run import RunState
from prunebench.training.step import Sums, train_step


class Recorder(Protocol):
    """Turns a function of tensors into one that repeats its kernels."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call the function outside of the recording."""

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Record a call and return a function that repeats it; the call itself need not run."""


@dataclass
class _Recorded:
    inputs: Tensor
    labels: Tensor
    addresses: tuple[int, ...]
    replay: Callable[[], None]


@dataclass
class PhaseStep:
    """The step of a phase, called with a batch: a replay of the captured step, or an eager step.

    Attributes
    ----------
    recorder
        None: every step is eager, as on a CPU.
    may_have_changed
        Set by the loop after a hook of the method between steps, which may have replaced tensors.
    """

    run: RunState
    method: Method[Any]
    optimizer: Optimizer
    network: Network
    recorder: Recorder | None = None
    may_have_changed: bool = False
    recorded: _Recorded | None = field(default=None, init=False)

    def __call__(self, inputs: Tensor, labels: Tensor, share: Portion, sums: Sums) -> None:
        """Train on this process's portion of a batch and add to `sums`."""
        self.run.portion = share
        if not share.counts:
            sums = Sums.zero(self.run.device)
        elif self.recorder is not None and self._replay(inputs, labels, share, sums):
            sums.images += len(labels)
            return
        self._eager(inputs, labels, share, sums)
        sums.images += len(labels)

    def _eager(self, inputs: Tensor, labels: Tensor, share: Portion, sums: Sums) -> None:
        train_step(
            self.run,
            self.method,
            self.optimizer,
            inputs,
            labels,
            sums,
            network=self.network,
            parts=share.parts,
        )

    def _replay(self, inputs: Tensor, labels: Tensor, share: Portion, sums: Sums) -> bool:
        """Train on the batch by the captured step if possible; return whether it was."""
        if len(labels) < self.run.recipe.batch_size:
            return False
        if self.recorded is None or (
            self.may_have_changed and self.recorded.addresses != self._addresses(sums)
        ):
            self.recorded = self._record(inputs, labels, share, sums)
        self.may_have_changed = False
        if self.recorded is None:
            self.recorder = None  # the step of this phase cannot be captured
            return False
        self.recorded.inputs.copy_(inputs)
        self.recorded.labels.copy_(labels)
        self.recorded.replay()
        return True

    def _record(
        self, inputs: Tensor, labels: Tensor, share: Portion, sums: Sums
    ) -> _Recorded | None:
        """Capture a step; everything that the warm-up changes is restored.

        None if the step does more than a graph can repeat: it logs diagnostics, counts in Python,
        or replaces tensors.
        """
        assert self.recorder is not None
        still_inputs, still_labels = torch.empty_like(inputs), torch.empty_like(labels)
        still_inputs.copy_(inputs)
        still_labels.copy_(labels)

        def step() -> None:
            self._eager(still_inputs, still_labels, share, sums)

        addresses, noted = self._addresses(sums), len(self.run.records.pending)
        tensors = [(tensor, tensor.clone()) for tensor in self._tensors(sums)]
        state = _copied_containers(self.method.state)
        rng = _get_rng(self.run.device)
        for _ in range(WARM_UP):
            self.recorder.warm_up(step)
        repeatable = (
            addresses == self._addresses(sums)
            and len(self.run.records.pending) == noted
            and _without_tensors(state) == _without_tensors(self.method.state)
        )
        with torch.no_grad():
            for tensor, before in tensors:
                tensor.copy_(before)
        _set_rng(self.run.device, rng)
        self.optimizer.zero_grad()  # those of the warm-up are not in the graph's memory
        if not repeatable:
            self.method.state = state
            del self.run.records.pending[noted:]
            return None
        return _Recorded(still_inputs, still_labels, addresses, self.recorder.record(step))

    def _tensors(self, sums: Sums) -> Iterator[Tensor]:
        """Yield all tensors that a step may change."""
        yield from self.run.model.state_dict(keep_vars=True).values()
        yield from self.optimizer.moments.tensors()
        yield from _tensors_in(self.method.state)
        yield from (sums.loss, sums.correct)

    def _addresses(self, sums: Sums) -> tuple[int, ...]:
        """Return the addresses of all tensors that a step reads."""
        masks = self.run.masks.values()
        return tuple(t.data_ptr() for t in (*self._tensors(sums), *masks, self.optimizer.lr))


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors within containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors_in(inner)


def _copied_containers(value: Any) -> Any:
    """Return new containers around the same tensors."""
    if isinstance(value, dict):
        return {key: _copied_containers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied_containers(inner) for inner in value)
    return value


def _without_tensors(value: Any) -> Any:
    """Return the same containers with a placeholder for each tensor."""
    if isinstance(value, Tensor):
        return "a tensor"
    if isinstance(value, dict):
        return {key: _without_tensors(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(inner) for inner in value]
    return value


def _get_rng(device: torch.device) -> Tensor:
    on_gpu = device.type == "cuda"
    return torch.cuda.get_rng_state(device) if on_gpu else torch.get_rng_state()


def _set_rng(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


class MemoryShortError(TrainingError):
    """A step did not fit into the device's memory."""


@contextmanager
def within_memory(run: RunState) -> Iterator[None]:
    """Raise MemoryShortError, with phase, batch, image size and peak, if a step lacks memory.

    The step may be half done: a retry must start from a checkpoint.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        _, h, w = run.dataset.info.shape
        recipe, peak = run.recipe, ""
        if run.device.type == "cuda":
            peak = f", with a peak of {torch.cuda.max_memory_allocated(run.device) / 2**30:.1f} GiB"
        raise MemoryShortError(
            f"phase {run.phase.name!r}: a step of {recipe.batch_size} images of {h}x{w} in "
            f"{recipe.accumulation} parts does not fit into {run.device}{peak}; use more "
            f"accumulation or a smaller batch ({str(error).splitlines()[0]})"
        ) from None


WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
# The values that make cuBLAS deterministic, by its documentation and PyTorch's. The first is faster
# and takes 24 MiB of memory.
WORKSPACES = (":4096:8", ":16:8")


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """Use only deterministic algorithms within the block, if asked to.

    cuBLAS reads its setting at its first use, so enter the block before any work on a GPU. An
    operation without a deterministic implementation raises TrainingError with its name.
    """
    if not asked:
        yield
        return
    if (found := os.environ.setdefault(WORKSPACE, WORKSPACES[0])) not in WORKSPACES:
        raise ConfigError(
            f"deterministic: true needs {WORKSPACE} to be unset or one of "
            f"{', '.join(WORKSPACES)}, and the environment has {found!r}"
        )
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if matched := re.match(r"(\S+) does not have a deterministic implementation", str(error)):
            raise TrainingError(
                f"{matched[1]} has no deterministic implementation in PyTorch "
                f"{torch.__version__}, which deterministic: true requires; set deterministic: false"
            ) from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
