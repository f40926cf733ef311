"""What an experiment says, in a few sentences per network: the head of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunebench.report.fairness import fairness
from prunebench.report.headings import note_of_test_set
from prunebench.report.runs_csv import NETWORK, UNPRUNED, metric_of
from prunebench.report.seed_statistics import (
    DIFFERENCE,
    REFERENCE,
    VERDICT,
    columns_to,
    references,
)
from prunebench.report.significance import FEWEST_PAIRS
from prunebench.report.summary_table import base_words, ratio_of
from prunebench.report.table import MINUS, format_number


@dataclass(frozen=True)
class AtRatio:
    """The methods at one ratio, by the verdict of their difference to the reference."""

    ratio: str
    higher: tuple[str, ...]  # with the mean difference in points
    lower: tuple[str, ...]
    unclear: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """The tested differences to one method."""

    reference: str
    ratios: tuple[AtRatio, ...]


@dataclass(frozen=True)
class Verdicts:
    """What the runs of one network say."""

    heading: str
    facts: tuple[str, ...]
    fairness: str  # "" for less than two rows
    is_low: bool  # a difference in accuracy may come from the training
    rankings: tuple[Ranking, ...]  # those with a tested difference
    unranked: str  # why no method is ranked; "" if some are


def verdicts(runs: pd.DataFrame, cells: pd.DataFrame, reference: str | None = None) -> Verdicts:
    """Return the verdicts on one network, given its runs and its cells of the summary.

    Differences are those to l1, and to the method `reference` if it is given.
    """
    level, metric = fairness(runs), metric_of(runs)
    base = base_words(runs).removeprefix("base ")
    facts = [f"Unpruned network: {base} {metric.words}.", _sentence(note_of_test_set(runs))]
    rankings = [Ranking(name, tuple(_at_ratios(cells, name))) for name in references(reference)]
    shown = tuple(ranking for ranking in rankings if ranking.ratios)
    return Verdicts(
        " · ".join(str(runs[name].iloc[0]) for name in NETWORK),
        tuple(filter(None, facts)),
        str(level),
        level.is_low,
        shown,
        "" if shown else _why_unranked(runs, REFERENCE),
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _at_ratios(cells: pd.DataFrame, reference: str) -> Iterator[AtRatio]:
    """Yield the tested methods of each ratio; nothing if no difference was tested."""
    word = columns_to(reference, VERDICT)[1]
    if word not in cells:
        return
    tested = cells[cells[word] != ""]
    for _, rows in tested.groupby(["ratio_kind", "ratio"], sort=False):
        named = {
            verdict: tuple(_named(row, reference) for row in same.to_dict("records"))
            for verdict, same in rows.groupby(word)
        }
        sides = (named.get(verdict, ()) for verdict in ("higher", "lower", "unclear"))
        yield AtRatio(ratio_of(rows.iloc[0]), *sides)


def _named(row: Mapping[Any, Any], reference: str) -> str:
    """Return method, setting and mean difference, as greg_1 (+0.40)."""
    difference = format_number(row[columns_to(reference, DIFFERENCE)[0]], "points")
    sign = "" if difference.startswith(MINUS) else "+"
    setting = "" if row["setting"] == "default" else f" {row['setting']}"
    return f"{row['method']}{setting} ({sign}{difference})"


def _why_unranked(runs: pd.DataFrame, reference: str) -> str:
    pruned = runs[runs["method"] != UNPRUNED]
    if reference not in set(pruned["method"]):
        return f"No method is ranked: there is no run of {reference} to compare with."
    seeds = pruned["seed"].nunique()
    if seeds < FEWEST_PAIRS:
        words = "1 seed" if seeds == 1 else f"{seeds} seeds"
        return (
            f"No method is ranked: with {words}, a difference cannot be told from noise (a paired "
            f"t test needs {FEWEST_PAIRS} seeds)."
        )
    return (
        f"No method is ranked: none shares {FEWEST_PAIRS} seeds with {reference} at the same ratio."
    )
