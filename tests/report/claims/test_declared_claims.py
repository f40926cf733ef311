"""The declared claims fit the experiments that have their runs."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from prunebench.planning.grid import resolve_experiment
from prunebench.report.claims.claim_verdict import FEWEST_SEEDS
from prunebench.report.claims.declared_claims import CIFAR, CLAIMS, Source
from prunebench.report.claims.effects import Contrast, Variant

CONFIG = Path(__file__).parents[3] / "config"
SOURCES = [
    pytest.param(source, id=f"{claim.id}-{source.experiment}")
    for claim in CLAIMS
    for source in claim.sources
]
EXPERIMENTS = sorted({source.experiment for claim in CLAIMS for source in claim.sources})


@cache
def cells_of(experiment: str) -> Counter[tuple[Variant, str, float | None]]:
    """Return the number of seeds of each variant at each ratio."""
    return Counter(
        (Variant(run.method, run.setting), run.ratio_kind, run.ratio)
        for run in resolve_experiment(experiment, CONFIG)
    )


@pytest.mark.parametrize("source", SOURCES)
def test_an_experiment_has_the_runs_of_its_claims(source: Source) -> None:
    variants = source.effect.variants
    places = [
        {
            (kind, ratio): n
            for (name, kind, ratio), n in cells_of(source.experiment).items()
            if name == v
        }
        for v in variants
    ]
    common = set(places[0]).intersection(*places[1:])
    assert common, f"no ratio that all of {', '.join(map(str, variants))} have"
    seeds = {own[place] for own in places for place in common}
    # the experiment on CIFAR-10 grows by days
    assert min(seeds) >= (1 if source.experiment == CIFAR else FEWEST_SEEDS)


@pytest.mark.parametrize(
    "contrast",
    [source.effect for c in CLAIMS for source in c.sources if isinstance(source.effect, Contrast)],
)
def test_the_weights_of_a_contrast_add_up_to_zero(contrast: Contrast) -> None:
    assert sum(contrast.weights.values()) == pytest.approx(0)


def test_every_experiment_of_claims_is_used() -> None:
    files = {path.stem for path in (CONFIG / "experiments").glob("claims_*.yaml")}
    assert files == set(EXPERIMENTS) - {CIFAR}


def test_a_claim_is_measured_or_says_what_it_needs() -> None:
    for claim in CLAIMS:
        assert bool(claim.sources) != bool(claim.needs), claim.id
        assert bool(claim.sources) == bool(claim.measured) == bool(claim.label), claim.id


def test_names_of_claims_are_unique() -> None:
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)


def test_the_seven_questions_have_one_claim_each() -> None:
    asked = {claim.id: claim.question for claim in CLAIMS if claim.question}
    assert set(asked) == {"G1", "G1-counter", "SF1", "E2", "O1", "F2", "I1"}
    assert all(text.endswith("?") for text in asked.values())
