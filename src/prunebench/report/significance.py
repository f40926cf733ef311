"""Tests of differences over seeds: paired t tests, Holm's correction, and letters for groups.

References
----------
Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics
6, 1979. Piepho, "An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons",
Journal of Computational and Graphical Statistics 13, 2004.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from string import ascii_lowercase

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

SIGNIFICANCE = 0.05  # probability that a table without any real difference shows one
FEWEST_PAIRS = 3  # of an interval, a test or a letter
_NO_SPREAD = 1e-9  # points; below it, a standard error is a rounding error

Floats = NDArray[np.float64]


def standard_error(std: ArrayLike, n: ArrayLike, step: ArrayLike = 0.0) -> Floats:
    """Return the standard error of a mean over `n` differences of two accuracies.

    Accuracies are multiples of `step` (one image of the test set), so that a few differences may
    agree by chance. Their deviation is at least that of the rounding, step / sqrt(6): the variance
    of one rounding is step² / 12. NaN if there is no spread and no known step, or for fewer than
    `FEWEST_PAIRS` differences.
    """
    n = np.asarray(n, dtype=float)
    error = np.maximum(std, np.asarray(step) / 6**0.5) / np.sqrt(n)
    known: Floats = np.where((n >= FEWEST_PAIRS) & (error > _NO_SPREAD), error, np.nan)
    return known


def margin(error: ArrayLike, n: ArrayLike) -> Floats:
    """Return half the width of the two-sided t interval of a mean, at 1 - `SIGNIFICANCE`."""
    half: Floats = stdtrit(np.asarray(n) - 1, 1 - SIGNIFICANCE / 2) * np.asarray(error)
    return half


def p_value(mean: ArrayLike, error: ArrayLike, n: ArrayLike) -> Floats:
    """Return the p of the two-sided t test that a mean of `n` differences is zero.

    >>> round(float(p_value(2.0, 3**-0.5, 3)), 4)  # differences 1, 2, 3: t = 3.464
    0.0742
    """
    statistic = np.abs(np.asarray(mean)) / np.asarray(error)
    p: Floats = 2 * stdtr(np.asarray(n) - 1, -statistic)
    return p


def paired_p(ours: Floats, theirs: Floats, step: float = 0.0) -> float:
    """Return the p of the paired t test of two methods' accuracies, NaN where one has no run.

    The result is NaN where `standard_error` is.
    """
    differences = (ours - theirs)[~np.isnan(ours - theirs)]
    n = len(differences)
    if n < FEWEST_PAIRS:
        return math.nan
    error = standard_error(differences.std(ddof=1), n, step)
    return float(p_value(differences.mean(), error, n))


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's adjusted p values; a NaN is no comparison and stays.

    >>> holm([0.01, float("nan"), 0.04, 0.03]).tolist()  # 0.01 * 3, 0.03 * 2, at least 0.06
    [0.03, nan, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full_like(p, np.nan)
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def letters(n: int, different: Iterable[tuple[int, int]]) -> list[str]:
    """Return the letters of items 0 to n - 1, best first, given the pairs that differ.

    Two items share a letter exactly if they do not differ ("insert and absorb", Piepho 2004). The
    first item has the letter a.

    >>> letters(3, [(0, 2)]), letters(2, []), letters(2, [(0, 1)])
    (['a', 'ab', 'b'], ['a', 'a'], ['a', 'b'])
    """
    groups = [set(range(n))]
    for one, other in different:
        for group in [group for group in groups if {one, other} <= group]:
            groups.remove(group)
            for part in (group - {one}, group - {other}):
                if not any(part <= kept for kept in groups):
                    groups.append(part)
    groups.sort(key=sorted)
    names = [_letter(place) for place in range(len(groups))]
    return [
        "".join(name for name, group in zip(names, groups, strict=True) if i in group)
        for i in range(n)
    ]


def _letter(place: int) -> str:
    """Return a, b, ..., z, then a1, b1, ...

    >>> _letter(0), _letter(27)
    ('a', 'b1')
    """
    again, letter = divmod(place, len(ascii_lowercase))
    return ascii_lowercase[letter] + (str(again) if again else "")


def verdict(mean: float, p: float) -> str:
    """Return the word for a difference with an adjusted p value; "" if it was not tested.

    >>> verdict(-0.4, 0.01), verdict(0.4, 0.2), verdict(0.4, float("nan"))
    ('lower', 'unclear', '')
    """
    if np.isnan(p):
        return ""
    if p > SIGNIFICANCE:
        return "unclear"
    return "higher" if mean > 0 else "lower"
