from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from prunebench.papers.published import read_published, select
from prunebench.papers.reproduced import RowState, states

TABLE1 = select(read_published(), paper="greg", table="Table 1", architecture="resnet56")
EXPERIMENT = {
    "title": "GReg, Table 1",
    "datasets": ["cifar10"],
    "networks": {"resnet56": {}},
    "seeds": [0],
    "ratios": [0.5, 0.7],
    "recipes": {"base": "base"},
    "methods": {"l1": {}, "greg_1": {"settings": {"long": {}, "short": {}}}},
    "published": {
        "paper": "greg",
        "table": "Table 1",
        "rows": {"l1": "l1/one_shot", "greg_1/long": "greg_1/growing_reg"},
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration folder with the experiment `mine`."""
    folder = tmp_path / "config"
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return folder


def finish(results: Path, path: str) -> None:
    (results / path).mkdir(parents=True)
    (results / path / "training.json").write_text("{}")


def test_rows_of_an_experiment_are_those_of_its_ratios(config: Path, tmp_path: Path) -> None:
    found = states(TABLE1, config, tmp_path / "results")
    printed = [
        (row.method, str(row.ratio_printed))
        for row, s in zip(TABLE1, found, strict=True)
        if s.experiment
    ]
    assert printed == [("l1", "50"), ("greg_1", "50"), ("l1", "70"), ("greg_1", "70")]
    assert {str(state) for state in found} == {"", "mine, not run"}


def test_the_unpruned_network_is_the_baseline(config: Path, tmp_path: Path) -> None:
    baseline = select(TABLE1, method="baseline")
    assert [str(state) for state in states(baseline, config, tmp_path)] == [""]
    changed = EXPERIMENT | {"methods": {"unpruned": {}, "l1": {}, "greg_1": {}}}
    (config / "experiments" / "mine.yaml").write_text(yaml.safe_dump(changed))
    finish(tmp_path, "mine/cifar10/resnet56/unpruned/default/0/seed0")
    assert [str(s) for s in states(baseline, config, tmp_path)] == ["mine, run on cifar10 (1)"]


def test_finished_runs_are_counted_by_data_also_moved_ones(config: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in (0, 1):
        finish(results, f"mine/cifar10/resnet56/greg_1/long/0.5/seed{seed}")
    finish(results, "mine_on_digits_x0_1/digits/resnet56/greg_1/long/0.5/seed0")
    finish(results, "mine/cifar10/resnet56/greg_1/short/0.5/seed0")  # a setting without a row
    finish(results, "mine2/cifar10/resnet56/greg_1/long/0.5/seed0")  # another experiment
    (greg,) = (r for r in TABLE1 if (r.method, str(r.ratio_printed)) == ("greg_1", "50"))
    (state,) = states([greg], config, results)
    assert state == RowState("mine", {"cifar10": 2, "digits": 1})
    assert str(state) == "mine, run on cifar10 (2), digits (1)"


def test_a_row_is_named_by_its_printed_ratio(config: Path, tmp_path: Path) -> None:
    changed = EXPERIMENT | {
        "methods": {"greg_1": {"ratio_kind": "auto"}},
        "published": {
            "paper": "greg",
            "table": "Table 2",
            "rows": {"greg_1": "greg_1/filter_pruning/2.55"},
        },
    }
    (config / "experiments" / "mine.yaml").write_text(yaml.safe_dump(changed))
    rows = select(read_published(), paper="greg", table="Table 2", method="greg_1")
    finish(tmp_path, "mine/cifar10/resnet56/greg_1/default/auto/seed0")
    assert [str(state) for state in states(rows, config, tmp_path)] == [
        "mine, run on cifar10 (1)",
        "",
    ]


def test_a_row_that_prints_no_ratio_is_named_by_its_flops(config: Path, tmp_path: Path) -> None:
    changed = EXPERIMENT | {
        "datasets": ["imagenet"],
        "networks": {"resnet50": {}},
        "methods": {"group_fisher": {"ratios": [0.25, 0.75], "ratio_kind": "macs"}},
        "published": {
            "paper": "group_fisher",
            "table": "Table 4",
            "rows": {"group_fisher/default/macs-0.75": "group_fisher/norm_memory/flops_m=1020"},
        },
    }
    (config / "experiments" / "mine.yaml").write_text(yaml.safe_dump(changed))
    rows = select(read_published(), table="Table 4", method="group_fisher", architecture="resnet50")
    finish(tmp_path, "mine/imagenet/resnet50/group_fisher/default/macs-0.75/seed0")
    finish(tmp_path, "mine/imagenet/resnet50/group_fisher/default/macs-0.25/seed0")
    found = dict(
        zip((str(row.flops_m) for row in rows), states(rows, config, tmp_path), strict=True)
    )
    assert {name: str(state) for name, state in found.items()} == {
        "3060": "",
        "2040": "",
        "1020": "mine, run on imagenet (1)",
    }


def test_without_experiments_no_row_has_one(tmp_path: Path) -> None:
    assert states(TABLE1[:1], tmp_path, tmp_path) == [RowState()]
