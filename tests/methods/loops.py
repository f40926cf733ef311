"""The training loop itself over small networks and a few images, for walks that it must do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunebench.data.dataset import Dataset, Split
from prunebench.data.info import DatasetInfo
from prunebench.experiments.phases import Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Method
from prunebench.training.checkpoint import CheckpointFile, StopRequest
from prunebench.training.loop import Loop
from prunebench.training.progress import PlainProgress
from prunebench.training.run import RunState

# Nothing that is trained with it moves: float32 has no such small differences.
STILL = Recipe(batch_size=4, lr=1e-30, weight_decay=1.0)


def few_images(channels: int = 1, size: int = 2) -> Dataset:
    """Twelve images of noise to train on, four to validate, four to test, of two classes."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        shape = (n, channels, size, size)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(n) % 2)

    info = DatasetInfo(
        name="noise",
        title="Noise",
        num_classes=2,
        shape=(channels, size, size),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        validation=0.0,
        source="noise",
        split="ours",
        read=lambda folder: None,  # type: ignore[arg-type, return-value]
    )
    return Dataset(info=info, train=split(12), val=split(4), test=split(4), sha256="")


class Watching(PlainProgress):
    """Progress that looks after each step, and stops the run after so many."""

    def __init__(self, look: Callable[[int], None], stop: StopRequest, after: int | None) -> None:
        super().__init__()
        self.look, self.stop, self.after, self.seen = look, stop, after, 0

    def step(self, clock: int) -> None:
        self.look(clock)
        self.seen += 1
        if self.seen == self.after:
            self.stop.signal = 15


def loop_over(
    model: nn.Module,
    method: Method[Any],
    phases: Sequence[Phase],
    *,
    look: Callable[[int], None] = lambda clock: None,
    dataset: Dataset | None = None,
    after: int | None = None,
    folder: Path | None = None,
) -> Loop:
    """A loop over three steps an epoch; `look` is called after each step with its number."""
    run = RunState(
        seed=0,
        device=torch.device("cpu"),
        dataset=dataset or few_images(),
        build=lambda: copy.deepcopy(model),
        phases=tuple(phases),
        base_recipe=STILL,
    )
    run.start_from(copy.deepcopy(model))
    stop = StopRequest()
    progress = Watching(look, stop, after)
    file = None if folder is None else CheckpointFile(folder, "spec", 3600.0, progress.say)
    return Loop(run, method, progress=progress, stop=stop, checkpoint=file)
