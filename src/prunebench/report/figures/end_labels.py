"""Names of lines, written beside a panel at the height of the lines' ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform

from prunebench.report.envelope import Floats
from prunebench.report.figures.style import DPI

_GAP = 10.5  # typographic points from label to label
_LEADER, _MARKER, _TEXT = 8.0, 11.0, 16.0  # typographic points right of the panel
_POINT = 1 / 72  # inches
_CONTRAST, _DARKER = 3.5, 0.97  # of texts to white; factor of one step


@dataclass(frozen=True)
class End:
    """The end of a line: its label, its place in data coordinates, and the look of its marker."""

    label: str
    color: str
    x: float
    y: float
    marker: Mapping[str, Any] = field(default_factory=dict)  # properties of a line; empty: none
    coordinates: Transform | None = None  # of the place, if the line is moved sideways
    leader: bool = True  # a thin line from the place to the label


def label_ends(figure: Figure, panels: Sequence[tuple[Axes, Sequence[End]]]) -> None:
    """Write the names of lines right of their panels, in the lines' colors.

    The labels are moved apart, and a thin line leads from each to the end of its line. The limits
    of all axes are set before.
    """
    figure.draw_without_rendering()  # heights are only known after the layout
    for axes, ends in panels:
        _label(axes, ends)


def _label(axes: Axes, ends: Sequence[End]) -> None:
    height = axes.get_window_extent().height * 72 / DPI
    to_axes = axes.transData - axes.transAxes
    places = {id(end): to_axes.transform((end.x, end.y))[1] * height for end in ends}
    ordered = sorted(ends, key=lambda end: places[id(end)])
    middles = spread_apart([places[id(end)] for end in ordered], _GAP, (0.0, height))
    for end, middle in zip(ordered, middles, strict=True):
        place = (1, middle / height)
        if end.leader:
            _draw_leader(axes, end, place)
        axes.text(
            *place,
            end.label,
            transform=axes.transAxes + _right(axes, _TEXT if end.marker else _MARKER),
            va="center",
            color=legible(end.color),
        )
        if end.marker:
            axes.plot(
                *([value] for value in place),
                transform=axes.transAxes + _right(axes, _MARKER),
                clip_on=False,
                linestyle="",
                color=end.color,
                label="_end",
                **end.marker,
            )


def _draw_leader(axes: Axes, end: End, place: tuple[float, float]) -> None:
    axes.annotate(
        "",
        (end.x, end.y),
        xycoords=end.coordinates or axes.transData,
        xytext=place,
        textcoords=axes.transAxes + _right(axes, _LEADER),
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "color": end.color,
            "linewidth": 0.4,
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )


def _right(axes: Axes, points: float) -> ScaledTranslation:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return ScaledTranslation(points * _POINT, 0, figure.dpi_scale_trans)


def legible(color: str) -> str:
    """Return a color, darkened as far as a text on white needs.

    The contrast is at least 3.5, after the definition of the Web Content Accessibility Guidelines.

    >>> legible("#d55e00"), legible("#94b4d4")
    ('#d55e00', '#7189a1')
    """
    rgb = np.array(to_rgb(color))
    while _contrast_to_white(rgb) < _CONTRAST:
        rgb = rgb * _DARKER
    return str(to_hex(tuple(rgb)))


def _contrast_to_white(rgb: Floats) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return 1.05 / (float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)


def spread_apart(
    positions: Sequence[float], gap: float, room: tuple[float, float] | None = None
) -> list[float]:
    """Move rising positions as little as needed so that each is `gap` above the one before.

    They stay within `room` if they fit there, and half a gap from its ends.

    >>> spread_apart([0, 1, 30], 10)
    [-4.5, 5.5, 30.0]
    >>> spread_apart([0, 1, 30], 10, room=(0, 40))
    [5.0, 15.0, 30.0]
    """
    low, high = (-float("inf"), float("inf")) if room is None else room
    if high - low < gap * len(positions):
        low, high = -float("inf"), float("inf")
    blocks: list[tuple[float, int]] = []  # center of labels that touch, their number
    for position in positions:
        center, count = _within(float(position), 1, gap, low, high), 1
        while blocks and center - gap * (count - 1) / 2 < (
            blocks[-1][0] + gap * (blocks[-1][1] - 1) / 2 + gap
        ):
            below, more = blocks.pop()
            center = (center * count + below * more) / (count + more)
            count += more
            center = _within(center, count, gap, low, high)
        blocks.append((center, count))
    return [center + gap * (i - (count - 1) / 2) for center, count in blocks for i in range(count)]


def _within(center: float, count: int, gap: float, low: float, high: float) -> float:
    """Return the center of some labels that touch, moved into the room."""
    half = gap * count / 2
    return min(max(center, low + half), high - half)
