"""Figure: the effects of claims with their intervals, a panel per unit, grouped by paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prunebench.report.claims.declared_claims import Unit
from prunebench.report.claims.measured_claims import MeasuredClaim
from prunebench.report.figures.figure_options import PAGE_WIDTH
from prunebench.report.figures.style import (
    BAND,
    INK,
    LINE,
    SOFT,
    legend_below,
    new_figure,
    styled,
)

# verdict -> color, marker, whether it is filled (Okabe and Ito's palette)
LOOKS = {
    "supported": ("#0072b2", "o", True),
    "not supported": ("#d55e00", "s", True),
    "undecided": (SOFT, "D", False),
}
FACTORS = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)]  # ticks of a factor
_ROW = 5.2  # mm
_PANEL = 13.0  # mm, of title, ticks and axis label
_HEAD = 8.0


@styled
def forest_plot(rows: Sequence[MeasuredClaim]) -> Figure:
    """Draw each measured effect with its 95 % interval, claims of one unit in one panel.

    The vertical line is the bound that a claim must exceed, the band the margin of practical
    equality. Claims that were not run are left out.
    """
    by_unit: dict[Unit, list[MeasuredClaim]] = {}
    for row in rows:
        if row.finding.estimate is not None:
            by_unit.setdefault(row.claim.unit, []).append(row)
    sizes = [_PANEL + _ROW * len(own) for own in by_unit.values()]
    figure = new_figure(PAGE_WIDTH, _HEAD + sum(sizes) + 6, "Effects behind the papers' claims")
    panels = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (unit, own) in zip(panels, by_unit.items(), strict=True):
        _panel(axes, unit, own)
    legend_below(figure, {name: _handle(name) for name in LOOKS})
    return figure


def _panel(axes: Axes, unit: Unit, rows: Sequence[MeasuredClaim]) -> None:
    axes.grid(visible=False, axis="y")
    for place, row in enumerate(rows):
        one, claim = row.finding.estimate, row.claim
        assert one is not None
        band = (claim.bound - claim.equality, claim.bound + claim.equality)
        axes.fill_betweenx([place - 0.5, place + 0.5], *band, color=BAND, linewidth=0, zorder=0)
        axes.plot([claim.bound] * 2, [place - 0.5, place + 0.5], color=INK, linewidth=0.8)
        color, marker, is_filled = LOOKS[row.finding.verdict]
        if not math.isnan(one.low):
            axes.plot([one.low, one.high], [place, place], color=color, solid_capstyle="butt")
        axes.plot(
            [one.effect],
            [place],
            linestyle="none",
            marker=marker,
            color=color,
            markerfacecolor=color if is_filled else "white",
            label=claim.id,
            zorder=3,
        )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.set_xlabel(f"Effect ({'factor' if unit.is_log10 else unit.name})")
    if unit.is_log10:
        low, high = axes.get_xlim()
        ticks = [math.log10(x) for x in FACTORS if low <= math.log10(x) <= high]
        axes.set_xticks(ticks, [f"{10**x:.4g}×" for x in ticks])
    papers = [row.claim.paper for row in rows]
    for place, paper in enumerate(papers):
        if paper not in papers[:place]:
            axes.annotate(
                paper,
                (1, place),
                xycoords=axes.get_yaxis_transform(),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                color=SOFT,
            )
            if place:
                axes.axhline(place - 0.5, color=LINE, linewidth=0.5, zorder=0.5)


def _label(row: MeasuredClaim) -> str:
    one = row.finding.estimate
    assert one is not None
    return f"{row.claim.label} · {row.claim.id} (n = {one.n})"


def _handle(verdict: str) -> Line2D:
    color, marker, is_filled = LOOKS[verdict]
    return Line2D(
        [], [], color=color, marker=marker, markerfacecolor=color if is_filled else "white"
    )
