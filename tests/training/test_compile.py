"""torch.compile's default backend, in jobs of their own, as the workflow starts them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.experiments.phases import Phase
from prunebench.experiments.spec import data_path
from prunebench.training.loop import Loop
from tests.training.compiled_base import spec, train
from tests.training.parallel_methods import loops, small_dataset
from tests.training.test_resume import loop_of

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


@pytest.mark.slow
def test_compiled_passes_are_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # This backend traces forward and backward but needs no compiler of C++.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    make = loops(small_dataset(tmp_path), accumulation=1)

    def compiling(method: Any, phases: Sequence[Phase], **more: Any) -> Loop:
        first, *rest = phases
        assert first.recipe is not None
        settings = first.recipe.model_copy(update={"compile": True})
        return make(method, [replace(first, recipe=settings), *rest], **more)

    eager, compiled = loop_of("group_fisher", make), loop_of("group_fisher", compiling)
    eager.train()
    compiled.train()
    assert {name: units.tolist() for name, units in compiled.run.kept.items()} == {
        name: units.tolist() for name, units in eager.run.kept.items()
    }
    assert sum(len(units) for units in eager.run.kept.values()) < sum(eager.run.sizes.values())
