"""A page per method: what it does, formula, options, what the papers print, what we measured."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from stored import costs, papers, summaries
from text import folded, join, prose, styled, table, table_or_folded

from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA, criterion_class
from prunebench.experiments.reference import options_of
from prunebench.experiments.reference import table as option_table
from prunebench.methods.base import MethodOptions
from prunebench.methods.registry import METHODS, method_class
from prunebench.papers.published import PublishedRow, read_published

FORMULAS = Path(__file__).parents[1] / "formulas"
CONTROLS = ("fixreg", "scratch_b", "scratch_e", "uniform_width", "unpruned")
SCORES = (
    "It is a [criterion](../concepts.md#score-allocation-schedule): it scores each unit, and the "
    "units with the lowest scores are removed. The score is:"
)
METRICS = {"top1": "top-1", "map": "AP"}


def groups() -> dict[str, list[str]]:
    """Return the names of all methods by heading."""
    trained = sorted(set(METHODS) - set(CONTROLS))
    return {
        "Methods": trained,
        "Criteria": sorted(CRITERIA),
        "Controls": sorted(CONTROLS),
    }


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every page."""
    yield "methods/index.md", overview()
    for names in groups().values():
        for name in names:
            yield f"methods/{name}.md", page(name)


def overview() -> str:
    """Return the list of all methods."""
    parts = [
        "# Methods",
        "Every method runs under every budget, on every network and data set that it can handle, "
        "and is compared with the same controls. A criterion gives each unit a score, and the "
        "units with the lowest scores are removed: it is a one-shot method by itself, and "
        "`orthoreg` and `early_bird` can use it.",
    ]
    for heading, names in groups().items():
        rows = [(f"[{name}]({name}.md)", method_class(name).summary) for name in names]
        parts += [f"## {heading}", table(("name", "in one line"), rows, ())]
    return join(*parts)


def page(name: str) -> str:
    """Return the page of one method."""
    method = method_class(name)
    source: type[Any] = criterion_class(name) if name in CRITERIA else method
    module = sys.modules[source.__module__]
    return join(
        f"# {name}",
        f"{method.summary[0].upper()}{method.summary[1:]}.",
        "## What it does",
        SCORES if name in CRITERIA else "",
        prose(first_paragraph(source)),
        prose(without_others(without_title(module.__doc__ or ""), name)),
        formula(name, source.__module__),
        "## How to run it",
        usage(name),
        "## Options",
        options(method.Options),
        "## What the papers print",
        printed(name),
        "## What we measured",
        measured(name),
        "## Printed costs that differ",
        differing_costs(name),
    )


def first_paragraph(kind: type[Any]) -> str:
    """Return the first paragraph of a class's docstring: the rest is for readers of the code."""
    return (inspect.getdoc(kind) or "").partition("\n\n")[0]


def without_title(docstring: str) -> str:
    """Return a module's docstring without its first line, which repeats the page's title."""
    return inspect.cleandoc(docstring).partition("\n\n")[2]


def usage(name: str) -> str:
    """Return how to run the method in Python, if it starts from a given network, and elsewhere."""
    method = method_class(name)
    line = f"In an experiment, put the line `{name}: {{}}` under `methods`."
    if name in CONTROLS:
        return line
    given = {"pretrained": True} if "pretrained" in method.Options.model_fields else {}
    if method(method.Options(**given)).starts_from() == "fresh":
        return f"{line} It starts from random weights, so `pb.prune` does not run it."
    is_criterion = name in CRITERIA
    arguments = [f'criterion="{name}"' if is_criterion else f'method="{name}"']
    if "macs" in method.ratio_kinds:
        arguments.append("ratio=0.5")
    if not is_criterion or issubclass(criterion_class(name), DataCriterion):
        arguments.append("data=train_loader")
    if not is_criterion:
        arguments.append("epochs=20")
    if "macs" not in method.ratio_kinds:  # the method decides how much, by the accuracy
        arguments.append("evaluate=accuracy")
    call = f"`pb.prune(model, example, {', '.join(arguments)})`"
    return (
        f"In Python, after `import prunebench as pb`: {call}. Options are further arguments. {line}"
    )


def without_others(docstring: str, name: str) -> str:
    r"""Return a docstring without list items on other methods of the module.

    >>> print(without_others("- `l1`: by size,\n  summed\n- `l2`: squared\n", "l2"), end="")
    - `l2`: squared
    """

    def kept(item: re.Match[str]) -> str:
        names = re.findall(r"\w+", item[1])
        return item[0] if name in names or not {*CRITERIA, *METHODS}.issuperset(names) else ""

    return re.sub(r"^- ((?:`\w+`(?:, )?)+):.*\n?(?:  .*\n?)*", kept, docstring, flags=re.MULTILINE)


def formula(name: str, module: str) -> str:
    """Return the section with the formula, of the method or else of its module."""
    for stem in (name, module.rpartition(".")[2]):
        path = FORMULAS / f"{stem}.md"
        if path.exists():
            return "## Formula\n\n" + path.read_text(encoding="utf-8")
    return ""


def options(model: type[MethodOptions]) -> str:
    """Return the options of a method; those of all methods are folded."""
    lines = option_table(model).splitlines()
    common = {f"| `{option.name}` |" for option in options_of(MethodOptions)}
    is_common = [any(line.startswith(start) for start in common) for line in lines]
    own = [line for line, shared in zip(lines, is_common, strict=True) if not shared]
    shared = [*lines[:2], *(line for line, old in zip(lines, is_common, strict=True) if old)]
    return join(
        styled("options", "\n".join(own)) if len(own) > 2 else "It has no options of its own.",
        folded("Options of every method", styled("options", "\n".join(shared))),
    )


def printed(name: str) -> str:
    """Return the rows that papers print of the method."""
    rows = [row for row in read_published() if row.method == name]
    if not rows:
        return "The six papers print no row of this method."
    return table_or_folded("Printed rows", HEAD, [printed_cells(row) for row in rows], range(4, 9))


HEAD = ("table", "data", "network", "setting", "ratio", "base", "accuracy", "FLOPs −%", "params −%")


def printed_cells(row: PublishedRow) -> list[str]:
    """Return a printed row as cells, with the digits as printed."""
    paper = papers()[row.paper].slug
    ratio = "" if row.ratio_printed is None else f"{row.ratio_printed} {row.ratio_kind_printed}"
    numbers = (row.base_accuracy, row.accuracy, row.flops_reduction_pct, row.params_reduction_pct)
    cells = ["" if number is None else str(number) for number in numbers]
    if row.accuracy_std is not None:
        cells[1] += f" ± {row.accuracy_std}"
    place = f"[{paper}](../papers/{paper}.md), {row.table}"
    return [place, row.dataset, row.architecture, row.setting, ratio, *cells]


def measured(name: str) -> str:
    """Return the rows of results/reference of the method."""
    frame = summaries()
    rows = frame[frame.method == name]
    if rows.empty:
        return "No stored run uses it yet."
    head = (
        "experiment",
        "network",
        "setting",
        "ratio",
        "n",
        "accuracy",
        "drop",
        "speedup",
        "vs. l1",
    )
    return join(
        "Accuracy is top-1 or, for detectors, AP, both in percent. The drop is the base network's "
        "accuracy minus the row's. The speedup counts MACs; it is theoretical if units stay as "
        "zeros. The last column is the mean difference from `l1` at the same ratio, in points. "
        "Compare rows of the same experiment only: others train for different lengths.",
        table_or_folded(
            "Stored rows", head, [measured_cells(row) for _, row in rows.iterrows()], range(4, 9)
        ),
    )


def measured_cells(row: pd.Series[Any]) -> list[str]:
    """Return a stored summary row as cells."""

    def number(value: float, digits: int = 2) -> str:
        return "" if pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")

    spread = "" if pd.isna(row.accuracy_std) else f" ± {row.accuracy_std:.2f}"
    kind = "" if row.ratio_kind == "units_per_group" else f" {row.ratio_kind}"
    ratio = "auto" if row.ratio_kind == "auto" else f"{row.ratio:g}{kind}"
    return [
        f"[{row.experiment}](../leaderboard.md)",
        f"{row.dataset} {row.architecture}",
        row.setting,
        ratio,
        str(row.n),
        number(row.accuracy) + spread,
        number(row["drop"]),
        f"{number(row.speedup_theoretical)}×",
        number(row.get("difference")),
    ]


def differing_costs(name: str) -> str:
    """Return the printed costs of the method that our count does not yield, by reason."""
    frame = costs()
    rows = frame[frame.method == name]
    if rows.empty:
        return "No printed cost of it was recomputed."
    counts = rows.status.value_counts()
    shown = ", ".join(f"{counts.get(status, 0)} {status}" for status in STATUSES)
    other = rows[rows.status.isin(("explained", "unexplained"))]
    reasons = other.groupby(["paper", "table", "status", "reason"], sort=False).size()
    lines = [
        (f"[{paper}](../papers/{paper}.md), {where}", status, reason, str(count))
        for (paper, where, status, reason), count in reasons.items()
    ]
    text = f"Of {len(rows)} printed costs: {shown}. {MEANING}"
    if not lines:
        return text
    return join(text, table(("table", "status", "reason", "cells"), lines, (3,)))


STATUSES = ("agree", "explained", "undetermined", "unexplained")
MEANING = (
    "Explained: another way of counting yields the printed number. Undetermined: it depends on "
    "training, or on a structure that was not published."
)
