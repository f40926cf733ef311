"""Several runs in one process, one after another; one that fails does not stop the others."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prunebench.core.errors import PrunebenchError, RunStoppedError, TrainingError
from prunebench.core.files import make_folder
from prunebench.experiments.machine import Machine
from prunebench.experiments.spec import RunSpec
from prunebench.training.launch import is_first_process
from prunebench.training.progress import Progress
from prunebench.training.shared import Shared
from prunebench.training.train import train_run


def train_runs(
    specs: Sequence[RunSpec],
    results: Path,
    *,
    progress: Progress,
    machine: Machine,
    logs: Path | None = None,
) -> None:
    """Train some runs; they load the data and compute equal importance scores once.

    With `logs`, the output of each run is appended to `<logs>/<path of the run>.log`.
    TrainingError at the end if runs have failed. RunStoppedError at once, on a signal.
    """
    shared, failed = Shared(), {}
    for spec in specs:
        with _output_to(None if logs is None else logs / f"{spec.path}.log"):
            try:
                train_run(spec, results, machine=machine, progress=progress, shared=shared)
            except RunStoppedError as stopped:
                if logs is not None:  # the message of the command goes elsewhere
                    print(f"prunebench: {stopped}", file=sys.stderr)
                raise
            except PrunebenchError as error:
                failed[spec.path] = str(error)
                print(f"prunebench: {error}", file=sys.stderr)
            except Exception as error:
                failed[spec.path] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
        if logs is not None and is_first_process():
            progress.say(f"{spec.path}: {failed.get(spec.path, 'finished')}")
    if failed:
        path, reason = next(iter(failed.items()))
        raise TrainingError(f"{len(failed)} of {len(specs)} runs failed; {path}: {reason}")


@contextmanager
def _output_to(log: Path | None) -> Iterator[None]:
    """Append what this process prints within the block to a file."""
    if log is None:
        yield
        return
    make_folder(log.parent)
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(stream) for stream in (1, 2)]
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, old in zip((1, 2), before, strict=True):
            os.dup2(old, stream)
            os.close(old)
