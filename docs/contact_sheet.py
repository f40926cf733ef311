"""Lay out figures at printed size on A4 pages: docs/figures.pdf.

    python docs/contact_sheet.py results/reference

shows every PNG file in `<folder>/<experiment>/figures/` or `<folder>/<experiment>/`. More folders
may follow, for figures of another width (`prunebench figures --style column`). The same figures
give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from PIL import Image

DPI = 200  # of the PNG files
MM = 1 / 25.4  # inches
PAGE = (210.0, 297.0)  # mm, A4
MARGIN, GAP, CAPTION = 10.0, 6.0, 5.0  # mm
COLORS = 160  # of each figure, so that the file stays small
NOTHING = {"CreationDate": None, "Creator": None, "Producer": None}


@dataclass(frozen=True)
class Part:
    """A figure, or a part of one that is taller than a page."""

    caption: str
    image: Image.Image

    @property
    def size(self) -> tuple[float, float]:
        """Return width and height in mm, with the caption."""
        width, height = (pixels / DPI / MM for pixels in self.image.size)
        return width, height + CAPTION


def parts_of(path: Path) -> Iterator[Part]:
    """Yield a figure in one part, or in several if it is taller than a page."""
    experiment = path.parent.parent if path.parent.name == "figures" else path.parent
    with Image.open(path) as file:
        rgb = file.convert("RGB")
    few = rgb.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image = few.convert("RGB")
    room = int((PAGE[1] - 2 * MARGIN - CAPTION) * MM * DPI)
    width_mm = image.width / DPI / MM
    for top in range(0, image.height, room):
        more = " (continued)" if top else ""
        caption = f"{experiment.name} · {path.stem} · {width_mm:.0f} mm{more}"
        yield Part(caption, image.crop((0, top, image.width, min(top + room, image.height))))


def pages_of(parts: Sequence[Part]) -> list[list[tuple[float, float, Part]]]:
    """Return the pages: left and top of each part in mm, in order, side by side if they fit."""
    pages: list[list[tuple[float, float, Part]]] = [[]]
    left, top, bottom = MARGIN, MARGIN, MARGIN  # where the next part of the row goes, and its end
    for part in parts:
        width, height = part.size
        if left + width > PAGE[0] - MARGIN + 1 or top + height > PAGE[1] - MARGIN + 1:
            left, top = MARGIN, bottom + GAP if pages[-1] else MARGIN
        if top + height > PAGE[1] - MARGIN + 1:
            pages.append([])
            top = bottom = MARGIN
        pages[-1].append((left, top, part))
        left, bottom = left + width + GAP - 2, max(bottom, top + height)
    return pages


def draw_page(placed: Sequence[tuple[float, float, Part]]) -> Figure:
    """Return one A4 page."""
    figure = Figure(figsize=(PAGE[0] * MM, PAGE[1] * MM))
    for left, top, part in placed:
        width, height = part.size
        figure.text(
            left / PAGE[0], 1 - (top + 1) / PAGE[1], part.caption, va="top", color="#5b6672"
        )
        box = (left, PAGE[1] - top - height, width, height - CAPTION)
        axes = figure.add_axes(
            (box[0] / PAGE[0], box[1] / PAGE[1], box[2] / PAGE[0], box[3] / PAGE[1])
        )
        axes.set_axis_off()
        axes.imshow(np.asarray(part.image), interpolation="none", aspect="auto")
    return figure


def main() -> None:
    """Write the contact sheet."""
    parser = argparse.ArgumentParser(description="Lay out figures at printed size on A4 pages.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures.pdf")
    options = parser.parse_args()
    paths = [
        path
        for folder in options.folders
        for path in sorted([*folder.glob("*/figures/*.png"), *folder.glob("*/*.png")])
    ]
    if not paths:
        parser.error(f"no PNG files in {', '.join(map(str, options.folders))}")
    parts = [part for path in paths for part in parts_of(path)]
    with (
        rc_context({"font.size": 8, "pdf.fonttype": 42, "figure.dpi": DPI, "savefig.dpi": DPI}),
        PdfPages(options.out, metadata=NOTHING) as file,
    ):
        for placed in pages_of(parts):
            file.savefig(draw_page(placed), dpi=DPI)
    print(f"{len(paths)} figures · {options.out}")


if __name__ == "__main__":
    main()
