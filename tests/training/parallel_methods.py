"""Runs of every method on a network whose norms do not see the batch, by any number of processes.

    torchrun --standalone --nproc-per-node=2 -m tests.training.parallel_methods OUT NAMES STOPPED

writes what came out of the runs of the methods NAMES in two processes to OUT, and of the methods
STOPPED, which are stopped amid each phase and taken up again; both are joined by commas. Batches of
15, 15 and 3 images: the first are cut unevenly, the last is too small to be cut. A detector is
trained for an epoch, too, on scenes in the folder of OUT.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunebench.core.errors import RunStoppedError
from prunebench.data.dataset import Dataset, Split, load, prepare
from prunebench.data.digits_coco import write
from prunebench.data.random_state import seeded
from prunebench.experiments.phases import training
from prunebench.experiments.recipe import Schedule
from prunebench.methods.registry import method_paths
from prunebench.models.registry import build
from prunebench.training.checkpoint import CheckpointFile, StopRequest
from prunebench.training.loop import Loop
from prunebench.training.processes import ALONE, Alone, processes
from prunebench.training.progress import PlainProgress
from prunebench.training.rendezvous import joined
from prunebench.training.run import RunState
from tests.training.conftest import Phases, Stopping, fresh_network, recipe
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
    """Return the outcomes of a run that is stopped amid each of its phases and taken up again."""
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


def scenes(folder: Path) -> Path:
    """Return the file of a few scenes with digits; it is made where it is missing."""
    path = folder / "coco_scenes.safetensors"
    if not path.exists():
        write(folder / "scenes", (12, 4, 4))
        prepare("coco_scenes", folder, path)
    return path


def detector_loss(path: Path, accumulation: int, parallel: Alone = ALONE) -> float | None:
    """Return a detector's mean loss over an epoch of three batches of four scenes."""
    own = recipe(
        epochs=1,
        batch_size=4,
        lr=0.01,
        nesterov=False,
        schedule=Schedule(),
        augment={},
        accumulation=accumulation,
    )
    build_detector = partial(build, "retinanet_r18_fpn_x0_125", num_classes=10)
    with seeded(0):
        network = build_detector()
    run = RunState(
        seed=0,
        device=torch.device("cpu"),
        dataset=load(path),
        build=build_detector,
        phases=(training("train", own),),
        base_recipe=own,
        parallel=parallel,
    )
    run.start_from(network)
    Loop(run, Phases(run.phases), progress=PlainProgress(), stop=StopRequest()).train()
    return run.records.history[0].train_loss


def main(out: Path, names: list[str], stopped: list[str]) -> None:
    """Run these methods in these processes; the first writes."""
    torch.set_num_threads(1)
    with processes(torch.device("cpu"), joined()) as parallel:
        dataset = small_dataset(out.parent)
        found: dict[tuple[str, int | str], Any] = {
            (name, accumulation): result(name, dataset, accumulation, parallel)
            for name, accumulation in IN_PAIR
            if name in names
        }
        found["detector", 1] = detector_loss(scenes(out.parent), 1, parallel)
        parallel.agree_every = 1  # signals are seen at the next step, not at the eighth
        for name in stopped:
            found[name, "resumed"] = resumed(name, dataset, out.parent, parallel)
        if parallel.rank == 0:
            torch.save(found, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3].split(","))
