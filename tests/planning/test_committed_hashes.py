"""The hashes of committed runs: stored results are reused only as long as these stay."""

from __future__ import annotations

from pathlib import Path

from prunebench.planning.grid import resolve_experiment

CONFIG = Path(__file__).parents[2] / "config"
HASHES = {  # of results/reference/digits/runs.csv
    "resnet20/unpruned/default/0/seed0": "36b71e2922cf96bb",
    "resnet20/random/default/0.5/seed1": "9fa9480956b91ce5",
    "vgg16_x0_25/l1/default/0.875/seed0": "ec5f5ada70886f20",
    "resnet20/scratch_e/default/0.75/seed0": "d8f19b3f8f4cf870",
    "resnet20/greg_2/default/0.75/seed1": "09a1d73c6a65c712",
    "resnet20/srfp/default/0.75/seed0": "bebb8f344c43095a",
    "resnet20/epruner/beta0.92/auto/seed0": "93063bd0b19dcdae",
    "vgg16_x0_25/group_fisher/default/macs-0.75/seed0": "0a1aa1326956174c",
    "resnet20/orthoreg/default/0.75/seed1": "b059f64147e9cb85",
    "resnet20/early_bird/default/0.75/seed0": "63bd54d323148753",
}
RUNS = resolve_experiment("digits", CONFIG)


def test_ten_committed_runs_keep_their_hashes() -> None:
    # A change reruns every stored run of the method: name it in the changelog.
    found = {run.path.removeprefix("digits/digits/"): run.hash for run in RUNS}
    assert {path: found[path] for path in HASHES} == HASHES
