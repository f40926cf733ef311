"""Several runs in one process, one after another; one that fails does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from prunebench.core.errors import PrunebenchError, RunStoppedError, TrainingError
from prunebench.experiments.machine import Machine
from prunebench.experiments.spec import RunSpec
from prunebench.training.launch import is_first_process
from prunebench.training.progress import Progress
from prunebench.training.run_log import run_log
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

    With `logs`, the output of each run is appended to its log there.
    TrainingError at the end if runs have failed. RunStoppedError at once, on a signal.
    """
    shared, failed = Shared(), {}
    for spec in specs:
        try:
            with run_log(logs, spec.path, progress):
                train_run(spec, results, machine=machine, progress=progress, shared=shared)
        except RunStoppedError:
            raise
        except PrunebenchError as error:
            failed[spec.path] = str(error)
        except Exception as error:
            failed[spec.path] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        if is_first_process():
            progress.say(f"{spec.path}: {failed.get(spec.path, 'finished')}")
    if failed:
        path, reason = next(iter(failed.items()))
        raise TrainingError(f"{len(failed)} of {len(specs)} runs failed; {path}: {reason}")
