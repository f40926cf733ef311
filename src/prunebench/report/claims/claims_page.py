"""The page of claims as Markdown, HTML and CSV, and the short table of the main questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from prunebench.core.files import write_csv, write_texts
from prunebench.report.claims.claim_verdict import (
    FEWEST_SEEDS,
    MOST_SEEDS,
    POWER,
    Estimate,
    Finding,
)
from prunebench.report.claims.declared_claims import CLAIMS, EQUAL_POINTS, Claim, Unit
from prunebench.report.claims.measured_claims import MeasuredClaim, measure_claims
from prunebench.report.figures.forest_plot import forest_plot
from prunebench.report.figures.style import save
from prunebench.report.significance import FEWEST_PAIRS, SIGNIFICANCE
from prunebench.report.table import DASH, MINUS
from prunebench.report.table_formats import html_page, markdown_table

TITLE = "The papers' claims as tests"
LEGEND = (
    "Each claim is measured within a seed, on runs that share the base network and the order of "
    "images; several ratios are averaged within the seed. The effect is the mean over n seeds, "
    "with its two-sided 95 % t interval. A rounding to whole test images counts as spread."
)
MEANING = (
    "supported: the paired t test rejects the opposite after Holm's correction over all tested "
    f"claims of this page (level {SIGNIFICANCE:g}). So a page on which no claim is true shows a "
    "supported one with a probability of at most 5 %, as far as differences between seeds are "
    "normally distributed.",
    "not supported: the same test points the other way, or the 95 % interval lies within the "
    f"margin of practical equality, which is {EQUAL_POINTS:g} points for accuracies. A claimed tie "
    "is supported within this margin (two one-sided tests), and not supported outside of it. "
    "Higher, lower and equal say where the effect lies instead.",
    "undecided: neither. The number of seeds is the one at which the test has a power of "
    f"{POWER:.0%} if the observed effect and standard deviation are the true ones; it is itself an "
    f"estimate from few seeds. A verdict takes {FEWEST_SEEDS} seeds: with four, shuffling the "
    "methods within the seeds gives four differences of one sign in more than 5 % of all cases. An "
    f"interval takes {FEWEST_PAIRS}.",
    "A verdict holds for the networks, data and schedules of its source. Handwritten digits with a "
    "narrow network and epochs by the dozen cannot refute a paper about ImageNet, and cannot "
    "confirm one: they show whether an effect is large enough to be seen there.",
)
SHORT_LEGEND = "Effect with its 95 % interval over n seeds; verdicts after Holm's correction."
COLUMNS = (
    *("id", "paper", "statement", "where", "measured", "source", "networks", "kind", "unit"),
    *("effect", "low", "high", "bound", "margin", "n", "p", "p_holm", "verdict"),
    *("seeds_needed", "needs"),
)
_HEADS = ("claim", "the paper says", "effect", "95 % interval", "n", "verdict", "source")
_SHORT_HEADS = ("question", "effect", "95 % interval", "n", "verdict", "source")


def write_claims(results: Path, out: Path, claims: Sequence[Claim] = CLAIMS) -> list[Path]:
    """Write claims.csv, claims.md, claims_short.md, claims.html and the figure `claims`."""
    rows = measure_claims(results, claims)
    write_csv(out / "claims.csv", COLUMNS, [csv_row(row) for row in rows])
    texts = {
        "claims.md": to_markdown(rows),
        "claims_short.md": to_short(rows),
        "claims.html": to_html(rows),
    }
    figure = save(forest_plot(rows), out / "claims")
    return [out / "claims.csv", *write_texts(out, texts), *figure]


def csv_row(row: MeasuredClaim) -> dict[str, object]:
    """Return the cells of a claim by `COLUMNS`; a factor is no longer a logarithm."""
    claim, found = row.claim, row.finding
    cells: dict[str, object] = {
        name: getattr(claim, name) for name in ("id", "paper", "statement", "where", "measured")
    }
    cells |= {"verdict": found.verdict, "needs": claim.needs}
    if row.source is None or found.estimate is None:
        return cells
    one, unit = found.estimate, claim.unit
    cells |= {"source": row.source.experiment, "networks": "; ".join(row.networks)}
    cells |= {"kind": claim.kind, "unit": unit.name, "n": one.n}
    scaled = {"effect": one.effect, "low": one.low, "high": one.high, "bound": claim.bound}
    scaled["margin"] = claim.equality
    cells |= {name: _rounded(_plain(value, unit)) for name, value in scaled.items()}
    cells |= {"p": _rounded(one.p), "p_holm": _rounded(found.p_holm)}
    if not math.isnan(found.seeds_needed):
        cells["seeds_needed"] = _seeds(found.seeds_needed)
    return cells


def _plain(value: float, unit: Unit) -> float:
    return 10**value if unit.is_log10 else value


def _rounded(value: float) -> object:
    return "" if math.isnan(value) else float(f"{value:.5g}")


def _seeds(number: float) -> str:
    return f"more than {MOST_SEEDS}" if math.isinf(number) else f"{number:.0f}"


def number(value: float, unit: Unit) -> str:
    """Return an effect as text, with its sign unless it is a factor.

    >>> number(0.414, Unit("points")), number(-0.2, Unit("points")), number(1, Unit("×", True))
    ('+0.41', '−0.20', '10×')
    """
    if math.isnan(value):
        return DASH
    if unit.is_log10:
        return f"{10**value:.2g}×" if value < 2 else f"{10**value:.0f}×"
    text = f"{value:+.{unit.digits}f}"
    return text.replace("-", MINUS) if float(text) else text[1:]


def effect_text(one: Estimate | None, unit: Unit) -> str:
    """Return the effect with its unit; a dash if it was not measured."""
    if one is None:
        return DASH
    return number(one.effect, unit) + ("" if unit.is_log10 else f" {unit.name}")


def interval_text(row: MeasuredClaim) -> str:
    """Return the interval; a dash if there is none."""
    one, unit = row.finding.estimate, row.claim.unit
    if one is None or math.isnan(one.low):
        return DASH
    return f"[{number(one.low, unit)}, {number(one.high, unit)}]"


def verdict_text(finding: Finding) -> str:
    """Return the verdict; why a claim is not supported, and what would decide an undecided one.

    Higher and lower are relative to the claim's bound, or to a tie; equal is within the margin.
    """
    one = finding.estimate
    if one is None or finding.verdict not in ("not supported", "undecided"):
        return finding.verdict
    if finding.verdict == "not supported":
        is_equal = one.kind == "more" and one.high >= one.bound
        why = "equal" if is_equal else "higher" if one.effect > one.bound else "lower"
        return f"not supported; {why}"
    if math.isnan(finding.seeds_needed):
        return f"undecided; {one.n} seed{'s' if one.n > 1 else ''}: no interval"
    return f"undecided; {_seeds(finding.seeds_needed)} seeds would decide"


def _line(row: MeasuredClaim) -> list[str]:
    one = row.finding.estimate
    return [
        row.claim.id,
        row.claim.statement,
        effect_text(one, row.claim.unit),
        interval_text(row),
        str(one.n) if one else DASH,
        verdict_text(row.finding),
        row.source.experiment if row.source else DASH,
    ]


def _is_declared(row: MeasuredClaim) -> bool:
    return bool(row.claim.sources)


def _papers(rows: Sequence[MeasuredClaim]) -> list[tuple[str, list[MeasuredClaim]]]:
    order = list(dict.fromkeys(row.claim.paper for row in rows))
    ordered = sorted(filter(_is_declared, rows), key=lambda row: order.index(row.claim.paper))
    return [(paper, list(own)) for paper, own in groupby(ordered, key=lambda r: r.claim.paper)]


def _details(row: MeasuredClaim) -> str:
    claim = row.claim
    text = f"{claim.id} ({claim.where}): {claim.measured}."
    if row.source is not None:
        text += f" Runs: {row.source.experiment}, {', '.join(row.networks)}."
        for name, one in row.passed_over:
            text += f" Too few seeds (n = {one.n}): {name}, {effect_text(one, claim.unit)}."
    else:
        text += f" Not run: {_command(claim)}."
    return text


def _command(claim: Claim) -> str:
    runs = f"snakemake --cores all --config experiments={claim.sources[-1].experiment}"
    return f"`{runs}`" + (f", then `{claim.after}`" if claim.after else "")


def _tally(rows: Sequence[MeasuredClaim]) -> str:
    verdicts = [row.finding.verdict for row in rows if _is_declared(row)]
    words = ("supported", "not supported", "undecided", "not run")
    counts = [f"{verdicts.count(word)} {word}" for word in words if word in verdicts]
    left = len(rows) - len(verdicts)
    return f"{len(verdicts)} claims: {', '.join(counts)}; {left} that cannot be tested here."


def to_markdown(rows: Sequence[MeasuredClaim]) -> str:
    """Return the page as Markdown for GitHub."""
    parts = [f"# {TITLE}\n", f"{LEGEND}\n", f"{_tally(rows)}\n", "![Effects](claims.svg)\n"]
    parts += ["## What a verdict means\n", "\n".join(f"- {text}" for text in MEANING) + "\n"]
    for paper, own in _papers(rows):
        parts += [f"## {paper}\n", markdown_table([_HEADS, *map(_line, own)], numbers=(2, 3, 4))]
        parts.append("\n".join(f"- {_details(row)}" for row in own) + "\n")
    untested = [row.claim for row in rows if not _is_declared(row)]
    if untested:
        lines = [[claim.id, claim.paper, claim.statement, claim.needs] for claim in untested]
        head = ["claim", "paper", "the paper says", "would need"]
        parts += ["## Not tested here\n", markdown_table([head, *lines], numbers=())]
    return "\n".join(parts)


def to_short(rows: Sequence[MeasuredClaim]) -> str:
    """Return the table of the claims that have a question, to be embedded in a page."""
    lines = [[row.claim.question, *_line(row)[2:]] for row in rows if row.claim.question]
    return markdown_table([_SHORT_HEADS, *lines], numbers=(1, 2, 3)) + f"\n{SHORT_LEGEND}\n"


def to_html(rows: Sequence[MeasuredClaim]) -> str:
    """Return one self-contained page, without the figure."""
    papers = [
        (
            paper,
            [
                (_line(row), row.finding.verdict.replace(" ", "_"), _details(row).replace("`", ""))
                for row in own
            ],
        )
        for paper, own in _papers(rows)
    ]
    untested = [row.claim for row in rows if not _is_declared(row)]
    return html_page(
        "claims.html.j2",
        title=TITLE,
        legend=LEGEND,
        tally=_tally(rows),
        meaning=MEANING,
        heads=_HEADS,
        papers=papers,
        untested=untested,
    )
