"""Fine-tune a network on the user's loader, by the training loop of experiments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from prunebench.channels.examples import Example, arguments
from prunebench.experiments.phases import Budget
from prunebench.methods.registry import method_class
from prunebench.own_network.history_rows import history_table
from prunebench.own_network.loaded_batches import (
    Loader,
    Loss,
    OwnBatches,
    arguments_in,
    batches_in,
    content_of,
    repeatable,
)
from prunebench.own_network.own_run import OwnRun, device_of
from prunebench.own_network.own_training import run_phases
from prunebench.own_network.training_plan import LR, Training, fitted, frozen_names

if TYPE_CHECKING:
    import pandas as pd


def finetune(
    model: nn.Module,
    loader: Loader,
    *,
    epochs: int,
    lr: float = LR,
    loss: Loss | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    quiet: bool = False,
) -> pd.DataFrame:
    """Train a network in place; return a row per epoch with its loss and accuracy.

    The network is in evaluation mode afterwards. Parameters that require no gradient stay as they
    are. Prints progress: bars on a terminal, otherwise a line per epoch.

    Parameters
    ----------
    model
        Any network, such as `Pruned.model`.
    loader
        Yields (inputs, targets), and has a length.
    epochs, lr
        Passes over the loader, and the learning rate before the schedule.
    loss
        From outputs and targets to the mean loss. Default: cross-entropy.
    recipe
        Keys of a recipe of experiments: optimizer, momentum, weight_decay, schedule, clip_norm,
        label_smoothing, precision ... Default: SGD with momentum 0.9 and weight decay 1e-4; the
        learning rate falls to 0 along a cosine.
    seed
        Seed of PyTorch's random numbers while it trains: dropout, and shuffling in this process.
    checkpoint
        A folder for checkpoints, every five minutes and if the run is stopped by a signal (Ctrl-C).
        The same call goes on from there, but not bit for bit: the order of images is the loader's.
    quiet
        Print nothing.

    Raises
    ------
    PrunebenchError
        In one line: a batch of another form, an unknown key, a loss that is not finite.
    """
    training = Training(
        epochs=epochs,
        lr=lr,
        recipe=recipe or {},
        checkpoint=None if checkpoint is None else Path(checkpoint),
        quiet=quiet,
    )
    inputs, size = first_inputs(model, loader)
    kind = method_class("unpruned")
    method, phases = fitted(
        kind,
        kind.Options(fine_tune=True),  # type: ignore[call-arg]
        Budget(kind="units_per_group", ratio=0.0),
        training,
        name="finetune",
        batch_size=size,
        per_epoch=batches_in(loader),
        frozen=frozen_names(model),
        given={},
    )
    run = OwnRun.of(model, inputs, data=loader, batch_size=size, loss=loss, seed=seed)
    run.phases = phases
    run.go_to(0)
    run_phases(method, run, folder=training.checkpoint, quiet=quiet)
    model.load_state_dict(run.model.state_dict())
    model.eval()
    return history_table(run.records.history)


def first_inputs(model: nn.Module, loader: Loader) -> tuple[Example, int]:
    """Return one image of the loader's first batch as an example, and the number of images in it.

    DataError for a loader without a batch, or with batches of another form.
    """
    number = next((arguments_in(batch) for batch in repeatable(loader)), 1)
    inputs, _ = OwnBatches(loader, number, device_of(model)).first()
    one = content_of(inputs[:1])
    return arguments(one), len(inputs)
