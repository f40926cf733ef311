"""The report of the runs that look like those of the experiment `digits`, and one of many seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prunebench.report.pages.report_page import write_report
from prunebench.report.runs_csv import read_runs
from tests.report.conftest import few_runs

PLAIN: dict[str, object] = {
    "base_params": 8,
    "params": 2,
    "base_macs": 100,
    "activations": 7,
    "training_seconds": 1.0,
    "versions": '{"prunebench":"0.1.0"}',
    "recipes": '{"fine_tune":{"name":"short","lr":0.01,"schedule":{"kind":"constant"}}}',
    "device": "cpu",
    "processor": "some processor",
    "date": "2026-11-30",
}
SEEDS = range(9)
ACCURACY = (90, 91, 92, 93, 94, 95, 96, 97, 10)  # by seed; the median is 93


@pytest.fixture(scope="session")
def report(runs_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report and the pages of its runs; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("report")
    write_report(read_runs(runs_csv), folder)
    return folder


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one cell with nine seeds, one of which has failed to learn."""
    folder = tmp_path_factory.mktemp("many")
    write_report(few_runs(*(one_of_many(seed) for seed in SEEDS)), folder)
    return folder


def one_of_many(seed: int) -> dict[str, object]:
    row = few_runs({}).iloc[0].to_dict()
    history = json.loads(row["history"]) | {"test_accuracy": [31.0, 80.0, ACCURACY[seed]]}
    history |= {"train_loss": [None, 0.5, 0.1 * (seed + 1)]}
    insides = json.loads(row["insides"]) | {"size": {"layer": ["a", "b"], "value": [1.0, seed]}}
    times = {"ms": 2.0 + 0.1 * seed, "base_ms": 4.0, "speedup": 4 / (2.0 + 0.1 * seed)}
    return {
        **PLAIN,
        "seed": seed,
        "accuracy": ACCURACY[seed],
        "history": json.dumps(history),
        "insides": json.dumps(insides),
        "spec_hash": f"s{seed}",
        **{f"latency_{name}_cpu_b1": value for name, value in times.items()},
    }
