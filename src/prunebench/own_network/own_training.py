"""Run the phases of a method by the training loop, with progress and checkpoints."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prunebench.data.dataset import content_hash
from prunebench.data.random_state import seeded
from prunebench.experiments.spec import digest
from prunebench.methods.base import Method
from prunebench.own_network.own_run import OwnRun
from prunebench.training.checkpoint import CheckpointFile, StopRequest, listening
from prunebench.training.loop import Loop
from prunebench.training.progress import Progress, SilentProgress, make_progress

SECONDS = 300.0  # between two checkpoints
NOT_THE_SAME = (
    "the loader decides the order of images: a resumed run goes on with its next pass, so its "
    "result is not bit for bit that of a run without a stop"
)


def run_phases(
    method: Method[Any], run: OwnRun, *, folder: Path | None = None, quiet: bool = False
) -> None:
    """Run all phases of a run, from the checkpoint in `folder` if there is one.

    With a folder, Ctrl-C and SIGTERM write a checkpoint and raise RunStoppedError; the same call
    then goes on from there. The checkpoint is deleted at the end.
    """
    with _progress(quiet) as progress, seeded(run.seed):
        if folder is None:
            Loop(run, method, progress=progress, stop=StopRequest()).train()
            return
        file = CheckpointFile(folder, _identity(method, run), SECONDS, progress.say)
        if file.path.exists():
            progress.say(NOT_THE_SAME)
        with _stoppable() as stop:
            Loop(run, method, progress=progress, stop=stop, checkpoint=file).train()
        file.remove()


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    if quiet:
        yield SilentProgress()
        return
    with make_progress() as progress:
        yield progress


@contextmanager
def _stoppable() -> Iterator[StopRequest]:
    """Listen to signals, which only the main thread can."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is None
    ):
        yield StopRequest()
        return
    with listening() as stop:
        yield stop


def _identity(method: Method[Any], run: OwnRun) -> str:
    """Return a hash of what a checkpoint belongs to: network, method, phases and seed."""
    phases = [
        (phase.name, str(phase.length), str(phase.then), phase.recipe and phase.recipe.model_dump())
        for phase in run.phases
    ]
    weights = content_hash({name: t.cpu() for name, t in run.model.state_dict().items()})
    options = method.options.model_dump(mode="json")
    content = [type(method).__name__, options, run.seed, dict(run.whole), repr(phases), weights]
    return digest(content)
