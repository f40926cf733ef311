from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from prunebench.report.claims.claim_verdict import Finding, estimate, findings, seeds_needed
from prunebench.report.claims.effects import Contrast, PerSeed, Variant
from tests.report.claims.conftest import runs_of

# Five values with mean 0, sum of squares 10 and standard deviation sqrt(10 / 4) = 1.5811; their
# standard error is 0.7071, and t(4) at 97.5 % is 2.7764: half the interval is 1.9632.
SPREAD = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def one(
    values: np.ndarray,
    kind: Literal["more", "equal"] = "more",
    margin: float = 0.5,
    bound: float = 0,
) -> Finding:
    """Return the verdict of a page with a single claim."""
    (found,) = findings([estimate(PerSeed(pd.Series(values)), kind, margin, bound)])
    return found


def test_the_interval_is_that_of_a_t_test() -> None:
    found = estimate(PerSeed(pd.Series(3 + SPREAD)), "more", 0.5)
    assert (found.effect, found.n) == (3.0, 5)
    assert found.low == pytest.approx(3 - 1.9632, abs=1e-4)
    assert found.high == pytest.approx(3 + 1.9632, abs=1e-4)


def test_an_interval_above_the_bound_supports_the_claim() -> None:
    assert one(3 + SPREAD).verdict == "supported"
    assert one(3 + SPREAD, bound=2.0).verdict == "undecided"


def test_an_interval_below_the_bound_does_not_support_it() -> None:
    assert one(SPREAD - 3).verdict == "not supported"


def test_an_interval_within_the_margin_does_not_support_a_difference() -> None:
    assert one(SPREAD, margin=1.97).verdict == "not supported"  # half the interval is 1.963
    assert one(SPREAD, margin=1.96).verdict == "undecided"


def test_an_interval_within_the_margin_supports_a_tie() -> None:
    assert one(SPREAD, "equal", margin=1.97).verdict == "supported"
    assert one(SPREAD, "equal", margin=1.96).verdict == "undecided"


def test_an_interval_outside_of_the_margins_does_not_support_a_tie() -> None:
    assert one(3 + SPREAD, "equal", margin=1.0).verdict == "not supported"  # from 1.037
    assert one(3 + SPREAD, "equal", margin=1.1).verdict == "undecided"


def test_two_seeds_have_no_interval_and_no_verdict() -> None:
    found = one(np.array([1.0, 2.0]))
    assert found.verdict == "undecided"
    assert found.estimate is not None
    assert found.estimate.effect == 1.5
    assert math.isnan(found.estimate.low)
    assert math.isnan(found.seeds_needed)


def test_equal_differences_are_not_certain_if_accuracies_are_whole_images() -> None:
    # three differences of one image each: a deviation of 1 / sqrt(6) = 0.41 images is assumed
    values = pd.Series([0.1, 0.1, 0.1])
    assert findings([estimate(PerSeed(values, 0.1), "more", 0.01)])[0].verdict == "undecided"
    assert math.isnan(estimate(PerSeed(values), "more", 0.01).p)


def test_an_undecided_claim_names_the_seeds_that_would_decide() -> None:
    # 1.5811 / 2 = 0.7906 standard deviations
    found = one(1.25 + SPREAD, margin=0.1)
    assert found.verdict == "undecided"
    assert found.seeds_needed == 15  # d = 0.79: Cohen's table has 15 pairs at d = 0.8


def test_an_effect_near_zero_is_decided_by_the_margin() -> None:
    # 1.5811 / 1.9 std of distance to the margin would take few seeds; the effect itself many
    assert one(0.01 + SPREAD, margin=0.8).seeds_needed == seeds_needed(0.79 / 2.5**0.5)


@pytest.mark.parametrize(
    # Cohen (1988), Table 2.4.1 for one-sample tests, as G*Power 3.1 prints: power 0.8, 5 %
    ("d", "n"),
    [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)],
)
def test_seeds_needed_are_those_of_a_power_table(d: float, n: int) -> None:
    assert seeds_needed(d) == n


def test_more_than_a_thousand_seeds_are_not_counted() -> None:
    assert seeds_needed(0.05) == math.inf
    assert seeds_needed(0.0) == math.inf


def test_a_stricter_level_needs_more_seeds() -> None:
    assert seeds_needed(0.8, level=0.05 / 10) > seeds_needed(0.8)


def test_verdicts_are_corrected_for_the_number_of_claims() -> None:
    # t = 3 / 0.7071 = 4.243 with 4 degrees of freedom: p = 0.0132, above 0.05 / 4
    claims = [estimate(PerSeed(pd.Series(3 + SPREAD)), "more", 0.5)]
    weak = [estimate(PerSeed(pd.Series(SPREAD)), "more", 0.5)]
    assert [f.verdict for f in findings(claims + 2 * weak)] == ["supported", *2 * ["undecided"]]
    assert [f.verdict for f in findings(claims + 3 * weak)] == 4 * ["undecided"]


def test_claims_that_are_not_run_do_not_count() -> None:
    claims = [estimate(PerSeed(pd.Series(3 + SPREAD)), "more", 0.5), None, None, None, None]
    assert [f.verdict for f in findings(claims)] == ["supported", *4 * ["not run"]]


def test_four_seeds_do_not_decide_however_clear_they_are() -> None:
    found = one(np.array([1.0, 1.1, 0.9, 1.0]))
    assert found.verdict == "undecided"
    assert found.seeds_needed == 5
    assert one(np.array([1.0, 1.1, 0.9, 1.0, 1.0])).verdict == "supported"


def test_claims_with_few_seeds_do_not_make_the_others_stricter() -> None:
    few = estimate(PerSeed(pd.Series([1.0, 2.0, 3.0])), "more", 0.5)
    clear = estimate(PerSeed(pd.Series(3 + SPREAD)), "more", 0.5)
    assert findings([clear, few, few, few])[0].verdict == "supported"


SHUFFLES = 1000


def shuffles_of(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return copies of runs of two methods, which change places at random within each seed.

    A copy has its number as ratio.
    """
    generator = np.random.default_rng(seed)
    copies = []
    for number in range(SHUFFLES):
        swapped = frame["seed"].map(
            dict(enumerate(generator.random(frame["seed"].nunique()) < 0.5))
        )
        methods = frame["method"].where(~swapped, frame["method"].map(OTHER))
        copies.append(frame.assign(method=methods, ratio=number / SHUFFLES))
    return pd.concat(copies, ignore_index=True)


OTHER = {"l1": "random", "random": "l1"}


@pytest.mark.parametrize("n", [5, 8])
def test_at_most_five_percent_of_shuffled_labels_support_a_claim(n: int) -> None:
    # l1 is far better than random here, but a shuffled label says nothing about the method
    generator = np.random.default_rng(n)
    base = generator.normal(95, 1, n)
    frame = runs_of({"l1": base, "random": base - generator.normal(1, 0.3, n)})
    contrast = Contrast({Variant("l1"): 1.0, Variant("random"): -1.0})
    assert one(contrast.by_seed(frame).values.to_numpy()).verdict == "supported"
    by_shuffle = contrast.by_place(shuffles_of(frame, n))
    assert by_shuffle.shape == (n, SHUFFLES)
    verdicts = [one(by_shuffle[name].to_numpy(), margin=0.1).verdict for name in by_shuffle]
    assert 0 < verdicts.count("supported") <= 0.05 * SHUFFLES


def test_at_most_five_percent_of_signs_at_the_margin_support_a_tie() -> None:
    # the differences lie around the margin of 0.5: the methods are no longer equal
    generator = np.random.default_rng(1)
    offsets = generator.normal(0, 0.3, (1000, 6))
    pages = [findings([estimate(PerSeed(pd.Series(0.5 + o)), "equal", 0.5)]) for o in offsets]
    assert 0 < sum(page[0].verdict == "supported" for page in pages) <= 50
