"""The sub-commands of the command line, in the order of the stages.

Each imports its modules when it runs, so that only training and measuring import torch.
"""

from __future__ import annotations

from typing import Annotated

import typer

import prunebench
from prunebench.cli import (
    authoring,
    configure,
    networks,
    papers,
    prune_own,
    reporting,
    research,
    run_files,
    stages,
)
from prunebench.cli.options import Command

app = typer.Typer(
    help=(
        "Benchmark methods that prune CNNs. The stages are, in this order: data, base, prune, "
        "measure, collect, tables, figures, report. `snakemake --cores all` runs all of them. Each "
        "stage can also be run alone, and resumes where an earlier call was stopped."
    ),
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"prunebench {prunebench.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Define the options before the sub-command."""


for command in (
    configure.init,
    configure.resolve,
    research.plan,
    research.doctor,
    research.compare,
    stages.data,
    stages.base,
    stages.prune,
    stages.measure,
    stages.latencies,
    stages.additivity,
    reporting.collect,
    reporting.tables,
    reporting.figures,
    reporting.claims,
    reporting.report,
    reporting.status,
    reporting.show,
    reporting.diff,
    papers.costs,
    papers.published,
    networks.verify,
    run_files.repair,
    run_files.discard,
    run_files.share,
    run_files.pack,
    networks.export,
    networks.groups,
):
    if command is stages.prune:
        # `prune --model ...` is a command of its own, with other options.
        app.command(cls=prune_own.StageOrOwn, epilog=prune_own.HINT)(command)
    else:
        app.command(cls=Command)(command)
app.command()(authoring.new_method)
app.command("list")(configure.list_names)
app.command()(configure.reference)
