"""The experiments of this repository against the printed rows that they name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from prunebench.core.errors import ConfigError
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import read_experiment
from prunebench.experiments.spec import RunSpec
from prunebench.methods.registry import method_class
from prunebench.papers.comparison import same_ratio
from prunebench.papers.published import PublishedRow, read_published, select
from prunebench.planning.checks import check_task
from prunebench.planning.grid import resolve_experiment

CONFIG = Path(__file__).parents[2] / "config"
PUBLISHED = select(read_published(), own_only=True)
FILES = {
    path.stem: read_experiment(CONFIG, path.stem)
    for path in sorted((CONFIG / "experiments").glob("*.yaml"))
}
COMPARED = [name for name, file in FILES.items() if file.published]


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


@pytest.mark.parametrize(
    ("dataset", "network", "sentence"),
    [
        ("digits", "retinanet_r18_fpn", "is a detector, which needs images with boxes, and digits"),
        ("bccd", "resnet20", "is no detector, and bccd has boxes"),
    ],
)
def test_network_and_data_set_must_have_one_task(dataset: str, network: str, sentence: str) -> None:
    check_task(dataset_info("digits"), "resnet20")
    check_task(dataset_info("bccd"), "retinanet_r18_fpn_x0_25")
    with pytest.raises(ConfigError, match=sentence):
        check_task(dataset_info(dataset), network)


@pytest.mark.parametrize(
    ("method", "options", "needs"),
    [
        ("grasp", {}, True),
        ("rdt", {}, True),
        ("taylor", {}, False),
        ("l1", {}, False),
        ("orthoreg_from_base", {"criterion": "grasp"}, True),
        ("orthoreg_from_base", {}, False),
        ("group_fisher", {}, False),
    ],
)
def test_methods_that_look_at_classes_say_so(
    method: str, options: dict[str, object], needs: bool
) -> None:
    found = method_class(method)
    assert found(found.Options.model_validate(options)).needs_labels() is needs
