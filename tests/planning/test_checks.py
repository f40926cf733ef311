"""The experiments of this repository against the printed rows that they name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.config import read_experiment
from prunebench.experiments.spec import RunSpec
from prunebench.models.registry import is_detector
from prunebench.papers.comparison import same_ratio
from prunebench.papers.published import PublishedRow, read_published, select
from prunebench.papers.reproduced import states
from prunebench.planning.grid import resolve_experiment

CONFIG = Path(__file__).parents[2] / "config"
PUBLISHED = select(read_published(), own_only=True)
FILES = {
    path.stem: read_experiment(CONFIG, path.stem)
    for path in sorted((CONFIG / "experiments").glob("*.yaml"))
}
DECLARED = [name for name, file in FILES.items() if any(map(is_detector, file.networks))]
COMPARED = [name for name, file in FILES.items() if file.published and name not in DECLARED]


@pytest.mark.parametrize("experiment", COMPARED)
def test_each_name_fits_one_cell_and_one_printed_row(experiment: str) -> None:
    published = FILES[experiment].published
    assert published is not None
    printed = select(PUBLISHED, paper=published.paper, table=published.table)
    found = {}
    for run in resolve_experiment(experiment, CONFIG, seeds=(0,)):
        cell = (run.architecture, run.method, run.setting, run.ratio_slug)
        name = published.name_of(*cell)
        if name is None or run.method == "unpruned":
            continue
        rows = [
            row
            for row in select(printed, dataset=run.dataset, architecture=name["architecture"])
            if row.is_named(str(name["method"]), name["setting"], name["ratio"])
            and (name["ratio"] is not None or _has_our_ratio(row, run))
        ]
        found[cell] = len(rows)
    assert found == dict.fromkeys(found, 1)
    named = {"/".join(cell[1:end]) for cell in found for end in (2, 3, 4)}
    assert named.issuperset(published.rows)


def _has_our_ratio(row: PublishedRow, run: RunSpec) -> bool:
    return same_ratio(row, math.nan if run.ratio is None else run.ratio, run.ratio_kind)


@pytest.mark.parametrize("experiment", DECLARED)
def test_an_experiment_with_detectors_is_declared_and_cannot_be_run(
    experiment: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{experiment}.yaml: networks: .* is a detector; "):
        resolve_experiment(experiment, CONFIG)
    published = FILES[experiment].published
    assert published is not None
    rows = select(PUBLISHED, paper=published.paper, table=published.table, method="group_fisher")
    assert {state.experiment for state in states(rows, CONFIG, tmp_path)} == {experiment}
