"""Sub-commands for networks: show coupled channels, verify stored runs, export pruned networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.options import among
from prunebench.core.errors import PrunebenchError, ResultError


def groups(
    architecture: Annotated[
        str,
        typer.Argument(help="Network name, or module:function such as torchvision.models:vgg16."),
    ],
    num_classes: Annotated[
        int | None,
        typer.Option(min=1, help="Classes (default: 10, or the function's own)."),
    ] = None,
    image: Annotated[str, typer.Option(help="Input size: channels, height, width.")] = "3x32x32",
    grouped: Annotated[
        str,
        typer.Option(
            help="Units of grouped convolutions: whole groups, or one position in all groups.",
            metavar="auto|whole|local",
            callback=among("auto", "whole", "local"),
        ),
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Drawing to write: .svg, or .dot for Graphviz.")
    ] = None,
) -> None:
    """List the coupled channels of a network.

    Also lists the channels that cannot be pruned, with reasons, and the largest possible reduction.
    """
    from prunebench.cli.describe import report

    for line in report(architecture, num_classes, image, grouped, out):
        typer.echo(line)


def verify(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of runs, or parent folders.", metavar="RUN...")
    ],
) -> None:
    """Verify stored runs and print a line for each.

    Compares the hashes of specification, weights, base network and data; recomputes accuracy and
    costs on the CPU; compares the masked network with the smaller one. Exits with 1 if anything
    differs.
    """
    from prunebench.training.verify_run import verify_run

    failed = checked = 0
    for folder in folders:
        runs = sorted(path.parent for path in folder.rglob("training.json"))
        if not runs:
            raise ResultError(f"{folder}: no finished run in this folder or below")
        checked += len(runs)
        for run in runs:
            try:
                typer.echo(verify_run(run))
            except PrunebenchError as error:
                failed += 1
                typer.echo(f"prunebench: {error}", err=True)
    if failed:
        raise ResultError(f"{failed} of {checked} runs failed the check")


def export(
    run: Annotated[
        Path, typer.Argument(help="Folder of a finished run, or of `prunebench prune --model`.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write; its suffix is the format: .onnx, .pt2 for torch.export, or "
            ".safetensors."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Network of your own in the folder: module:function, unpruned."),
    ] = None,
) -> None:
    """Export a pruned network to ONNX, torch.export or safetensors.

    The file holds normalization, class names and kept units. The written network is run, and its
    outputs are compared with those of the stored one. ONNX needs the extra `onnx`.
    """
    from prunebench.cli.describe import build
    from prunebench.own_network.pruned_files import export_folder

    given = None if model is None else build(model, None, 3)
    difference = export_folder(run, out, model=given)
    typer.echo(f"{out} · outputs equal to {difference:.0e}")
