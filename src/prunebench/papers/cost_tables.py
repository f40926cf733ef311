"""The printed costs and their status as CSV, Markdown and HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from prunebench.core.files import write_csv, write_text
from prunebench.papers.cost_audit import STATUSES, CostCell, Counts
from prunebench.papers.cost_rules import QUANTITIES, quantum_of
from prunebench.papers.structures import CountedStructure
from prunebench.report.table import DASH
from prunebench.report.table_formats import html_page, markdown_table

TITLE = "Printed and recomputed costs of the papers"
LEGEND = (
    "Every cost that the papers print, recomputed from the recipes without training. agree: the "
    "paper's own convention yields the printed digits; explained: another rule does, which the "
    "reason names; undetermined: the structure depends on training or is not given; unexplained: "
    "no known rule yields the printed digits. Tables that begin with context or name another "
    "source are quoted from elsewhere."
)
TALLY_LEGEND = (
    "The line of a paper counts printed operations, parameters, their reductions, and theoretical "
    "speedups. Memory and sparsity, which two papers print in addition, have lines of their own."
)
NOTED_WORDS = {"memory_m": "memory", "sparsity_pct": "sparsity"}
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
    """Return the cost of each base network in every convention, as text by column."""
    rows = []
    for (paper, name), network in networks.items():
        data, _, printed_as = name.partition("/")
        row = {"paper": paper, "data": data, "printed_as": printed_as}
        row |= {"network": network.architecture, "image": "x".join(map(str, network.image))}
        rows.append(row | {of: f"{counts[network][of]:.0f}" for of in QUANTITIES})
    return rows


def as_row(cell: CostCell) -> dict[str, str]:
    """Return a cell as text by column; `ratio` is the printed ratio."""
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
    """Return the computed number with two digits more than the printed one."""
    if cell.computed is None:
        return ""
    decimals = -int(quantum_of(cell.printed).as_tuple().exponent)
    return f"{cell.computed:.{max(0, decimals) + 2}f}"


def tally(cells: Sequence[CostCell]) -> list[list[str]]:
    """Return a header, a line of counts by status per paper, and one for all.

    Memory and sparsity have no column in the published tables; they follow in lines of their own.
    """
    counts: dict[str, Counter[str]] = {}
    for cell in sorted(cells, key=lambda cell: cell.column in NOTED_WORDS):
        name = cell.row.paper
        if cell.column in NOTED_WORDS:
            name += f", {NOTED_WORDS[cell.column]}"
        counts.setdefault(name, Counter())[cell.status] += 1
    counts["all"] = sum(counts.values(), Counter())
    lines = [
        [name, *(str(by_status[status]) for status in STATUSES), str(by_status.total())]
        for name, by_status in counts.items()
    ]
    return [["paper", *STATUSES, "all"], *lines]


def to_markdown(cells: Sequence[CostCell], bases: Bases) -> str:
    """Return the tally, every cell by paper and table, and the base networks."""
    parts = [f"# {TITLE}\n", f"{LEGEND}\n", markdown_table(tally(cells), numbers=range(1, 6))]
    parts.append(f"{TALLY_LEGEND}\n")
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
        tally=tally(cells),
        tally_legend=TALLY_LEGEND,
        papers=papers,
        names=NAMES[1:],
        bases=bases,
        base_names=BASE_NAMES,
    )
