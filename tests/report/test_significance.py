"""Known p values, letters by hand, and error rates over many tables of pure noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from prunebench.report.significance import (
    SIGNIFICANCE,
    holm,
    letters,
    margin,
    p_value,
    paired_p,
    standard_error,
    verdict,
)


def test_p_is_that_of_a_paired_t_test() -> None:
    ours, theirs = np.array([91.2, 90.4, 92.3, 91.0]), np.array([90.8, 90.6, 91.1, 90.2])
    assert paired_p(ours, theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_seeds_that_one_method_lacks_are_no_pairs() -> None:
    ours, theirs = np.array([1.0, 2.0, 3.0, 9.0]), np.array([0.0, 0.0, 0.0, math.nan])
    assert paired_p(ours, theirs) == pytest.approx(0.0742, abs=1e-4)
    assert math.isnan(paired_p(ours[1:], theirs[1:]))


def test_an_interval_without_zero_is_a_p_below_its_level() -> None:
    error = standard_error(1.0, 5)
    half = margin(error, 5)
    assert half == pytest.approx(2.776445 / 5**0.5)  # t(0.975, 4)
    assert p_value(half, error, 5) == pytest.approx(SIGNIFICANCE)


def test_deviation_is_at_least_that_of_rounding_to_images() -> None:
    assert standard_error(0.0, 4, step=0.6) == pytest.approx(0.6 / 6**0.5 / 2)
    assert standard_error(0.5, 4, step=0.6) == pytest.approx(0.25)
    assert np.isnan(standard_error(0.0, 4))
    assert np.isnan(standard_error(0.5, 2))


def test_holm_multiplies_the_smallest_by_the_number_of_comparisons() -> None:
    # 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.4
    assert holm([0.02, 0.4, 0.01, 0.03]) == pytest.approx([0.06, 0.4, 0.04, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]).size == 0


@pytest.mark.parametrize(
    ("n", "different", "expected"),
    [
        (1, [], ["a"]),
        (3, [], ["a", "a", "a"]),
        (3, [(0, 1), (0, 2), (1, 2)], ["a", "b", "c"]),
        (4, [(0, 2), (0, 3), (1, 3)], ["a", "ab", "bc", "c"]),
        # the best and the worst are tested with few seeds and do not differ from each other
        (3, [(0, 1), (1, 2)], ["a", "b", "a"]),
    ],
)
def test_letters(n: int, different: list[tuple[int, int]], expected: list[str]) -> None:
    assert letters(n, different) == expected


def test_items_share_a_letter_exactly_if_they_do_not_differ() -> None:
    random = np.random.default_rng(0)
    pairs = [(i, j) for i in range(9) for j in range(i)]
    for _ in range(50):
        different = {pair for pair in pairs if random.random() < 0.4}
        # at most 12 of the 26 letters: each is one character
        found = letters(9, sorted(different))
        assert {(i, j) for i, j in pairs if not set(found[i]) & set(found[j])} == different


def test_verdict_needs_a_test() -> None:
    assert [verdict(1.0, p) for p in (0.05, 0.051, math.nan)] == ["higher", "unclear", ""]
    assert verdict(-1.0, 0.001) == "lower"


@pytest.mark.parametrize(("n", "images"), [(3, None), (5, None), (3, 360), (5, 10_000)])
def test_twenty_comparisons_of_noise_have_a_winner_in_one_table_of_twenty(
    n: int, images: int | None
) -> None:
    random = np.random.default_rng(n)
    tables, step = 2000, 0.0 if images is None else 100 / images
    accuracies = random.normal(95, 0.4, (tables, 21, n))
    if images is not None:
        accuracies = np.round(accuracies / step) * step
    differences = accuracies[:, 1:] - accuracies[:, :1]
    error = standard_error(differences.std(axis=2, ddof=1), n, step)
    p = p_value(differences.mean(axis=2), error, n)
    winners = np.mean([(holm(table) <= SIGNIFICANCE).any() for table in p])
    assert winners <= 0.05 + 3 * (0.05 * 0.95 / tables) ** 0.5  # three standard errors


def test_without_the_correction_noise_has_winners() -> None:
    random = np.random.default_rng(1)
    differences = random.normal(0, 0.4, (500, 20, 5))
    p = p_value(differences.mean(2), standard_error(differences.std(2, ddof=1), 5), 5)
    assert (p <= SIGNIFICANCE).any(axis=1).mean() > 0.5  # 1 - 0.95^20 = 0.64


def test_a_clear_difference_is_found_among_twenty() -> None:
    random = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        differences = random.normal(0, 0.3, (20, 5))
        differences[7] += 3.0  # ten deviations
        error = standard_error(differences.std(axis=1, ddof=1), 5)
        adjusted = holm(p_value(differences.mean(axis=1), error, 5))
        found += bool(adjusted[7] <= SIGNIFICANCE)
    assert found >= 190


def test_shuffled_labels_differ_in_one_of_twenty() -> None:
    random = np.random.default_rng(3)
    pooled = random.normal(92, 0.3, 10)
    p = []
    for _ in range(1000):
        shuffled = random.permutation(pooled)
        p.append(paired_p(shuffled[:5], shuffled[5:]))
    assert np.mean(np.array(p) <= SIGNIFICANCE) <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
