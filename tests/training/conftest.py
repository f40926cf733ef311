"""Runs of a narrow ResNet-8 on synthetic stripes: 480 images, batches of 64, 8 steps an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.data.dataset import Dataset, load, prepare
from prunebench.experiments.phases import Phase
from prunebench.experiments.recipe import Augment, Recipe, Schedule
from prunebench.methods.base import Method, MethodOptions
from prunebench.models.cifar_resnet import CifarResNet
from prunebench.training.checkpoint import CheckpointFile, StopRequest
from prunebench.training.loop import Loop
from prunebench.training.progress import PlainProgress
from prunebench.training.run import RunState

ARCHITECTURE = "resnet20_x0_25"  # of runs by their specification, which names a network
CPU = torch.device("cpu")
STEPS_PER_EPOCH = 8  # 480 images in batches of 64; the last one has 32


def recipe(**more: Any) -> Recipe:
    """A recipe of two epochs in which everything that a resume could spoil is switched on."""
    settings: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 64,
        "lr": 0.05,
        "weight_decay": 1e-3,
        "nesterov": True,
        "schedule": Schedule(kind="cosine", per="step", warmup_epochs=0.5),
        "augment": Augment(crop_padding=1, flip=True, cutout=2),
    }
    return Recipe(**(settings | more))


class Phases(Method[MethodOptions]):
    """A method that runs the phases it is given."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        super().__init__(MethodOptions())
        self.given = list(phases)


class Stopping(PlainProgress):
    """Progress that stops the run, or drops it dead, after so many steps."""

    def __init__(self, stop: StopRequest, after: int | None = None, dead: bool = False) -> None:
        super().__init__()
        self.stop, self.after, self.dead, self.steps_seen = stop, after, dead, 0

    def step(self, clock: int) -> None:
        """Count, and end the run where asked."""
        self.steps_seen += 1
        if self.steps_seen == self.after and self.dead:
            raise SystemError("dropped dead")
        if self.steps_seen == self.after:
            self.stop.signal = 15


class EveryThirdStep(CheckpointFile):
    """Checkpoints that are due at every third step, whatever the clock says."""

    asked = 0

    def is_due(self) -> bool:
        """Count the questions."""
        self.asked += 1
        return self.asked % 3 == 0


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "synthetic.safetensors"
    prepare("synthetic", Path("unused"), path)
    return path


@pytest.fixture(scope="session")
def dataset(data_file: Path) -> Dataset:
    return load(data_file)


def fresh_network(blocks: int = 1) -> torch.nn.Module:
    """A ResNet of quarter width, with the same weights at each call.

    With one block a stage it is a ResNet-8, and with three a ResNet-20.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CifarResNet(blocks, num_classes=4, in_channels=3, width=0.25)


MakeLoop = Callable[..., Loop]


@pytest.fixture
def make_loop(dataset: Dataset, data_file: Path) -> MakeLoop:
    """A function (method, phases) -> Loop; with `after` the run stops after so many steps."""

    def make(
        method: Method[Any],
        phases: Sequence[Phase],
        *,
        after: int | None = None,
        dead: bool = False,
        folder: Path | None = None,
        source_kept: dict[str, torch.Tensor] | None = None,
        device: torch.device = CPU,
        blocks: int = 1,
    ) -> Loop:
        run = RunState(
            seed=0,
            device=device,
            dataset=dataset if device == CPU else load(data_file, device),
            build=partial(fresh_network, blocks),
            phases=tuple(phases),
            base_recipe=recipe(),
            source_kept=source_kept,
        )
        run.start_from(fresh_network(blocks))
        stop = StopRequest()
        progress = Stopping(stop, after, dead)
        checkpoint = None
        if folder is not None:
            folder.mkdir(exist_ok=True)
            kind = EveryThirdStep if dead else CheckpointFile
            checkpoint = kind(folder, "spec", 3600.0, progress.say)
        return Loop(run, method, progress=progress, stop=stop, checkpoint=checkpoint)

    return make
