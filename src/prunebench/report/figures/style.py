"""How figures look: one color and marker per method, the same in every figure; sizes and type.

The methods that this project reproduces have strong colors (after the palette of Okabe and Ito,
which color-blind readers can tell apart; variants of one method share a hue), the baselines tones
of grey-blue, the controls are grey and dotted. No two methods share color and marker.

What all figures share: the style, the size in millimeters, legends, and saving.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from prunebench.core.files import replacing

Group = Literal["own", "plug_in", "baseline", "control"]
GROUPS: tuple[Group, ...] = ("own", "plug_in", "baseline", "control")  # order of legends

HALF_WIDTH = 90.0  # mm, a column of a paper
FULL_WIDTH = 180.0  # mm, a page of it
DPI = 200
INK = "#1b1f24"
SOFT = "#5b6672"
LINE = "#d5dbe1"
BAND = "#eef2f5"

RC: dict[str, object] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so that every machine has it
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks the same without the font
    "svg.hashsalt": "prunebench",  # the same ids from the same data
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    color: str
    marker: str
    group: Group

    @property
    def line(self) -> str:
        """Return matplotlib's line style: dotted for controls."""
        return ":" if self.group == "control" else "-"

    @property
    def fill(self) -> str:
        """Return the color inside the marker: white for controls."""
        return "white" if self.group == "control" else self.color


LOOKS = {
    "asrfp": Look("#00664b", "v", "own"),
    "early_bird": Look("#cc79a7", "*", "own"),
    "epruner": Look("#0072b2", "D", "own"),
    "greg_1": Look("#d55e00", "o", "own"),
    "greg_2": Look("#8a3a00", "s", "own"),
    "group_fisher": Look("#1b1f24", "X", "own"),
    "increg": Look("#e69f00", "P", "own"),
    "orthoreg": Look("#4b1f6f", "p", "own"),
    "srfp": Look("#1fa97c", "^", "own"),
    "asfp": Look("#7c99b3", ">", "baseline"),
    "bn_scale": Look("#4b6985", "h", "baseline"),
    "fisher": Look("#5f7f9e", "X", "baseline"),
    "fixreg": Look("#7c99b3", "o", "baseline"),
    "fpgm": Look("#4b6985", "D", "baseline"),
    "grasp": Look("#5f7f9e", "p", "baseline"),
    "l1": Look("#4b6985", "s", "baseline"),
    "l2": Look("#7c99b3", "s", "baseline"),
    "mask_fisher": Look("#4b6985", "X", "baseline"),
    "rdt": Look("#5f7f9e", "P", "baseline"),
    "sfp": Look("#5f7f9e", "<", "baseline"),
    "soft_fpgm": Look("#4b6985", "P", "baseline"),
    "taylor": Look("#4b6985", "^", "baseline"),
    "tfo": Look("#7c99b3", "v", "baseline"),
    "random": Look("#6e6e6e", "x", "control"),
    "scratch_b": Look("#8c8c8c", "o", "control"),
    "scratch_e": Look("#8c8c8c", "d", "control"),
    "uniform_width": Look("#6e6e6e", "s", "control"),
}
_PLUG_IN_COLORS = ("#b5006c", "#00798c", "#7a6a00", "#a6322e")
_PLUG_IN_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def look(method: str) -> Look:
    """Return a method's look; an unknown method's is drawn from its name, so that it stays.

    >>> look("greg_1").color, look("random").line, look("my_method") == look("my_method")
    ('#d55e00', ':', True)
    """
    if method in LOOKS:
        return LOOKS[method]
    number = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")
    rest, color = divmod(number, len(_PLUG_IN_COLORS))
    marker = _PLUG_IN_MARKERS[rest % len(_PLUG_IN_MARKERS)]
    return Look(_PLUG_IN_COLORS[color], marker, "plug_in")


P = ParamSpec("P")
R = TypeVar("R")
MM = 1 / 25.4  # inches


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with our settings on top of matplotlib's own defaults, whatever the user's are."""

    @functools.wraps(draw)
    def with_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with style.context(["default", RC]):
            return draw(*args, **kwargs)

    return with_style


def new_figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure of a size in mm, its title at the left."""
    figure = Figure(figsize=(width * MM, height * MM), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def legend_below(figure: Figure, lines: Mapping[str, Artist]) -> int:
    """Put a legend of label -> artist under all panels; return its number of rows."""
    if not lines:
        return 0
    room = figure.get_figwidth() * 72  # typographic points
    widths = [38 + 5 * len(label) for label in lines]  # handle and gaps, letters of 8 pt
    rows = 1 if sum(widths) < room else math.ceil(len(lines) / max(1, int(room / max(widths))))
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside lower center",
        ncols=math.ceil(len(lines) / rows),
        columnspacing=1.4,
        handlelength=2.2,
        handletextpad=0.5,
    )
    return rows


@styled
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.svg` and `<stem>.png` without dates or versions; return their paths."""
    metadata = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
    paths = []
    for suffix, nothing in metadata.items():
        path = stem.with_name(stem.name + suffix)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=nothing)
        paths.append(path)
    return paths
