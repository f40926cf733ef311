"""How a printed cost follows from counts: the rules that papers/published_structures is written in.

A rule says what is left (`kept`) of which quantity; the cell's column says whether the count
itself is printed, its reduction in percent, or the speedup. Rules hold numbers and names only, so
that a reader can check each against the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prunebench.experiments.settings import Settings
from prunebench.papers.structures import QUANTITIES, Quantity

Column = Literal[
    "flops_m",
    "flops_reduction_pct",
    "params_m",
    "params_reduction_pct",
    "speedup_theoretical",
    "memory_m",
    "sparsity_pct",
]
Digits = Literal["round", "truncate", "either"]
# What a row prints as its ratio can be read by a rule too, where it says what is left.
Source = Literal[Column, "speedup_ratio", "remaining_ratio"]
RATIO_KINDS: Mapping[str, str] = {"speedup_ratio": "speedup", "remaining_ratio": "flops"}
COUNTS = ("flops_m", "params_m", "memory_m")


def kept_share(column: str, value: float, base: float) -> float:
    """Return the share that is left, from a printed value; `base` is in millions.

    >>> kept_share("flops_reduction_pct", 52.6, 125.0), kept_share("speedup_theoretical", 4, 125.0)
    (0.474, 0.25)
    """
    if column in COUNTS:
        return value / base
    if column in ("speedup_theoretical", "speedup_ratio"):
        return 1 / value
    if column == "remaining_ratio":
        return value / 100
    return round(1 - value / 100, 12)


def as_column(column: str, kept: float, base: float) -> float:
    """Return what a column shows where `kept` of `base` millions are left.

    >>> as_column("flops_m", 30.0, 120.0), as_column("params_reduction_pct", 30.0, 120.0)
    (30.0, 75.0)
    """
    if column in COUNTS:
        return kept
    if column == "speedup_theoretical":
        return base / kept
    return 100 * (1 - kept / base)


class Rounded(Settings):
    """Counts are rounded before they are divided: to so many decimals, one after the other."""

    unit: Literal["G", "M"]
    decimals: Annotated[tuple[int, ...], Field(min_length=1)]

    def apply(self, millions: float) -> float:
        """Return a count in millions after rounding.

        >>> Rounded(unit="G", decimals=(4, 3)).apply(17.491512)
        18.0
        """
        factor = 1000 if self.unit == "G" else 1
        value = Decimal(repr(millions / factor))
        for decimals in self.decimals:
            value = value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
        return float(value * factor)


class Rule(Settings):
    """One way in which a cell can follow.

    Attributes
    ----------
    of
        The quantity that is counted.
    share
        What is left is this share of the base: the target at which a method stops.
    column
        What is left is what this row prints in another column: the arithmetic is checked. Its
        printed ratio can be read as a speedup, or as the percentage of operations that remains.
    row
        With `column`: what another row prints there, found by its columns.
    instead
        With `column`: another print of that number, which the reason names.
    rounded
        Counts are rounded before they are divided.
    swap
        The last two digits of the number are printed in the wrong order.
    reason
        Why the cell follows in another way than its column; needed beside the first rule.

    Without share and column what is left is the row's own structure, counted.
    """

    of: Quantity
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    column: Source | None = None
    row: dict[str, str] = {}
    instead: Decimal | None = None
    rounded: Rounded | None = None
    swap: bool = False
    reason: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> Rule:
        if self.share is not None and self.column is not None:
            raise ValueError("give either share or column")
        if (self.row or self.instead) and self.column is None:
            raise ValueError("row and instead need the column that they are read for")
        return self

    @property
    def words(self) -> str:
        """Return the convention in words."""
        words = QUANTITIES[self.of]
        if self.share is not None:
            words = f"{self.share:.0%} of the base's {words}"
        elif self.row:
            words = f"{self.column} of another row; {words}"
        elif self.instead is not None:
            words = f"{self.instead} as {self.column} against the recomputed base; {words}"
        elif self.column is not None:
            words = f"printed {self.column} against the recomputed base; {words}"
        if self.rounded:
            decimals = ", then ".join(str(d) for d in self.rounded.decimals)
            words += f"; counts rounded to {decimals} decimals of {self.rounded.unit}"
        return words + ("; digits swapped" if self.swap else "")


class Cell(Settings):
    """What is known about a column of some rows.

    Attributes
    ----------
    by
        The paper's own convention; a cell that follows from it agrees.
    otherwise
        Ways in which a cell that does not agree may follow; each has a reason.
    undetermined
        Why a cell that follows from nothing above cannot be computed. Beside `by` only where that
        is a target, which the method may pass.
    """

    by: Rule | None = None
    otherwise: tuple[Rule, ...] = ()
    undetermined: str = ""

    @model_validator(mode="after")
    def _reasons_are_given(self) -> Cell:
        if any(not rule.reason for rule in self.otherwise):
            raise ValueError("a rule below otherwise needs a reason")
        if self.by and self.undetermined and self.by.share is None:
            raise ValueError("a cell with its own rule is determined, unless that is a target")
        if not (self.by or self.otherwise or self.undetermined):
            raise ValueError("give by, otherwise or undetermined")
        return self


def quantum_of(printed: Decimal) -> Decimal:
    """Return the value of the last digit.

    >>> quantum_of(Decimal("42.20")), quantum_of(Decimal("1137"))
    (Decimal('0.01'), Decimal('1'))
    """
    exponent = printed.as_tuple().exponent
    assert isinstance(exponent, int)
    return Decimal(1).scaleb(exponent)


ROUNDINGS: Mapping[Digits, Mapping[str, str]] = {
    "round": {"rounded": ROUND_HALF_UP},
    "truncate": {"truncated": ROUND_DOWN},
    "either": {"rounded": ROUND_HALF_UP, "truncated": ROUND_DOWN},
}


def how_printed(
    value: float, printed: Decimal, quantum: Decimal, digits: Digits, *, swap: bool = False
) -> str:
    """Return "rounded" or "truncated" where `value` prints as `printed`, else nothing.

    >>> how_printed(44.22, Decimal("44.2"), Decimal("0.1"), "round")
    'rounded'
    >>> how_printed(2044.59, Decimal(2044), Decimal(1), "either")
    'truncated'
    >>> how_printed(23.43, Decimal("24.3"), Decimal("0.1"), "round", swap=True)
    'rounded'
    """
    for name, rounding in ROUNDINGS[digits].items():
        shown = (Decimal(repr(value)) / quantum).to_integral_value(rounding) * quantum
        if (swapped(shown) if swap else shown) == printed:
            return name
    return ""


def swapped(value: Decimal) -> Decimal:
    """Return a number with its last two digits in the other order.

    >>> swapped(Decimal("23.4"))
    Decimal('24.3')
    """
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return Decimal((sign, (*digits[:-2], *digits[:-3:-1]), exponent))


def spread(printed: Decimal, quantum: Decimal, digits: Digits) -> tuple[float, float]:
    """Return the least and the greatest number that prints so.

    >>> spread(Decimal("1.65"), Decimal("0.01"), "round")
    (1.645, 1.655)
    """
    below = printed if digits == "truncate" else printed - quantum / 2
    above = printed + (quantum / 2 if digits == "round" else quantum)
    return float(below), float(above)
