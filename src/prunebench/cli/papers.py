"""Sub-commands about the papers' printed tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunebench.cli.options import CONFIG, RESULTS, ConfigFile, Out, Results
from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name

if TYPE_CHECKING:
    from prunebench.papers.published import PublishedRow

PublishedDir = Annotated[
    Path | None,
    typer.Option("--published", help="Folder of CSV files of printed rows (default: installed)."),
]
Paper = Annotated[
    str | None, typer.Option(help="Name of a paper, as in the CSV files (default: all).")
]


def costs(
    paper: Paper = None,
    published_dir: PublishedDir = None,
    structures: Annotated[
        Path | None, typer.Option(help="Folder of YAML files of structures (default: installed).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Number of counting processes.")] = 1,
    out: Out = RESULTS,
) -> None:
    """Compare the papers' printed costs with recomputed ones.

    Trains nothing. Writes costs.csv, costs.md and costs.html with a line per printed cost, and
    costs_bases.csv with a line per base network.
    """
    from prunebench.papers.cost_audit import base_networks, compare, wanted
    from prunebench.papers.cost_tables import base_rows, tally, write_costs
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
    for line in tally(cells):
        typer.echo(f"{line[0]:<22}" + "".join(f"{text:>14}" for text in line[1:]))
    for path in write_costs(cells, base_rows(bases, counts), out):
        typer.echo(str(path))


def published(
    paper: Paper = None,
    table: Annotated[
        str | None, typer.Option(help='Table as printed, such as "Table 1" (default: all).')
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset of the rows (default: all).")] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Network, by the paper's name (default: all).")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Method as printed, quoted ones included (default: all).")
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="Exclude rows quoted from elsewhere.")] = False,
    published_dir: PublishedDir = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write instead of listing the rows.")
    ] = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
) -> None:
    """List or export the rows of the papers' tables.

    Each row ends with its experiment, and the datasets it was run on with the number of runs.
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
    wanted = {
        "paper": paper,
        "table": table,
        "dataset": dataset,
        "architecture": architecture,
        "method": method,
    }
    chosen = select(rows, own_only=own, **wanted)
    if not chosen:
        raise ConfigError(_why_none(rows, own, wanted))
    found = states(chosen, config.parent, results)
    if out is None:
        for row, state in zip(chosen, found, strict=True):
            typer.echo(" · ".join(part for part in (one_line(row), str(state)) if part))
    else:
        write_published(chosen, found, out)
    typer.echo(f"{len(chosen)} of {len(rows)} rows" + (f" · {out}" if out else ""))


def _why_none(rows: Sequence[PublishedRow], own: bool, wanted: Mapping[str, str | None]) -> str:
    """Return the sentence for options that no row fits: it names one without which rows fit."""
    from prunebench.papers.published import select

    given = {name: value for name, value in wanted.items() if value is not None}
    for name, value in given.items():
        others = {other: given[other] for other in given if other != name}
        if known := {str(getattr(row, name)) for row in select(rows, own_only=own, **others)}:
            among = f" among the rows of {', '.join(others.values())}" if others else ""
            return f"--{name}: {unknown_name(name, value, known)}{among}"
    for name, value in given.items():
        if value not in (known := {str(getattr(row, name)) for row in rows}):
            return f"--{name}: {unknown_name(name, value, known)}"
    return f"no row has {', '.join(given.values())} together"


def _known_paper(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ConfigError(f"--paper: {unknown_name('paper', name, known)}")
