"""A table before it becomes Markdown, LaTeX or HTML: sections of rows, and numbers as text.

A number has as many digits as are meaningful, and a dash stands for a missing value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

DASH = "–"
MINUS = "−"
UNSTABLE = "unstable"  # the word beside a measurement that cannot be trusted
# "prose" is text that breaks over lines in LaTeX
Style = Literal["points", "percent", "speedup", "significant", "count", "interval", "text", "prose"]


@dataclass(frozen=True)
class Cell:
    """One printed cell."""

    text: str = DASH
    spread: str | None = None  # standard deviation over n >= 2 seeds, without unit
    key: float | str | None = None  # for sorting
    is_unstable: bool = False  # the text is a range, without a key: it has no rank
    link: str | None = None  # in HTML, relative to the page

    def __str__(self) -> str:
        """Return the cell as plain text."""
        if self.is_unstable:
            return f"{self.text} {UNSTABLE}"
        return self.text if self.spread is None else f"{self.text} ± {self.spread}"


@dataclass(frozen=True)
class Column:
    """One printed column."""

    name: str  # of the quantity
    head: str
    unit: str = ""
    style: Style = "text"
    spread: bool = False  # print ± for two or more seeds

    @property
    def is_text(self) -> bool:
        """Whether the column holds words instead of numbers."""
        return self.style in ("text", "prose")


@dataclass(frozen=True)
class Line:
    """One printed row."""

    cells: tuple[Cell, ...]
    is_base: bool
    opens_ratio: bool  # the first of a block of rows with the same ratio
    method: str | None = None  # in HTML, to be highlighted together with the method's marks


@dataclass(frozen=True)
class Section:
    """The rows of one network on one dataset."""

    heading: str  # dataset and network
    subtitle: str  # the base's accuracy; for a moved experiment, a warning
    lines: tuple[Line, ...]
    notes: tuple[str, ...]  # below the table


@dataclass(frozen=True)
class Table:
    """A title, the columns of all sections, and a section per network."""

    title: str  # empty in a table to embed in a page
    legend: str  # explains the columns
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]


def number_cell(value: float, style: Style, std: float = math.nan) -> Cell:
    """Return the cell of a number; NaN becomes a dash, and a spread of NaN is omitted.

    >>> str(number_cell(98.888, "points", 0.121)), str(number_cell(-0.2, "points"))
    ('98.89 ± 0.12', '−0.20')
    >>> str(number_cell(1.9931, "speedup", 0.012)), str(number_cell(math.nan, "percent"))
    ('1.99× ± 0.01', '–')
    """
    if math.isnan(value):
        return Cell()
    spread = None if math.isnan(std) else format_number(std, style).removesuffix("×")
    return Cell(format_number(value, style), spread, value)


def interval_cell(low: float, high: float) -> Cell:
    """Return the cell of an interval in points; a bound of NaN makes it a dash.

    >>> str(interval_cell(-0.1, 0.523)), str(interval_cell(math.nan, math.nan))
    ('[−0.10, 0.52]', '–')
    """
    if math.isnan(low) or math.isnan(high):
        return Cell()
    bounds = (format_number(bound, "points") for bound in (low, high))
    return Cell(f"[{', '.join(bounds)}]", key=low)


def unstable_cell(low: float, high: float, style: Style) -> Cell:
    """Return the cell of an unstable measurement: its range, in parentheses.

    >>> str(unstable_cell(1.418, 1.75, "speedup"))
    '(1.42–1.75×) unstable'
    """
    start = format_number(low, style).removesuffix("×")
    return Cell(f"({start}{DASH}{format_number(high, style)})", is_unstable=True)


def format_number(value: float, style: Style) -> str:
    """Return a number as text.

    >>> format_number(-0.001, "points"), format_number(12, "count")
    ('0.00', '12')
    """
    match style:
        case "count":
            text = f"{value:.0f}"
        case "significant":
            text = significant(value)
        case "percent":
            text = f"{value:.1f}"
        case _:
            text = f"{value:.2f}"
    if text.startswith("-"):
        text = MINUS + text[1:] if float(text) else text[1:]
    return text + "×" if style == "speedup" else text


def significant(value: float, digits: int = 3) -> str:
    """Return `digits` significant digits, or an exponent for very large and small numbers.

    >>> [significant(x) for x in (0, 0.05234, 33.14, 1234.5, 2.5e7, 0.00004)]
    ['0', '0.0523', '33.1', '1234', '2.5e7', '4.0e-5']
    """
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -4 < exponent < 5:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(power)}"
    return f"{value:.{max(0, digits - 1 - exponent)}f}"
