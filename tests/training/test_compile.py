"""torch.compile's default backend, in jobs of their own, as the workflow starts them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prunebench.core.spec import data_path
from tests.training.compiled_base import spec, train

ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX", "g++")


def job(results: Path, seed: int) -> dict[str, int]:
    """Train compiled in a process; return the hits and misses of the compiler's cache."""
    words = [sys.executable, "-m", "tests.training.compiled_base", str(results), str(seed)]
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    run = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=900
    )
    counts: dict[str, int] = json.loads(run.stdout.splitlines()[-1])
    return counts


def losses(results: Path, seed: int, *, compiled: bool) -> list[float]:
    with (results / spec(seed, compiled=compiled).path / "history.csv").open() as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no C++ compiler ({COMPILER})")
def test_compiled_jobs_train_as_eager_ones_and_share_what_they_compiled(
    tmp_path: Path, data_file: Path
) -> None:
    data_path(tmp_path, "synthetic").parent.mkdir()
    shutil.copy(data_file, data_path(tmp_path, "synthetic"))
    first, second = job(tmp_path, seed=0), job(tmp_path, seed=1)
    assert first == {"hit": 0, "miss": first["miss"]}
    assert second == {"hit": first["miss"], "miss": 0}
    assert first["miss"] >= 2  # forward and backward
    assert any((tmp_path / ".compiled").iterdir())
    for seed in (0, 1):
        train(tmp_path, seed, compiled=False)
        compiled = losses(tmp_path, seed, compiled=True)
        assert compiled == pytest.approx(losses(tmp_path, seed, compiled=False), rel=1e-4)
        assert len(compiled) == 2
