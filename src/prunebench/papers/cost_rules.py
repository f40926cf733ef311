"""Rules that derive a printed cost from counts, as named in papers/published_structures.

A rule names the counted quantity and how much of it is kept. The cell's column says whether the
paper prints the count itself, its reduction in percent, or the speedup. Rules hold only numbers
and names, so that a reader can check each of them against the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prunebench.experiments.settings import Settings

Quantity = Literal[
    "macs",
    "two_per_mac",
    "conv_macs",
    "thop4",
    "thop2",
    "thop2_average_free",
    "norm2_conv_macs",
    "thinet",
    "ptflops",
    "ptflops_modules",
    "params",
    "layer_params",
    "params_without_biases",
    "params_per_call",
    "outputs",
]
QUANTITIES: Mapping[Quantity, str] = {  # `recount` counts them
    "macs": "multiply-accumulates of convolution and linear layers",
    "two_per_mac": "two operations per multiply-accumulate",
    "conv_macs": "multiply-accumulates of convolutions",
    "thop4": "thop, 4 per batch-norm element",
    "thop2": "thop, 2 per batch-norm element",
    "thop2_average_free": "thop, 2 per batch-norm element, average pooling by its outputs",
    "norm2_conv_macs": "multiply-accumulates of convolutions, 2 per batch-norm element",
    "thinet": "two operations per multiply-accumulate, 4 per batch-norm channel",
    "ptflops": "ptflops, layers and batch norm",
    "ptflops_modules": "ptflops, with ReLU and pooling",
    "params": "parameters",
    "layer_params": "parameters without batch norm and convolutions' biases",
    "params_without_biases": "parameters without biases of convolution and linear layers",
    "params_per_call": "parameters, a shared layer's once per call",
    "outputs": "elements of the outputs of convolution and linear layers",
}
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
# A rule can also read the row's printed ratio, if that is a speedup or the remaining percentage.
Source = Literal[Column, "speedup_ratio", "remaining_ratio"]
RATIO_KINDS: Mapping[str, str] = {"speedup_ratio": "speedup", "remaining_ratio": "flops"}
COUNTS = ("flops_m", "params_m", "memory_m")


def kept_share(column: str, value: float, base: float) -> float:
    """Return the kept share of the base for a printed value; `base` is in millions.

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
    """Return the value of a column if `kept` of `base` millions are kept.

    >>> as_column("flops_m", 30.0, 120.0), as_column("params_reduction_pct", 30.0, 120.0)
    (30.0, 75.0)
    """
    if column in COUNTS:
        return kept
    if column == "speedup_theoretical":
        return base / kept
    return 100 * (1 - kept / base)


class Rounded(Settings):
    """Round counts before dividing them, to each of the numbers of decimals in turn."""

    unit: Literal["G", "M"]
    decimals: Annotated[tuple[int, ...], Field(min_length=1)]

    def apply(self, millions: float) -> float:
        """Return a count in millions, rounded.

        >>> Rounded(unit="G", decimals=(4, 3)).apply(17.491512)
        18.0
        """
        factor = 1000 if self.unit == "G" else 1
        value = Decimal(repr(millions / factor))
        for decimals in self.decimals:
            value = value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
        return float(value * factor)


class Rule(Settings):
    """One way to compute a printed cell.

    By default the row's own structure is counted. `share` or `column` give the kept amount instead.

    Attributes
    ----------
    of
        The counted quantity.
    share
        The kept share of the base: the target at which a method stops, or a share that another
        paper prints.
    column
        The row's column whose printed value gives the kept amount; this checks the paper's
        arithmetic. The printed ratio can be read as a speedup ("speedup_ratio") or as the
        percentage of remaining operations ("remaining_ratio").
    row
        With `column`: columns that identify another row, whose value is read.
    instead
        With `column`: a value used in place of the printed one; the reason names its source.
    rounded
        Round the counts before dividing them.
    swap
        The last two digits of the number are printed in the wrong order.
    reason
        Why the cell does not follow its column's own convention; required below `otherwise`.
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
            raise ValueError("row and instead require column")
        return self

    @property
    def words(self) -> str:
        """Return the rule as a phrase for the tables."""
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
    """The rules for one column of some rows.

    Attributes
    ----------
    by
        The paper's own convention; a cell that follows from it agrees.
    otherwise
        Rules that may explain a cell that does not agree; each has a reason.
    undetermined
        Why a cell that follows from no rule cannot be computed. Allowed together with `by` only if
        `by` is a target (`share`), which a method may overshoot.
    """

    by: Rule | None = None
    otherwise: tuple[Rule, ...] = ()
    undetermined: str = ""

    @model_validator(mode="after")
    def _reasons_are_given(self) -> Cell:
        if any(not rule.reason for rule in self.otherwise):
            raise ValueError("each rule in otherwise needs a reason")
        if self.by and self.undetermined and self.by.share is None:
            raise ValueError(
                "by and undetermined exclude each other, unless by is a target (share)"
            )
        if not (self.by or self.otherwise or self.undetermined):
            raise ValueError("give by, otherwise or undetermined")
        return self


def quantum_of(printed: Decimal) -> Decimal:
    """Return the value of the last printed digit.

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
    """Return "rounded" or "truncated" if `value` prints as `printed`, else an empty string.

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
    """Return a number with its last two digits exchanged.

    >>> swapped(Decimal("23.4"))
    Decimal('24.3')
    """
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    return Decimal((sign, (*digits[:-2], *digits[:-3:-1]), exponent))


def spread(printed: Decimal, quantum: Decimal, digits: Digits) -> tuple[float, float]:
    """Return the smallest and the largest number that print as `printed`.

    >>> spread(Decimal("1.65"), Decimal("0.01"), "round")
    (1.645, 1.655)
    """
    below = printed if digits == "truncate" else printed - quantum / 2
    above = printed + (quantum / 2 if digits == "round" else quantum)
    return float(below), float(above)
