"""A device without enough memory: one sentence with what was asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from prunebench.core.errors import TrainingError
from prunebench.core.phases import Phase
from prunebench.core.recipe import Recipe
from prunebench.training.run import RunState


class MemoryShortError(TrainingError):
    """A step did not fit into the device's memory."""


@contextmanager
def within_memory(phase: Phase, recipe: Recipe, run: RunState) -> Iterator[None]:
    """Name phase, batch, resolution and peak where a step runs out of memory.

    The step may be half done: whoever goes on begins at a checkpoint.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        _, h, w = run.dataset.info.shape
        peak = ""
        if run.device.type == "cuda":
            peak = f", with a peak of {torch.cuda.max_memory_allocated(run.device) / 2**30:.1f} GiB"
        raise MemoryShortError(
            f"phase {phase.name!r}: a step of {recipe.batch_size} images of {h}x{w} in "
            f"{recipe.accumulation} parts does not fit into {run.device}{peak}; more accumulation "
            f"or a smaller batch ({str(error).splitlines()[0]})"
        ) from None
