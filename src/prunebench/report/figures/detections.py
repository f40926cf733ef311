"""Figure: what the base network and each pruned network find in the same pictures."""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from PIL import Image, UnidentifiedImageError

from prunebench.core.errors import ResultError
from prunebench.core.files import write_text
from prunebench.experiments.results import DetectionsResult
from prunebench.experiments.spec import ratio_slug
from prunebench.report.collected_detections import Found, ShownNetwork, read_detections
from prunebench.report.figures.figure_options import PAGE, Options
from prunebench.report.figures.style import (
    INK,
    LEGEND_ROW,
    LINE_HEIGHT,
    MM,
    SOFT,
    legend_below,
    new_figure,
    save,
    styled,
    wrapped,
)
from prunebench.report.headings import shortened
from prunebench.report.looks import look
from prunebench.report.runs_csv import NETWORK, UNPRUNED, metric_of, read_runs
from prunebench.report.series import Pick, at_one_ratio, in_color, per_network

NAME = "detections"
_MOST_COLUMNS = 8
_TOP, _HEADING, _TITLE, _GAP, _MARGIN = 7.0, 4.5, 8.5, 0.8, 1.0  # mm
# Bright colors, which stand out from photographs
COLORS = (
    *("#ffb000", "#4cc2ff", "#ff5a36", "#35d07f", "#f3e24a"),
    *("#ff7ad1", "#a58bff", "#b4f04a", "#ffffff", "#d9985f"),
)
_MOST_IN_LEGEND = 20
_SHORT = 3  # letters of a class's name that is written beside a box
_HALO: list[AbstractPathEffect] = [withStroke(linewidth=1.7, foreground="#00000090")]
_FAINT_HALO: list[AbstractPathEffect] = [withStroke(linewidth=1.1, foreground="#000000a0")]
Pixels = npt.NDArray[np.uint8]
Colors = Mapping[str, str]  # by class


@dataclass(frozen=True)
class _Column:
    """A network and what it finds in each picture."""

    title: str
    color: str
    found: Found


@dataclass(frozen=True)
class _Part:
    """A base network and the networks that were pruned from it."""

    heading: str
    network: ShownNetwork
    columns: Sequence[_Column]
    pictures: Sequence[Pixels]
    options: Options

    @property
    def grid(self) -> tuple[int, int]:
        """Return the number of columns beside each other, and of bands one below the other."""
        return grid_of(len(self.columns), self.options.columns(_MOST_COLUMNS, _MOST_COLUMNS))

    @property
    def width(self) -> float:
        """Return the width of a picture in mm."""
        beside, _ = self.grid
        return (self.options.width - 2 * _MARGIN + _GAP) / beside - _GAP

    @property
    def heights(self) -> list[float]:
        """Return the heights of the pictures in mm."""
        return [self.width * p.shape[0] / p.shape[1] for p in self.pictures]

    @property
    def height(self) -> float:
        """Return the height in mm."""
        _, bands = self.grid
        lines = self.heading.count("\n") * LINE_HEIGHT
        return _HEADING + lines + bands * (_TITLE + sum(self.heights) + _GAP * len(self.pictures))


def grid_of(count: int, most: int) -> tuple[int, int]:
    """Return the number of columns beside each other, and of bands one below the other.

    >>> grid_of(8, most=8), grid_of(9, most=8), grid_of(17, most=8)
    ((8, 1), (5, 2), (6, 3))
    """
    bands = math.ceil(count / most)
    return math.ceil(count / bands), bands


def write_detections_figure(runs_csv: Path, out: Path, options: Options = PAGE) -> list[Path]:
    """Write detections.svg, .png and .pdf if detections lie beside runs.csv; return their paths."""
    shown = read_detections(runs_csv.parent).networks
    if not shown:
        return []
    paths = save(detections(read_runs(runs_csv), shown, options), out / NAME)
    write_text(paths[0], with_shared_images(paths[0].read_text(encoding="utf-8")))
    return paths


@styled
def detections(
    frame: pd.DataFrame, shown: Sequence[ShownNetwork], options: Options = PAGE
) -> Figure:
    """Draw the boxes of the base network and of every method at one ratio, a row per picture.

    Boxes have the color of their class; true boxes are dashed. Columns that do not fit beside each
    other continue below. With more than eight methods, those are shown that other figures draw in
    color.
    """
    parts = _parts(frame, shown, options)
    colors = colors_of(part.network for part in parts)
    words = f"Detections with a score of {DetectionsResult.FEWEST:g} or more"
    title = wrapped(" · ".join(filter(None, [words, shortened(frame)])), options.width, bold=True)
    top = _TOP + title.count("\n") * LINE_HEIGHT
    figure = new_figure(options.width, top + sum(part.height for part in parts), title)
    rows = legend_below(figure, _legend(colors))
    figure.set_figheight(figure.get_figheight() + (rows * LEGEND_ROW + 2) * MM)
    figure.suptitle(title, x=0.01, y=1 - _MARGIN * MM / figure.get_figheight(), ha="left")
    for part in parts:
        _draw(figure, part, top, colors)
        top += part.height
    figure.set_layout_engine("none")  # all places are given
    return figure


def _parts(frame: pd.DataFrame, shown: Sequence[ShownNetwork], options: Options) -> list[_Part]:
    known = {(network.dataset, network.architecture): network for network in shown}
    parts = []
    for title, runs, cells in per_network(frame):
        dataset, architecture = runs[NETWORK].iloc[0]
        if network := known.get((dataset, architecture)):
            words, picks = at_one_ratio(cells)
            colored, _ = in_color(picks, options.highlight)
            columns = _columns(network, runs, colored)
            pictures = [_pixels(text) for text in network.jpeg]
            heading = wrapped(f"{title} · {words} · seed {network.seed}", options.width)
            parts.append(_Part(heading, network, columns, pictures, options))
    return parts


def _columns(network: ShownNetwork, runs: pd.DataFrame, picks: Iterable[Pick]) -> list[_Column]:
    """Return the base network and the picked cells that have detections."""
    metric = metric_of(runs).short
    own = runs[runs["seed"] == network.seed]
    base = own["base_accuracy"].iloc[0]
    columns = [_Column(f"base\n{metric} {base:.1f}", INK, network.base)]
    for pick in picks:
        cell = pick.cell
        ratio = ratio_slug(None if pd.isna(cell["ratio"]) else cell["ratio"], cell["ratio_kind"])
        found = network.runs.get(f"{pick.method}/{cell['setting']}/{ratio}")
        rows = pick.runs(own)
        if found is not None and len(rows) and pick.method != UNPRUNED:
            words = f"{pick.label}\n{metric} {rows['accuracy'].iloc[0]:.1f}"
            columns.append(_Column(words, look(pick.method).color, found))
    return columns


def colors_of(networks: Iterable[ShownNetwork]) -> dict[str, str]:
    """Return the color of each class of which there is a box; beyond ten, classes share colors."""
    names: dict[str, None] = {}
    for network in networks:
        labels = {box.label for boxes in network.truth for box in boxes}
        for found in (network.base, *network.runs.values()):
            labels |= {box.label for boxes in found for box in boxes}
        names |= dict.fromkeys(network.classes[label] for label in sorted(labels))
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def _draw(figure: Figure, part: _Part, top: float, colors: Colors) -> None:
    """Draw a network's part; `top` is its distance in mm from the figure's upper edge."""
    whole, page = figure.get_figheight() / MM, part.options.width
    figure.text(_MARGIN / page, 1 - (top + 0.5) / whole, part.heading, va="top")
    beside, bands = part.grid
    head = part.height - bands * (_TITLE + sum(part.heights) + _GAP * len(part.pictures))
    for number, column in enumerate(part.columns):
        band, place = divmod(number, beside)
        left = _MARGIN + place * (part.width + _GAP)
        y = top + head + band * (part.height - head) / bands + _TITLE
        for image, height in enumerate(part.heights):
            box = (left, whole - y - height, part.width, height)
            axes = figure.add_axes((box[0] / page, box[1] / whole, box[2] / page, box[3] / whole))
            axes.set_axis_off()
            axes.imshow(part.pictures[image], interpolation="none", aspect="auto")
            if image == 0:
                axes.set_title(column.title, loc="left", color=column.color, pad=2)
            _boxes(axes, part.network, image, column.found, colors)
            y += height + _GAP


def _boxes(axes: Axes, network: ShownNetwork, image: int, found: Found, colors: Colors) -> None:
    writes = max(map(len, colors)) <= _SHORT
    for true in network.truth[image]:
        _box(axes, true[1:], colors[network.classes[true.label]], dashed=True)
    for box in reversed(found[image]):  # the best on top
        name = network.classes[box.label]
        _box(axes, box[2:], colors[name])
        if writes:
            axes.annotate(
                name,
                (box.x1 - 0.5, box.y1 - 0.5),
                xytext=(0.5, 1),
                textcoords="offset points",
                color=colors[name],
                fontweight="bold",
                bbox={"facecolor": "#000000a0", "linewidth": 0, "pad": 0.4},
            )


def _box(axes: Axes, corners: Sequence[float], color: str, *, dashed: bool = False) -> None:
    x1, y1, x2, y2 = corners
    rectangle = Rectangle(
        (x1 - 0.5, y1 - 0.5),  # pixel 0 is drawn from -0.5 to 0.5
        x2 - x1,
        y2 - y1,
        fill=False,
        edgecolor=color,
        linewidth=0.6 if dashed else 0.9,
        linestyle=(0, (2, 2)) if dashed else "-",
    )
    rectangle.set_path_effects(_FAINT_HALO if dashed else _HALO)
    axes.add_patch(rectangle)


def _legend(colors: Colors) -> dict[str, Artist]:
    named = {
        name: Patch(facecolor=color, edgecolor=SOFT, linewidth=0.4)
        for name, color in list(colors.items())[:_MOST_IN_LEGEND]
    }
    true = Patch(fill=False, edgecolor=SOFT, linestyle=(0, (2, 2)), linewidth=0.8)
    return {**named, "true box": true}


def _pixels(text: str) -> Pixels:
    """Return a picture as uint8 (h, w, 3)."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            return np.asarray(image.convert("RGB"))
    except (binascii.Error, UnidentifiedImageError):
        raise ResultError("detections.json: a picture is no JPEG file; measure it again") from None


def with_shared_images(svg: str) -> str:
    """Return an SVG of matplotlib's in which equal images are stored once.

    Every column has the same pictures, which make up almost all of the file.
    """
    stored: dict[str, str] = {}

    def used(match: re.Match[str]) -> str:
        data, rest = match["data"], match["rest"]
        # An image in <defs> is not drawn; <use> draws it with the attributes of its place.
        size = " ".join(re.findall(r'\b(?:width|height)="[^"]*"', rest))
        name = f"picture{len(stored)}"
        image = f'<image id="{{}}" xlink:href="{data}" {size}/>'
        name = stored.setdefault(image, name)
        place = " ".join(re.findall(r'\b(?:transform|x|y|style)="[^"]*"', rest))
        return f'<use xlink:href="#{name}" {place}/>'

    text = re.sub(r'<image xlink:href="(?P<data>data:[^"]*)"(?P<rest>[^>]*)/>', used, svg)
    images = "\n".join(image.replace("{}", name, 1) for image, name in stored.items())
    return text.replace("<defs>", f"<defs>\n{images}", 1)
