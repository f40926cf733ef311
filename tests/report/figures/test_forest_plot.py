from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.report.claims.declared_claims import EPOCHS, Claim, Source, difference
from prunebench.report.claims.effects import Variant
from prunebench.report.claims.measured_claims import measure_claims
from prunebench.report.figures.forest_plot import forest_plot
from tests.report.claims.conftest import runs_of, write_runs
from tests.report.conftest import legend, shown, words

A, B = Variant("a"), Variant("b")


def claim(name: str, **more: object) -> Claim:
    sources = (Source("tried", difference(A, B)),)
    plain = {"paper": "p", "statement": "s", "where": "w", "label": f"of {name}", "measured": "m"}
    return Claim(id=name, **{"sources": sources, **plain, **more})  # type: ignore[arg-type]


def test_a_panel_per_unit_with_an_interval_per_claim(tmp_path: Path) -> None:
    accuracies = {"a": [92.0, 92.1, 91.9, 92.0, 92.2], "b": [90.0, 90.0, 90.1, 89.9, 90.0]}
    write_runs(tmp_path / "tried", runs_of(accuracies))
    absent = Source("untried", difference(A, B))
    claims = [claim("T1"), claim("T2", paper="q"), claim("T3", unit=EPOCHS)]
    rows = measure_claims(tmp_path, [*claims, claim("T4", sources=(absent,))])
    figure = forest_plot(rows)
    points, epochs = shown(figure)
    assert [text.get_text() for text in points.get_yticklabels()] == [
        "of T1 · T1 (n = 5)",
        "of T2 · T2 (n = 5)",
    ]
    effects = {str(line.get_label()): line.get_xdata()[0] for line in points.lines}
    assert effects["T1"] == pytest.approx(2.04)
    assert any(
        list(line.get_xdata()) == pytest.approx([1.8517, 2.2283], abs=1e-3) for line in points.lines
    )
    assert epochs.get_xlabel() == "Effect (epochs)"
    assert {"p", "q"} <= set(words(points))
    assert legend(figure) == ["supported", "not supported", "undecided"]
    assert "T4" not in " ".join(words(figure))
