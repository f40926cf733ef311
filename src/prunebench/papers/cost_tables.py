"""The table of printed costs, cell by cell, as CSV, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from prunebench.core.files import write_csv, write_text
from prunebench.papers.cost_audit import STATUSES, CostCell, Counts, tally
from prunebench.papers.cost_rules import QUANTITIES, quantum_of
from prunebench.papers.structures import CountedStructure
from prunebench.report.table import DASH
from prunebench.report.table_formats import html_page, markdown_table

TITLE = "The papers' printed costs against recomputed ones"
LEGEND = (
    "agree: equal to the printed digits, under the convention beside them; explained: differs, and "
    "the reason's rule yields the printed digits; undetermined: the structure follows from "
    "training or is not given; unexplained: no rule found. Nothing here is trained. Tables that "
    "begin with context or name another source are quoted from elsewhere."
)
NAMES = (
    "paper",
    "table",
    "architecture",
    "method",
    "setting",
    "ratio",
    "column",
    "printed",
    "computed",
    "convention",
    "status",
    "reason",
)
NUMBERS = ("printed", "computed")


BASE_NAMES = ("paper", "data", "printed_as", "network", "image", *QUANTITIES)
Bases = Sequence[Mapping[str, str]]


def write_costs(cells: Sequence[CostCell], bases: Bases, out: Path) -> list[Path]:
    """Write costs.csv, .md, .html and costs_bases.csv into `out` and return their paths."""
    write_csv(out / "costs.csv", NAMES, [as_row(cell) for cell in cells])
    write_text(out / "costs.md", to_markdown(cells, bases))
    write_text(out / "costs.html", to_html(cells, bases))
    write_csv(out / "costs_bases.csv", BASE_NAMES, bases)
    return [out / f"costs{end}" for end in (".csv", ".md", ".html", "_bases.csv")]


def base_rows(
    networks: Mapping[tuple[str, str], CountedStructure], counts: Counts
) -> list[dict[str, str]]:
    """Return what each base network costs in every convention, as texts by column."""
    rows = []
    for (paper, name), network in networks.items():
        data, _, printed_as = name.partition("/")
        row = {"paper": paper, "data": data, "printed_as": printed_as}
        row |= {"network": network.architecture, "image": "x".join(map(str, network.image))}
        rows.append(row | {of: f"{counts[network][of]:.0f}" for of in QUANTITIES})
    return rows


def as_row(cell: CostCell) -> dict[str, str]:
    """Return a cell as texts by column; `ratio` is the published file's."""
    row = cell.row
    return {
        "paper": row.paper,
        "table": row.table,
        "architecture": row.architecture,
        "method": row.method,
        "setting": row.setting,
        "ratio": "" if row.ratio_printed is None else str(row.ratio_printed),
        "column": cell.column,
        "printed": str(cell.printed),
        "computed": computed(cell),
        "convention": cell.convention,
        "status": cell.status,
        "reason": cell.reason,
    }


def computed(cell: CostCell) -> str:
    """Return the computed number with two digits more than are printed."""
    if cell.computed is None:
        return ""
    decimals = -int(quantum_of(cell.printed).as_tuple().exponent)
    return f"{cell.computed:.{max(0, decimals) + 2}f}"


def tally_rows(cells: Sequence[CostCell]) -> list[list[str]]:
    """Return a header, a line per paper and one for all: counts by status."""
    lines = [["paper", *STATUSES, "all"]]
    counts = tally(cells)
    for paper, by_status in counts.items():
        numbers = [by_status[status] for status in STATUSES]
        lines.append([paper, *(str(n) for n in (*numbers, sum(numbers)))])
    sums = [sum(by_status[status] for by_status in counts.values()) for status in STATUSES]
    lines.append(["all", *(str(n) for n in (*sums, sum(sums)))])
    return lines


def to_markdown(cells: Sequence[CostCell], bases: Bases) -> str:
    """Return the counts, every cell per paper and table, and the base networks."""
    parts = [f"# {TITLE}\n", LEGEND + "\n", markdown_table(tally_rows(cells), numbers=range(1, 6))]
    shown = [name for name in NAMES if name not in ("paper", "table")]
    numbers = [shown.index(name) for name in NUMBERS]
    for (paper, table), group in groupby(cells, key=lambda c: (c.row.paper, c.row.table)):
        rows = [as_row(cell) for cell in group]
        parts.append(f"## {paper} · {table}\n")
        lines = [shown, *([row[name] or DASH for name in shown] for row in rows)]
        parts.append(markdown_table(lines, numbers=numbers))
    parts.append("## Base networks\n")
    lines = [[*BASE_NAMES], *([base[name] for name in BASE_NAMES] for base in bases)]
    parts.append(markdown_table(lines, numbers=range(5, len(BASE_NAMES))))
    return "\n".join(parts)


def to_html(cells: Sequence[CostCell], bases: Bases) -> str:
    """Return one self-contained page."""
    papers = [
        (paper, [as_row(cell) for cell in group])
        for paper, group in groupby(cells, key=lambda cell: cell.row.paper)
    ]
    return html_page(
        "costs.html.j2",
        title=TITLE,
        legend=LEGEND,
        statuses=STATUSES,
        tallies=list(tally(cells).items()),
        papers=papers,
        names=NAMES[1:],
        bases=bases,
        base_names=BASE_NAMES,
    )
