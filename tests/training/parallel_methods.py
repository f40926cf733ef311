"""Runs of every method on a network whose norms do not see the batch, by any number of processes.

    torchrun --standalone --nproc-per-node=2 -m tests.training.parallel_methods OUT

writes what came out of each run in two processes to OUT. Batches of 15, 15 and 3 images: the first
are cut unevenly, the last is too small to be cut.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunebench.core.errors import RunStoppedError
from prunebench.data.dataset import Dataset, Split, load, prepare
from prunebench.methods.registry import method_paths
from prunebench.training.checkpoint import CheckpointFile, StopRequest
from prunebench.training.loop import Loop
from prunebench.training.processes import ALONE, Alone, processes
from prunebench.training.rendezvous import joined
from prunebench.training.run import RunState
from tests.training.conftest import Stopping, fresh_network, recipe
from tests.training.test_resume import loop_of, outcome, phase_steps

IMAGES, BATCH = 33, 15
NAMES = sorted(set(method_paths()) - {"unpruned"})
# Methods with hooks inside of a step, one for each kind of hook, are run with both at once.
IN_PAIR = [(name, 1) for name in NAMES]
WITH_HOOKS = ("early_bird", "greg_1", "group_fisher", "increg", "orthoreg")
IN_PAIR += [(name, 2) for name in WITH_HOOKS]


class StillNorm(nn.BatchNorm2d):
    """Batch norm by its running statistics, always: parts of a batch are treated as the whole."""

    def train(self, mode: bool = True) -> StillNorm:
        """Stay in evaluation mode."""
        return super().train(False)


def network() -> nn.Module:
    """The narrow ResNet-8 with norms that do not see the batch."""
    model = fresh_network()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = StillNorm
    return model


def few(split: Any, n: int) -> Split:
    """Return the first images of a split."""
    return Split(split.images[:n], split.labels[:n])


def small_dataset(folder: Path) -> Dataset:
    """Return a few of the synthetic stripes; the file in `folder` is made where it is missing."""
    path = folder / "synthetic.safetensors"
    if not path.exists():
        prepare("synthetic", Path("unused"), path)
    data = load(path)
    return replace(
        data, train=few(data.train, IMAGES), val=few(data.val, 16), test=few(data.test, 16)
    )


def loops(dataset: Dataset, accumulation: int, parallel: Alone = ALONE) -> Callable[..., Loop]:
    """Return what `loop_of` makes loops with."""

    def make(
        method: Any,
        phases: Any,
        *,
        source_kept: Any = None,
        after: int | None = None,
        folder: Path | None = None,
    ) -> Loop:
        parts = {"batch_size": BATCH, "accumulation": accumulation}
        own = tuple(
            replace(p, recipe=p.recipe and p.recipe.model_copy(update=parts)) for p in phases
        )
        run = RunState(
            seed=0,
            device=torch.device("cpu"),
            dataset=dataset,
            build=network,
            phases=own,
            base_recipe=recipe(),
            source_kept=source_kept,
            parallel=parallel,
        )
        run.start_from(network())
        stop = StopRequest()
        progress = Stopping(stop, after)
        checkpoint = None
        if folder is not None:
            folder.mkdir(exist_ok=True)
            checkpoint = CheckpointFile(folder, "spec", 3600.0, progress.say)
        return Loop(run, method, progress=progress, stop=stop, checkpoint=checkpoint)

    return make


def result(name: str, dataset: Dataset, accumulation: int, parallel: Alone = ALONE) -> Any:
    """Return the outcome of a method's run."""
    loop = loop_of(name, loops(dataset, accumulation, parallel))
    loop.train()
    return outcome(loop)


def resumed(name: str, dataset: Dataset, folder: Path, parallel: Alone) -> list[Any]:
    """Return the outcomes of a run that was stopped amid each of its phases and taken up again."""
    make = loops(dataset, 1, parallel)
    whole = loop_of(name, make)
    whole.train()
    outcomes, before = [], 0
    for number, steps in enumerate(phase_steps(whole)):
        here = folder / f"{name}{number}"
        try:
            loop_of(name, make, after=before + max(steps // 2, 1), folder=here).train()
        except RunStoppedError:
            loop = loop_of(name, make, folder=here)
            loop.train()
            outcomes.append({"from": loop.run.records.resumed_at[0], **outcome(loop)})
        before += steps
    return outcomes


def main(out: Path) -> None:
    """Run all methods in these processes; the first writes."""
    torch.set_num_threads(1)
    with processes(torch.device("cpu"), joined()) as parallel:
        dataset = small_dataset(out.parent)
        found: dict[tuple[str, int | str], Any] = {
            (name, accumulation): result(name, dataset, accumulation, parallel)
            for name, accumulation in IN_PAIR
        }
        parallel.agree_every = 1  # signals are seen at the next step, not at the eighth
        for name in WITH_HOOKS:
            found[name, "resumed"] = resumed(name, dataset, out.parent, parallel)
        if parallel.rank == 0:
            torch.save(found, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
