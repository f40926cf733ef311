from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.files import read_csv
from prunebench.report.claims.claims_page import COLUMNS, number, verdict_text, write_claims
from prunebench.report.claims.declared_claims import (
    FACTOR,
    POINTS,
    Claim,
    Source,
    difference,
    times_faster,
)
from prunebench.report.claims.effects import Variant
from prunebench.report.claims.measured_claims import measure_claims
from tests.report.claims.conftest import runs_of, write_runs

A, B = Variant("a"), Variant("b")
CLEAR = Claim(
    id="T1",
    paper="one",
    statement="a beats b",
    where="Table 1",
    label="a − b",
    question="a beats b?",
    measured="top-1 of a − b",
    sources=(Source("tried", difference(A, B)),),
)
OPEN = Claim(
    id="T2",
    paper="two",
    statement="c beats b",
    where="Table 2",
    label="c − b",
    measured="top-1 of c − b",
    sources=(Source("tried", difference(Variant("c"), B)),),
)
MISSING = Claim(
    id="T3",
    paper="two",
    statement="d beats b",
    where="Table 3",
    label="d − b",
    measured="top-1 of d − b",
    sources=(Source("untried", difference(Variant("d"), B)),),
    after="prunebench additivity",
)
ABSENT = Claim(id="T4", paper="two", statement="b is fast", where="Table 4", needs="a GPU")
CLAIMS = (CLEAR, OPEN, MISSING, ABSENT)
# a - b: 2, 2.1, 1.8, 2.1, 2.2; c - b: 0, 3, -2, 1, -1
ACCURACIES = {
    "a": [92.0, 92.1, 91.9, 92.0, 92.2],
    "b": [90.0, 90.0, 90.1, 89.9, 90.0],
    "c": [90.0, 93.0, 88.1, 90.9, 89.0],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page of the claims above."""
    write_runs(tmp_path / "tried", runs_of(ACCURACIES))
    write_claims(tmp_path, tmp_path / "claims", CLAIMS)
    return tmp_path / "claims"


def test_each_claim_is_a_row_of_the_page(folder: Path) -> None:
    page = (folder / "claims.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| T")
    }
    assert [cell.strip() for cell in rows["T1"].split("|")[2:8]] == [
        "a beats b",
        "+2.04 points",
        r"\[+1.85, +2.23\]",
        "5",
        "supported",
        "tried",
    ]
    assert "undecided; " in rows["T2"]
    assert "seeds would decide" in rows["T2"]
    assert "| not run" in rows["T3"]
    assert "a GPU" in rows["T4"]
    assert "3 claims: 1 supported, 1 undecided, 1 not run; 1 that cannot be tested here." in page
    assert "T1 (Table 1): top-1 of a − b. Runs: tried, digits · resnet20." in page


def test_the_page_says_how_to_run_what_is_not_run(folder: Path) -> None:
    page = (folder / "claims.md").read_text(encoding="utf-8")
    command = "snakemake --cores all --config experiments=untried"
    assert f"Not run: `{command}`, then `prunebench additivity`." in page


def test_an_experiment_with_too_few_seeds_is_named(tmp_path: Path) -> None:
    write_runs(tmp_path / "few", runs_of({"a": [91.0], "b": [90.5]}))
    write_runs(tmp_path / "tried", runs_of(ACCURACIES))
    both = replace(CLEAR, sources=(Source("few", difference(A, B)), *CLEAR.sources))
    write_claims(tmp_path, tmp_path / "claims", [both])
    page = (tmp_path / "claims/claims.md").read_text(encoding="utf-8")
    assert "Runs: tried, digits · resnet20. Too few seeds (n = 1): few, +0.50 points." in page


def test_the_page_says_what_a_verdict_does_not_mean(folder: Path) -> None:
    for name in ("claims.md", "claims.html"):
        assert "cannot refute a paper" in (folder / name).read_text(encoding="utf-8")


def test_the_short_table_has_the_questions(folder: Path) -> None:
    short = (folder / "claims_short.md").read_text(encoding="utf-8")
    assert [line for line in short.splitlines() if line.startswith("| a beats b?")]
    assert "c beats b" not in short


def test_the_csv_has_plain_numbers(folder: Path) -> None:
    rows = read_csv(folder / "claims.csv", COLUMNS)
    assert [row["verdict"] for row in rows] == ["supported", "undecided", "not run", "not run"]
    first = rows[0]
    assert (first["effect"], first["n"], first["unit"]) == ("2.04", "5", "points")
    assert float(first["low"]) == pytest.approx(1.8517, abs=2e-4)
    assert rows[2]["effect"] == ""


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    write_runs(tmp_path / "tried", runs_of(ACCURACIES))
    first = {
        path.name: path.read_bytes() for path in write_claims(tmp_path, tmp_path / "x", CLAIMS)
    }
    again = {
        path.name: path.read_bytes() for path in write_claims(tmp_path, tmp_path / "y", CLAIMS)
    }
    assert set(first) == {
        f"claims.{suffix}" for suffix in ("csv", "md", "html", "svg", "png", "pdf")
    } | {"claims_short.md"}
    assert first == again


def test_a_factor_is_printed_as_one(tmp_path: Path) -> None:
    seconds = {"a": 0.1, "b": 3.0}
    frame = runs_of({name: [90.0] * 5 for name in seconds})
    frame["selection_seconds"] = frame["method"].map(seconds) * (1 + frame["seed"] / 100)
    frame.loc[frame["method"] == "b", "selection_seconds"] += frame["seed"] / 100
    write_runs(tmp_path / "tried", frame)
    claim = Claim(
        id="T5",
        paper="one",
        statement="a is ten times faster",
        where="abstract",
        label="b / a",
        measured="seconds",
        sources=(Source("tried", times_faster(A, B)),),
        unit=FACTOR,
        bound=1.0,
        equality=0.1,
    )
    write_claims(tmp_path, tmp_path / "claims", [claim])
    (row,) = read_csv(tmp_path / "claims/claims.csv", COLUMNS)
    assert row["verdict"] == "supported"
    assert float(row["effect"]) == pytest.approx(30.0, rel=0.02)
    assert row["bound"] == "10.0"


@pytest.mark.parametrize(
    ("value", "text"), [(0.414, "+0.41"), (-0.2, "−0.20"), (float("nan"), "–"), (-0.001, "0.00")]
)
def test_effects_have_a_sign(value: float, text: str) -> None:
    assert number(value, POINTS) == text


@pytest.mark.parametrize(
    ("ours", "more", "text"),
    [
        (88.0, {}, "not supported; lower"),
        (90.0, {}, "not supported; equal"),
        (92.0, {"kind": "equal"}, "not supported; higher"),
        (88.0, {"kind": "equal"}, "not supported; lower"),
        (90.0, {"kind": "equal"}, "supported"),
    ],
)
def test_a_claim_that_is_not_supported_says_where_the_effect_lies(
    tmp_path: Path, ours: float, more: dict[str, Any], text: str
) -> None:
    values = {"a": [ours + 0.1 * i for i in (-1, 0, 1, 1, -1)], "b": [90.0] * 5}
    write_runs(tmp_path / "tried", runs_of(values))
    (row,) = measure_claims(tmp_path, [replace(CLEAR, **more)])
    assert verdict_text(row.finding) == text
