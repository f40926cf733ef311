"""From an effect's values by seed to a verdict: supported, not supported, or undecided.

Two kinds of claims. "more": the effect exceeds a bound (0 unless the claim names another). "equal":
it differs from 0 by less than a margin of practical equality.

- supported: "more", the two-sided t test rejects the bound at Holm's level over all tested claims,
  and the effect lies above it; "equal", the two one-sided tests (TOST) reject both margins at it.
- not supported: "more", the same test rejects the bound from below, or the 95 % interval lies
  within the margin around the bound; "equal", the 95 % interval lies outside of the margins.
- undecided: otherwise, with the number of seeds at which a test has a power of 80 % if the
  observed effect and standard deviation are the true ones.

A verdict takes five seeds. If labels are shuffled within the seeds, each difference has a random
sign, and with four seeds all of them are positive once in 16 shuffles: more than 5 %, whatever a t
test says about four differences of similar size.

References
----------
Schuirmann, "A comparison of the two one-sided tests procedure and the power approach for assessing
the equivalence of average bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15,
1987. Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd edition, 1988.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

from prunebench.report.claims.effects import PerSeed
from prunebench.report.significance import (
    FEWEST_PAIRS,
    SIGNIFICANCE,
    holm,
    margin,
    p_value,
    standard_error,
)

Kind = Literal["more", "equal"]
Verdict = Literal["supported", "not supported", "undecided", "not run"]
FEWEST_SEEDS = 5  # of a verdict
POWER = 0.8
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Estimate:
    """An effect over n seeds, beside the bound and margin that its claim is tested with.

    Interval, error and p are NaN for fewer than `FEWEST_PAIRS` seeds, or without any spread.
    """

    kind: Kind
    bound: float
    margin: float
    effect: float
    low: float  # of the two-sided 95 % t interval
    high: float
    error: float  # standard error
    n: int
    p: float  # of the claim, before Holm's correction


@dataclass(frozen=True)
class Finding:
    """A verdict; `seeds_needed` is that of an undecided one, inf above `MOST_SEEDS`."""

    estimate: Estimate | None  # None: not run
    verdict: Verdict
    p_holm: float = math.nan
    seeds_needed: float = math.nan


def estimate(found: PerSeed, kind: Kind, equality: float, bound: float = 0.0) -> Estimate:
    """Return the estimate of an effect over at least one seed; `equality` is the margin."""
    values = found.values.to_numpy(dtype=float)
    n, mean = len(values), float(values.mean())
    if n < FEWEST_PAIRS:
        unknown = dict.fromkeys(("low", "high", "error", "p"), math.nan)
        return Estimate(kind, bound, equality, effect=mean, n=n, **unknown)
    error = float(standard_error(values.std(ddof=1), n, found.step))
    half = float(margin(error, n))
    off = mean - bound
    if kind == "more":
        p = float(p_value(off, error, n))
    else:
        # the larger of both one-sided p, doubled: the level of the interval that just fits in
        p = float(np.minimum(2 * stdtr(n - 1, -(equality - abs(off)) / error), 1.0))
    low, high = mean - half, mean + half
    return Estimate(kind, bound, equality, effect=mean, low=low, high=high, error=error, n=n, p=p)


def findings(estimates: Sequence[Estimate | None]) -> list[Finding]:
    """Return the verdict of each estimate, with Holm's correction over all that are tested."""
    is_tested = [one is not None and one.n >= FEWEST_SEEDS for one in estimates]
    adjusted = holm(
        [
            one.p if one and tested else math.nan
            for one, tested in zip(estimates, is_tested, strict=True)
        ]
    )
    tested = int(np.count_nonzero(~np.isnan(adjusted)))
    return [
        Finding(None, "not run") if one is None else _finding(one, float(p), tested)
        for one, p in zip(estimates, adjusted, strict=True)
    ]


def _finding(one: Estimate, p_holm: float, tested: int) -> Finding:
    if math.isnan(one.p):
        return Finding(one, "undecided")
    if one.n < FEWEST_SEEDS:
        return Finding(one, "undecided", seeds_needed=_needed(one, SIGNIFICANCE / max(tested, 1)))
    low, high = one.low - one.bound, one.high - one.bound
    is_equal = max(-low, high) < one.margin
    if p_holm <= SIGNIFICANCE and (one.kind == "equal" or one.effect > one.bound):
        return Finding(one, "supported", p_holm)
    contrary = p_holm <= SIGNIFICANCE or is_equal
    if one.kind == "equal":
        contrary = low > one.margin or high < -one.margin
    if contrary:
        return Finding(one, "not supported", p_holm)
    return Finding(one, "undecided", p_holm, _needed(one, SIGNIFICANCE / tested))


def _needed(one: Estimate, level: float) -> float:
    """Return the seeds after which the verdict is known, at the first level of Holm's procedure."""
    std = one.error * math.sqrt(one.n)
    off = abs(one.effect - one.bound)
    to_margin = seeds_needed(abs(one.margin - off) / std, level)
    if one.kind == "equal":
        return to_margin
    within = seeds_needed((one.margin - off) / std) if off < one.margin else math.inf
    return min(seeds_needed(off / std, level), within)


def seeds_needed(d: float, level: float = SIGNIFICANCE, power: float = POWER) -> float:
    """Return the pairs at which a two-sided paired t test has a power, for an effect of d std.

    At least `FEWEST_SEEDS`; inf above `MOST_SEEDS`.

    >>> [seeds_needed(d) for d in (0.2, 0.5, 0.8)], seeds_needed(0.01)
    ([199, 34, 15], inf)
    """
    if power_of(d, MOST_SEEDS, level) < power:
        return math.inf
    low, high = FEWEST_SEEDS - 1, MOST_SEEDS  # power rises with the pairs
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(d, middle, level) < power:
            low = middle
        else:
            high = middle
    return high


def power_of(d: float, n: int, level: float = SIGNIFICANCE) -> float:
    """Return the power of a two-sided paired t test of n pairs, for an effect of d std.

    >>> round(power_of(0.5, 34), 4)
    0.8078
    """
    t = float(stdtrit(n - 1, 1 - level / 2))
    shift = d * math.sqrt(n)
    return float(1 - nctdtr(n - 1, shift, t) + nctdtr(n - 1, shift, -t))
