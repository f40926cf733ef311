"""One run fails: the others are collected, and the tables name it."""

from __future__ import annotations

import shutil
from pathlib import Path

from prunebench.core.files import read_csv
from tests.workflow.conftest import snakemake

CONFIG = ("--cores", "2", "--config", "experiments=quick")
RUN = Path("results/quick/digits/resnet20/l1/default/0.5/seed0")


def test_one_failed_run_leaves_the_tables_of_the_others(quick_copy: Path) -> None:
    log = quick_copy / "results/logs" / RUN.relative_to("results").with_suffix(".log")
    first_attempt = log.read_text(encoding="utf-8")
    masks = quick_copy / RUN / "masks.safetensors"
    shutil.rmtree(quick_copy / RUN)
    masks.mkdir(parents=True)  # a folder in the place of a file
    failed = snakemake(quick_copy, *CONFIG)
    assert failed.returncode == 1
    sentence = f"{RUN}/masks.safetensors: cannot be written (Is a directory)"
    assert (
        f"1 failed, 0 waiting\nfailed   {RUN.relative_to('results')} · {sentence}" in failed.stdout
    )
    place = quick_copy / "results/quick"
    rows = read_csv(place / "runs.csv", ["method"])
    assert "l1" not in {row["method"] for row in rows}
    summary = (place / "tables/summary.md").read_text(encoding="utf-8")
    assert f"- l1, 0.5: 1 run failed (seed 0): {sentence}" in summary
    second_attempt = log.read_text(encoding="utf-8").removeprefix(first_attempt)
    assert second_attempt.count(" UTC · ") == 1
    assert f"prunebench: {sentence}; a folder is in the place of this file" in second_attempt
    assert "1 without a result" in (place / "report/index.html").read_text(encoding="utf-8")

    masks.rmdir()
    assert snakemake(quick_copy, "runs", "results/quick/runs.csv", *CONFIG).returncode == 0
    rows = read_csv(place / "runs.csv", ["method"])
    assert "l1" in {row["method"] for row in rows}
    assert not (place / "missing.csv").exists()
    assert log.read_text(encoding="utf-8").startswith(first_attempt + second_attempt)
