"""The networks to download, results/reference/*/networks, and their page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import prunebench as pb
from tests.docs.blocks import run_page

ROOT = Path(__file__).parents[2]
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FILES = sorted((ROOT / "results" / "reference").glob("*/networks/*.zip"))


def training_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "training.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_packed_run_is_that_of_a_stored_row(file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file) as packed:
        packed.extractall(tmp_path)
    [run] = [path.parent for path in tmp_path.rglob("training.json")]
    training, costs = training_of(run), json.loads((run / "metrics.json").read_text())
    rows = pd.read_csv(file.parents[1] / "runs.csv")
    [row] = rows[rows["spec_hash"] == training["spec_hash"]].to_dict("records")
    assert training["top1"] == pytest.approx(row["top1"], abs=1e-9)
    assert (costs["macs"], costs["params"]) == (row["macs"], row["params"])
    model = pb.load(run)
    assert sum(parameter.numel() for parameter in model.parameters()) == row["params"]
    assert file.stat().st_size < 1_000_000


def test_the_page_uses_one(tmp_path: Path) -> None:
    for file in FILES:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    outputs = [output.strip() for _, output, _ in run_page(page, tmp_path)]
    assert outputs[0] in CLASSES
