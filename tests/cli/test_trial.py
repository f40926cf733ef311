"""A trial of an experiment from its name to its row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import WriteConfig

NAME = "tiny_steps3_images40"


def test_a_trial_is_short_and_says_so(write_config: WriteConfig, call: Any) -> None:
    write_config()
    Path("config/config.yaml").write_text(f"experiments: [{NAME}]\n", encoding="utf-8")
    recipe = "one_epoch_steps3_images40"
    base = f"results/base/synthetic/resnet20_x0_25/{recipe}/seed0"
    for line in (
        "data --dataset synthetic",
        f"base --dataset synthetic --architecture resnet20_x0_25 --recipe {recipe}",
        "prune --method l1",
        "prune --method unpruned",
        "measure --only cost",
        "collect",
        f"tables --runs-csv results/{NAME}/runs.csv --title Stripes --out tables",
    ):
        status, _, error = call(*line.split())
        assert status == 0, f"{line}: {error}"
    training = json.loads(Path(base, "training.json").read_text(encoding="utf-8"))
    assert training["test_images"] == 40
    with Path(f"results/{NAME}/runs.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert (rows["l1"]["max_steps"], rows["l1"]["max_images"]) == ("3", "40")
    assert rows["l1"]["test_images"] == "40"
    title = "Stripes · at most 3 steps per phase · at most 40 images"
    assert title in Path("tables/summary.md").read_text(encoding="utf-8")
    status, _, error = call(
        "verify", f"results/{NAME}/synthetic/resnet20_x0_25/l1/default/0.5/seed0"
    )
    assert status == 0, error
