"""The evaluation checklist: each item passes and fails on runs made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prunebench.report.checklist import ITEMS, checklist, write_checklist
from tests.report.conftest import few_runs

PROVENANCE = {
    "base_params": 100,
    "base_macs": 100,
    "params": 50,
    "versions": '{"torch":"2.14.1"}',
    "device": "cpu",
    "processor": "AMD EPYC",
    "commit": "abc",
}
CURVE = [
    {"ratio": ratio, "drop": drop, "speedup_theoretical": 1 / (1 - ratio)}
    for ratio, drop in ((0.1, 0.0), (0.3, 0.5), (0.5, 1.0), (0.7, 3.0), (0.9, 6.0))
]


def good_runs(**changed: Any) -> pd.DataFrame:
    """Return runs that pass every item, with some columns changed in all of them."""
    methods = [{"method": "random"}, {"method": "l1"}, {"method": "greg_1"}]
    ranked = {"method": "random", "setting": "global", "ratio_kind": "units_global"}
    rows = [
        {**PROVENANCE, **run, **point, "seed": seed, "base_hash": f"b{seed}", **changed}
        for seed in range(3)
        for run in [*methods, ranked, {"method": "l1", "ratio_kind": "units_global"}]
        for point in CURVE
    ]
    return few_runs(*rows)


def failed(frame: pd.DataFrame) -> list[str]:
    """Return the evidence of the items that fail."""
    lines = [line for section in checklist(frame).sections for line in section.lines]
    return [line.cells[2].text for line in lines if line.cells[1].text == "fail"]


def test_a_complete_experiment_passes_every_item() -> None:
    table = checklist(good_runs())
    assert failed(good_runs()) == []
    assert [one.subtitle for one in table.sections] == [
        "4 of 4 pass",
        "5 of 5 pass",
        "6 of 6 pass",
        "3 items",
    ]


@pytest.mark.parametrize(
    ("changed", "evidence"),
    [
        ({"commit": None}, "75 of 75 runs record no commit"),
        ({"code": "other"}, "the code of their method has changed since 75 of the runs"),
        ({"versions": None}, "75 of 75 runs do not record versions or device"),
        ({"recipes": "{}"}, "75 of 75 trained runs record no recipe"),
        (
            {"drop": 1.0},
            "0 of 5 curves have 5 operating points or more and reach a drop of 5 points of top-1; "
            "all have 5",
        ),
        ({"accuracy": float("nan")}, "75 of 75 runs lack their top-1, or their base's"),
        (
            {"base_hash": "b0"},
            "25 of 25 rows have 3 seeds or more; resnet20: one base network for all seeds",
        ),
        ({"macs": float("nan")}, "75 of 75 runs lack MACs or parameters"),
    ],
)
def test_an_item_fails_with_its_evidence(changed: dict[str, Any], evidence: str) -> None:
    assert failed(good_runs(**changed)) == [evidence]


def test_one_seed_has_no_spread_and_no_repetition() -> None:
    one = good_runs()
    found = failed(one[one["seed"] == 0])
    assert found[0] == "0 of 25 rows have 3 seeds or more; resnet20: one base network for all seeds"
    assert found[1].startswith("0 of 25 rows print mean ± sample standard deviation")


@pytest.mark.parametrize(
    ("without", "evidence"),
    [
        ("random", "0 rows rank all units together"),
        ("l1", "0 of 10 ratios have a row of l1 or l2"),
    ],
)
def test_a_missing_baseline_fails(without: str, evidence: str) -> None:
    runs = good_runs()
    assert evidence in failed(runs[runs["method"] != without])


def test_a_baseline_must_have_the_widths_of_each_layer() -> None:
    runs = good_runs()
    runs.loc[runs["method"] == "greg_1", "widths"] = '{"a":[3,8],"b":[4,16]}'
    assert failed(runs) == [
        "10 of 15 rows of other methods have a row of random with the same width of every layer, "
        "seed by seed",
        "0 of 5 rows of other methods have a row of l1 or l2 with the same width of every layer, "
        "seed by seed",
    ]


def test_a_single_method_is_no_comparison() -> None:
    runs = good_runs()
    assert "methods of the six papers: greg_1; baselines: none" in failed(
        runs[runs["method"] == "greg_1"]
    )


def test_the_unpruned_network_alone_has_no_matching_widths() -> None:
    runs = good_runs()
    evidence = failed(runs[runs["method"] == "unpruned"])
    assert any(text.startswith("0 of 0 rows of other methods") for text in evidence)


def test_both_files_have_every_item(tmp_path: Path, runs_csv: Path) -> None:
    markdown, latex = write_checklist(runs_csv, tmp_path)
    items = [item.words for part in ITEMS.values() for item in part]
    assert all(words in markdown.read_text(encoding="utf-8") for words in items)
    assert all(words in latex.read_text(encoding="utf-8") for words in items)
    assert r"p{0.4\textwidth}" in latex.read_text(encoding="utf-8")
