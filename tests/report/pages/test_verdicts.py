from __future__ import annotations

import pytest

from prunebench.report.pages.verdicts import AtRatio, Ranking, Verdicts, verdicts
from prunebench.report.seed_statistics import summarize
from tests.report.conftest import few_runs


def found(*rows: dict[str, object], reference: str | None = None) -> Verdicts:
    frame = few_runs(*rows)
    return verdicts(frame, summarize(frame, reference=reference), reference)


def seeded(method: str, *accuracies: float, **more: object) -> list[dict[str, object]]:
    runs = enumerate(accuracies)
    return [{"method": method, "seed": seed, "accuracy": a} | more for seed, a in runs]


def test_tested_methods_are_higher_lower_or_unclear() -> None:
    one = found(
        *seeded("l1", 97.0, 97.1, 97.2),
        *seeded("greg_1", 98.0, 98.1, 98.3),
        *seeded("random", 95.0, 95.1, 95.3, setting="other"),
        *seeded("fpgm", 97.2, 97.0, 97.1),
    )
    # greg_1: 1.0, 1.0, 1.1; random: -2.0, -2.0, -1.9; fpgm: 0.2, -0.1, -0.1
    at = AtRatio("0.5", ("greg_1 (+1.03)",), ("random other (−1.97)",), ("fpgm (+0.00)",))
    assert one.rankings == (Ranking("l1", (at,)),)
    assert one.unranked == ""


def test_differences_to_another_reference_have_a_ranking_of_their_own() -> None:
    rows = (*seeded("l1", 97.0, 97.1, 97.2), *seeded("greg_1", 98.0, 98.1, 98.3))
    one = found(*rows, reference="greg_1")
    assert one.rankings == (
        Ranking("l1", (AtRatio("0.5", ("greg_1 (+1.03)",), (), ()),)),
        Ranking("greg_1", (AtRatio("0.5", (), ("l1 (−1.03)",), ()),)),
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*seeded("l1", 97.0), *seeded("fpgm", 98.0)], "with 1 seed, a difference cannot be told"),
        ([*seeded("l1", 97, 96), *seeded("fpgm", 98, 97)], "with 2 seeds, a difference cannot"),
        (seeded("fpgm", 98, 97, 98), "there is no run of l1 to compare with"),
        (
            [*seeded("l1", 97, 96), *seeded("fpgm", 98, 97, 97)],
            "none shares 3 seeds with l1 at the same ratio",
        ),
    ],
)
def test_without_tests_the_reason_is_stated(rows: list[dict[str, object]], words: str) -> None:
    one = found(*rows)
    assert one.rankings == ()
    assert words in one.unranked


def test_base_and_test_set_are_facts_in_sentences() -> None:
    one = found(*seeded("l1", 97.0, test_images=360))
    assert one.heading == "digits · resnet20"
    assert one.facts == (
        "Unpruned network: 99.00 % (n = 1) top-1 accuracy.",
        "Test set: 360 images; one image is 0.28 points.",
    )


def test_a_low_fairness_level_is_a_warning() -> None:
    shared = found(*seeded("l1", 97.0), *seeded("fpgm", 98.0))
    other = found(*seeded("l1", 97.0), *seeded("fpgm", 98.0, base_hash="b1"))
    assert (shared.is_low, other.is_low) == (False, True)
    assert "below S3.2" in other.fairness
