"""Sub-commands about what the papers print."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.options import CONFIG, RESULTS, ConfigFile, Out, Results
from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name

PublishedDir = Annotated[
    Path | None, typer.Option("--published", help="Folder of CSVs; without it the installed ones.")
]
Paper = Annotated[str | None, typer.Option(help="Of one paper; all without it.")]


def costs(
    paper: Paper = None,
    published_dir: PublishedDir = None,
    structures: Annotated[
        Path | None, typer.Option(help="Folder of YAML files; without it the installed ones.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that count.")] = 1,
    out: Out = RESULTS,
) -> None:
    """Compare the papers' printed costs with recomputed ones.

    Writes costs.csv, costs.md and costs.html, a line per printed cell, and costs_bases.csv, a line
    per base network. Nothing is trained.
    """
    from prunebench.papers.cost_audit import base_networks, compare, wanted
    from prunebench.papers.cost_tables import base_rows, tally_rows, write_costs
    from prunebench.papers.published import papers, read_published, select
    from prunebench.papers.recount import count_all
    from prunebench.papers.structures import read_structures

    rows = read_published(published_dir)
    entries = read_structures(papers(rows), structures)
    if paper is not None:
        _known_paper(paper, papers(rows))
    chosen = select(rows, paper=paper)
    bases = base_networks({name: entries[name] for name in papers(chosen)})
    counts = count_all([*wanted(chosen, entries), *bases.values()], workers)
    cells = compare(chosen, entries, counts, rows)
    for line in tally_rows(cells):
        typer.echo(f"{line[0]:<14}" + "".join(f"{text:>14}" for text in line[1:]))
    for path in write_costs(cells, base_rows(bases, counts), out):
        typer.echo(str(path))


def published(
    paper: Paper = None,
    table: Annotated[str | None, typer.Option(help="As printed: Table 1.")] = None,
    dataset: Annotated[str | None, typer.Option(help="All without it.")] = None,
    architecture: Annotated[str | None, typer.Option(help="As the paper calls it.")] = None,
    method: Annotated[str | None, typer.Option(help="As printed, competitors too.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Without rows quoted from elsewhere.")] = False,
    published_dir: PublishedDir = None,
    out: Annotated[
        Path | None, typer.Option(help="A CSV file to write the rows to, instead of listing them.")
    ] = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
) -> None:
    """List or export the rows that the papers print.

    Behind a row stands the experiment that has it, and the data on which it was run (seeds).
    """
    from prunebench.papers.published import (
        one_line,
        papers,
        read_published,
        select,
        write_published,
    )
    from prunebench.papers.reproduced import states

    rows = read_published(published_dir)
    if paper is not None:
        _known_paper(paper, papers(rows))
    chosen = select(
        rows,
        own_only=own,
        paper=paper,
        table=table,
        dataset=dataset,
        architecture=architecture,
        method=method,
    )
    found = states(chosen, config.parent, results)
    if out is None:
        for row, state in zip(chosen, found, strict=True):
            typer.echo(" · ".join(part for part in (one_line(row), str(state)) if part))
    else:
        write_published(chosen, found, out)
    typer.echo(f"{len(chosen)} of {len(rows)} rows" + (f" · {out}" if out else ""))


def _known_paper(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ConfigError(f"--paper: {unknown_name('paper', name, known)}")
