"""The look of every method: one color and marker, the same in all figures, and its group.

The methods of the six papers have strong colors (after the palette of Okabe and Ito, which
color-blind readers can tell apart; variants of one method share a hue). Baselines have tones of
grey-blue, controls are grey and dotted. No two methods share both color and marker. A panel shows
at most eight lines in color; `highlights` chooses their methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Group = Literal["paper", "plug_in", "baseline", "control"]
GROUPS: tuple[Group, ...] = ("paper", "plug_in", "baseline", "control")  # order of legends
REFERENCES = ("unpruned", "random", "l1")  # rows of every short table
MOST_IN_COLOR = 8  # lines of a panel


@dataclass(frozen=True)
class Look:
    """The color and marker of a method, its group, and its paper if the group is "paper"."""

    color: str
    marker: str
    group: Group
    paper: str | None = None  # a file of papers/published_rows

    @property
    def line(self) -> str:
        """Return matplotlib's line style, dotted for controls."""
        return ":" if self.group == "control" else "-"

    @property
    def fill(self) -> str:
        """Return the color inside the marker, white for controls."""
        return "white" if self.group == "control" else self.color


LOOKS = {
    "asrfp": Look("#00664b", "v", "paper", "srfp"),
    "early_bird": Look("#cc79a7", "*", "paper", "orthoreg"),
    "epruner": Look("#0072b2", "D", "paper", "epruner"),
    "greg_1": Look("#d55e00", "o", "paper", "greg"),
    "greg_2": Look("#8a3a00", "s", "paper", "greg"),
    "group_fisher": Look("#1b1f24", "X", "paper", "group_fisher"),
    "increg": Look("#e69f00", "P", "paper", "increg"),
    "increg_accuracy": Look("#bfa64d", "d", "paper", "increg"),
    "orthoreg": Look("#4b1f6f", "p", "paper", "orthoreg"),
    "orthoreg_from_base": Look("#9c00e6", "h", "paper", "orthoreg"),
    "srfp": Look("#1fa97c", "^", "paper", "srfp"),
    "asfp": Look("#7c99b3", ">", "baseline"),
    "bn_scale": Look("#5f7f9e", "h", "baseline"),
    "fisher": Look("#5f7f9e", "X", "baseline"),
    "fixreg": Look("#7c99b3", "o", "baseline"),
    "fpgm": Look("#243f5c", "D", "baseline"),
    "grasp": Look("#4a74a0", "p", "baseline"),
    "hrank": Look("#4a74a0", "D", "baseline"),
    "l1": Look("#4b6985", "s", "baseline"),
    "l1_columns": Look("#5f7f9e", "s", "baseline"),
    "l2": Look("#94b4d4", "s", "baseline"),
    "lamp": Look("#243f5c", "^", "baseline"),
    "mask_fisher": Look("#243f5c", "X", "baseline"),
    "rdt": Look("#94b4d4", "P", "baseline"),
    "sfp": Look("#5f7f9e", "<", "baseline"),
    "slimming": Look("#5f7f9e", "o", "baseline"),
    "soft_fpgm": Look("#4b6985", "P", "baseline"),
    "taylor": Look("#4a74a0", "^", "baseline"),
    "tfo": Look("#94b4d4", "v", "baseline"),
    "random": Look("#6e6e6e", "x", "control"),
    "scratch_b": Look("#8c8c8c", "o", "control"),
    "scratch_e": Look("#8c8c8c", "d", "control"),
    "uniform_width": Look("#6e6e6e", "s", "control"),
}
_PLUG_IN_COLORS = ("#b5006c", "#00798c", "#7a6a00", "#a6322e")
_PLUG_IN_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def look(method: str) -> Look:
    """Return a method's look; that of an unknown method follows from a hash of its name.

    >>> look("greg_1").color, look("random").line, look("my_method") == look("my_method")
    ('#d55e00', ':', True)
    """
    if method in LOOKS:
        return LOOKS[method]
    number = int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")
    rest, color = divmod(number, len(_PLUG_IN_COLORS))
    marker = _PLUG_IN_MARKERS[rest % len(_PLUG_IN_MARKERS)]
    return Look(_PLUG_IN_COLORS[color], marker, "plug_in")


def highlights(methods: Iterable[str]) -> list[str]:
    """Return the methods to draw in color, at most eight, the first choice first.

    These are the first method of each paper, then l1, plug-ins, random, and the others in order.

    >>> highlights(["l2", "random", "l1", "greg_2", "greg_1"])
    ['greg_2', 'l1', 'random', 'l2', 'greg_1']
    """
    names = list(dict.fromkeys(methods))
    of_papers: dict[str, str] = {}
    for name in names:
        if paper := look(name).paper:
            of_papers.setdefault(paper, name)
    plug_ins = [name for name in names if look(name).group == "plug_in"]
    ranked = dict.fromkeys([*of_papers.values(), "l1", *plug_ins, "random", *names])
    return [name for name in ranked if name in names][:MOST_IN_COLOR]
