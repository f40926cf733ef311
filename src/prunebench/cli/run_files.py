"""Sub-commands on the files of stored runs: repair, discard, share and pack."""

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
    from prunebench.core.files import remove
    from prunebench.experiments.results import RECEIPT_FILE, TrainingResult

    for folder in folders:
        if not (folder / TrainingResult.FILE).exists():
            raise ResultError(f"{folder}: no finished run in this folder")
    for folder in folders:
        for name in (RECEIPT_FILE, TrainingResult.FILE):
            remove(folder / name)
        typer.echo(f"{folder}: discarded")


def share(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of base networks.", metavar="BASE...")
    ],
    to: Annotated[Path, typer.Option(help="Folder of shared base networks, created if missing.")],
) -> None:
    """Copy base networks to a folder that others use.

    They name it as `shared_bases` in config.yaml, and their base networks of the same specification
    and data are copied instead of trained. They need no permission to write there. A shared
    network is never replaced.
    """
    from prunebench.experiments.shared_bases import share_base

    for folder in folders:
        typer.echo(share_base(folder, to))


def pack(
    folders: Folders,
    to: Annotated[Path, typer.Option(help="Folder of the packed runs, created if missing.")],
) -> None:
    """Pack finished runs into one zip file each.

    Whoever unpacks it into a folder of results can load the network, and verify the run if base
    network and data are there.
    """
    from prunebench.experiments.packed_runs import pack as packed

    for folder in folders:
        typer.echo(packed(folder, to))
