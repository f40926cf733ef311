"""How figures are drawn: their width, and which methods are in color. Without matplotlib."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from prunebench.core.errors import ConfigError
from prunebench.report.looks import MOST_IN_COLOR

Style = Literal["column", "page"]
STYLES: tuple[str, ...] = get_args(Style)
COLUMN_WIDTH = 90.0  # mm
PAGE_WIDTH = 180.0  # mm


@dataclass(frozen=True)
class Options:
    """How a figure is drawn: for a column or a page of a paper, and which methods are in color.

    `highlight` is empty for the default methods (`looks.highlights`). ConfigError for an unknown
    style or more than eight methods.
    """

    style: str = "page"
    highlight: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the options."""
        if self.style not in STYLES:
            raise ConfigError(f"style: {self.style!r} is none of {', '.join(STYLES)}")
        if len(self.highlight) > MOST_IN_COLOR:
            raise ConfigError(
                f"highlight: {len(self.highlight)} methods are given, and at most {MOST_IN_COLOR} "
                "lines are drawn in color"
            )

    @property
    def width(self) -> float:
        """Return the width of the column or page in mm."""
        return COLUMN_WIDTH if self.style == "column" else PAGE_WIDTH

    def columns(self, panels: int, most: int) -> int:
        """Return the number of panels side by side; `most` fit on a page, and half on a column.

        >>> Options().columns(6, most=4), Options("column").columns(6, most=4)
        (4, 2)
        """
        return max(1, min(panels, most if self.style == "page" else most // 2))


PAGE = Options()
