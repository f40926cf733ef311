"""A page per paper: its experiments, printed rows, costs and claims."""

from __future__ import annotations

import re
from collections.abc import Iterator

from method_pages import HEAD, STATUSES, printed_cells
from stored import ROOT, Paper, claims, costs, papers
from text import folded, join, styled, table

from prunebench.criteria.registry import CRITERIA
from prunebench.experiments.config import named_files, read_experiment
from prunebench.methods.registry import METHODS
from prunebench.papers.published import PublishedRow, published_dir, read_published
from prunebench.papers.reproduced import states

CONFIG = ROOT / "config"
# The method modules of each paper; all methods of a module belong to it.
MODULES = {
    "epruner": ("epruner",),
    "greg": ("greg",),
    "group_fisher": ("group_fisher",),
    "increg": ("increg",),
    "orthoreg": ("orthoreg", "early_bird"),
    "srfp": ("sfp",),
}


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every page."""
    yield "papers/index.md", overview()
    for paper in papers().values():
        yield f"papers/{paper.slug}.md", page(paper)


def overview() -> str:
    """Return the list of papers, with the number of their printed rows and costs."""
    rows = read_published()
    head = ("paper", "title", "printed rows", "costs that agree", "all costs")
    lines = []
    for paper in papers().values():
        own = [row for row in rows if row.paper == paper.slug]
        cells = costs()[costs().paper == paper.slug]
        agree = str(int((cells.status == "agree").sum()))
        link = f"[{paper.slug}]({paper.slug}.md)"
        lines.append((link, paper.title, str(len(own)), agree, str(len(cells))))
    return join(
        "# Papers",
        "The printed rows of six papers are part of the package, with the digits as printed. Each "
        "printed number of operations, parameters or reduction is recomputed from the network's "
        "structure, without training; each claim is an experiment with an interval and a verdict.",
        table(head, lines, (2, 3, 4)),
    )


def page(paper: Paper) -> str:
    """Return the page of one paper."""
    rows = [row for row in read_published() if row.paper == paper.slug]
    names = [name for name in METHODS if method_module(name) in MODULES[paper.slug]]
    links = ", ".join(f"[{name}](../methods/{name}.md)" for name in names)
    return join(
        f"# {paper.slug}",
        f"{paper.authors}: *{paper.title}*, {paper.year}, [arXiv {paper.arxiv}]({paper.address}).",
        f"Methods: {links}.",
        "## Its experiments",
        experiments(paper),
        "## Its claims, tested",
        tested_claims(paper),
        "## Its printed costs, recomputed",
        recomputed(paper),
        "## Its printed rows",
        printed(rows),
        "## What could not be transcribed",
        missing(paper),
    )


def method_module(name: str) -> str:
    """Return the file or folder of a method in prunebench.methods."""
    return METHODS[name].removeprefix("prunebench.methods.").partition(":")[0].partition(".")[0]


def experiments(paper: Paper) -> str:
    """Return the experiments whose rows are compared with the paper's."""
    found = []
    for file in named_files(CONFIG, "experiment"):
        config = read_experiment(CONFIG, file.stem)
        if config.published is not None and config.published.paper == paper.slug:
            found.append((f"`{file.stem}`", config.published.table, config.title))
    return join(
        "Each of these is a file in `config/experiments/`, every value with its source. They need "
        "the paper's data and a GPU; [Reproduce a paper's table](../quick_start/researcher.md) "
        "runs one of them in small first.",
        table(("experiment", "table", "title"), found, ()),
    )


def tested_claims(paper: Paper) -> str:
    """Return the verdicts on the claims of a paper."""
    frame = claims()
    head = ("claim", "where", "effect", "95 % interval", "n", "verdict")
    rows = [
        (
            row.statement,
            row["where"],
            effect(row.effect, row.unit),
            f"[{signed(row.low)}, {signed(row.high)}]" if row.low else "",
            row.n,
            row.verdict or row.needs,
        )
        for _, row in frame[frame.paper == paper.slug].iterrows()
    ]
    return join(
        "On small networks and short schedules, which neither refute nor confirm the paper.",
        styled("claims", table(head, rows, (2, 3, 4))),
    )


def signed(number: str) -> str:
    """Return a number with its sign and two digits.

    >>> signed("-0.19444"), signed("")
    ('−0.19', '')
    """
    return f"{float(number):+.2f}".replace("-", "−") if number else ""


def effect(number: str, unit: str) -> str:
    """Return an effect with its unit; one in factors is stored as a decimal logarithm."""
    if not number:
        return ""
    return f"×{10 ** float(number):.2f}" if unit == "×" else f"{signed(number)} {unit}"


def recomputed(paper: Paper) -> str:
    """Return how many printed costs agree, and the reasons of those that do not."""
    frame = costs()
    rows = frame[frame.paper == paper.slug]
    counts = [(status, str(int((rows.status == status).sum()))) for status in STATUSES]
    other = rows[rows.status.isin(("explained", "unexplained"))]
    reasons = other.groupby(["status", "reason", "column"], sort=False).size()
    lines = [
        (status, column, reason, str(count)) for (status, reason, column), count in reasons.items()
    ]
    return join(
        "Agree: the paper's own way of counting yields the printed digits. Explained: another way "
        "does. Undetermined: the structure depends on training or was not published.",
        table(("status", "cells"), counts, (1,)),
        table(("status", "column", "reason", "cells"), lines, (3,)) if lines else "",
    )


def printed(rows: list[PublishedRow]) -> str:
    """Return all printed rows, a folded table for each table of the paper."""
    found = dict(zip(rows, states(rows, CONFIG, ROOT / "results" / "none"), strict=True))
    parts = []
    for name in dict.fromkeys(row.table for row in rows):
        of_table = [row for row in rows if row.table == name]
        head = ("method", *HEAD[1:], "experiment")
        lines = [
            (method_link(row), *printed_cells(row)[1:], found[row].experiment) for row in of_table
        ]
        title = name.replace('"', "'")
        parts.append(
            folded(
                f"{title}: {len(lines)} rows", styled("numbers", table(head, lines, range(4, 9)))
            )
        )
    return join(*parts)


def method_link(row: PublishedRow) -> str:
    """Return the row's method, with a link if it is one of ours."""
    is_ours = row.method in METHODS or row.method in CRITERIA
    return f"[{row.method}](../methods/{row.method}.md)" if is_ours else row.method


def missing(paper: Paper) -> str:
    """Return the paper's section of MISSING.md."""
    text = (published_dir() / "MISSING.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {paper.slug} .*?\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else "All of its tables are here."
