"""The page in results/reference/claims, and what shuffled labels make of its runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunebench.core.files import read_csv, write_csv
from prunebench.report.claims.claim_verdict import estimate, findings
from prunebench.report.claims.claims_page import COLUMNS, csv_row
from prunebench.report.claims.declared_claims import POINTS
from prunebench.report.claims.effects import PerSeed
from prunebench.report.claims.measured_claims import (
    MeasuredClaim,
    experiment_rows,
    measure_claims,
)

REFERENCE = Path(__file__).parents[3] / "results" / "reference"
SHUFFLES = 1000


@pytest.fixture(scope="module")
def measured() -> list[MeasuredClaim]:
    return measure_claims(REFERENCE)


def test_the_stored_page_follows_from_the_stored_runs(
    measured: list[MeasuredClaim], tmp_path: Path
) -> None:
    write_csv(tmp_path / "claims.csv", COLUMNS, [csv_row(row) for row in measured])
    stored = read_csv(REFERENCE / "claims" / "claims.csv", COLUMNS)
    assert read_csv(tmp_path / "claims.csv", COLUMNS) == stored


def test_the_readme_shows_the_stored_questions() -> None:
    table = (REFERENCE / "claims" / "claims_short.md").read_text(encoding="utf-8")
    readme = (REFERENCE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert table.split("\n\n")[0] in readme


def test_of_a_thousand_shuffles_at_most_five_percent_support_a_claim(
    measured: list[MeasuredClaim],
) -> None:
    # Two methods that change places within a seed change the sign of a difference in accuracy.
    effects = {
        row.claim.id: row.source.effect.by_seed(frame)
        for row in measured
        if row.source and row.claim.unit == POINTS and row.claim.kind == "more"
        if (frame := experiment_rows(REFERENCE, row.source.experiment)) is not None
    }
    assert len(effects) > 10
    generator = np.random.default_rng(0)
    supported = Counter[str]()
    for _ in range(SHUFFLES):
        shuffled = [
            estimate(PerSeed(_signed(found.values, generator), found.step), "more", 0.5)
            for found in effects.values()
        ]
        for name, found in zip(effects, findings(shuffled), strict=True):
            supported[name] += found.verdict == "supported"
    assert max(supported.values()) <= 0.05 * SHUFFLES


def _signed(values: pd.Series, generator: np.random.Generator) -> pd.Series:
    return values * generator.choice([-1.0, 1.0], len(values))
