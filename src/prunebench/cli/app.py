"""The command line: the sub-commands in the order in which data flow.

Each imports what it needs when it runs: only what trains or measures imports torch.
"""

from __future__ import annotations

import typer

from prunebench.cli import configure, networks, papers, reporting, stages

app = typer.Typer(
    help=(
        "Benchmark CNN pruning. The stages, in the order in which data flow: data, base, prune, "
        "measure, collect, tables, figures. `snakemake --cores all` runs them all; each also "
        "works alone, and goes on where an earlier call was stopped."
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (
    configure.resolve,
    stages.data,
    stages.base,
    stages.prune,
    stages.measure,
    reporting.collect,
    reporting.tables,
    reporting.figures,
    papers.costs,
    papers.published,
    networks.verify,
    networks.export,
    networks.groups,
):
    app.command()(command)
app.command("list")(configure.list_names)
app.command()(configure.reference)
