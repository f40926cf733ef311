"""Sub-commands on the files of stored runs: repair and discard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.options import CONFIG, ConfigFile, machine_options
from prunebench.core.errors import ResultError
from prunebench.experiments.machine import Machine

Folders = Annotated[list[Path], typer.Argument(help="Folders of runs.", metavar="RUN...")]


@machine_options()
def repair(
    folders: Folders,
    *,
    machine: Machine,
    config: ConfigFile = CONFIG,
) -> None:
    """Make again what is missing or damaged in stored runs.

    Nothing else is made again. Every file of a run is compared with the hash that its training
    recorded. A run or base network with a damaged file is trained again; damaged measurements are
    measured again.
    """
    from prunebench.training.progress import make_progress
    from prunebench.training.repair import repair_run

    with make_progress() as progress:
        for folder in folders:
            for line in repair_run(folder, machine=machine, progress=progress):
                typer.echo(line)


def discard(folders: Folders) -> None:
    """Discard results of runs, to let the workflow repeat them.

    Deletes finished.json and training.json; other files stay until the run is repeated.
    """
    from prunebench.experiments.results import RECEIPT_FILE, TrainingResult

    for folder in folders:
        if not (folder / TrainingResult.FILE).exists():
            raise ResultError(f"{folder}: no finished run in this folder")
    for folder in folders:
        for name in (RECEIPT_FILE, TrainingResult.FILE):
            (folder / name).unlink(missing_ok=True)
        typer.echo(f"{folder}: discarded")
