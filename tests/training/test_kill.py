"""`kill -9` in the middle of a run, then the same command: nothing is lost and nothing differs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunebench.core.files import read_json
from prunebench.experiments.spec import data_path

EXPERIMENT = """
title: Killed
datasets: [synthetic]
networks: {resnet20_x0_25: {}}
seeds: [0]
ratios: [0.5]
recipes: {base: long, fine_tune: long}
methods:
  srfp: {options: {scope: group}}
"""
EPOCHS = 20
RECIPE = f"{{epochs: {EPOCHS}, batch_size: 64, lr: 0.05, weight_decay: 0.001}}"
RUN = Path("results/killed/synthetic/resnet20_x0_25/srfp/default/0.5/seed0")


@pytest.fixture
def workplace(tmp_path: Path, data_file: Path) -> Path:
    """A folder with a configuration and data."""
    for name, text in (("experiments/killed", EXPERIMENT), ("recipes/long", RECIPE)):
        path = tmp_path / "config" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (tmp_path / "config" / "config.yaml").write_text("experiments: [killed]")
    target = data_path(tmp_path / "results", "synthetic")
    target.parent.mkdir(parents=True)
    shutil.copy(data_file, target)
    return tmp_path


def start(workplace: Path, checkpoint_seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "prunebench", "prune", "--experiment", "killed"]
    command += ["--method", "srfp", "--checkpoint-seconds", str(checkpoint_seconds)]
    return subprocess.Popen(command, cwd=workplace, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process to end without an error, and return what it has printed."""
    output, _ = process.communicate()
    assert process.returncode == 0
    return output


def wait_for(path: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_a_killed_run_goes_on_from_its_checkpoint(workplace: Path) -> None:
    process = start(workplace, 0.05)
    wait_for(workplace / RUN / "resume.previous.pt")
    process.kill()
    process.communicate()
    assert not (workplace / RUN / "training.json").exists()
    finish(start(workplace, 3600))
    resumed = read_json(workplace / RUN / "training.json")
    assert resumed["resumed_at"][0][1] > 0
    assert not (workplace / RUN / "resume.pt").exists()
    shutil.rmtree(workplace / RUN)
    finish(start(workplace, 3600))
    whole = read_json(workplace / RUN / "training.json")
    assert whole["resumed_at"] == []
    for key in ("weights_sha256", "top1", "val_top1", "top1_best_test", "epochs", "summary"):
        assert resumed[key] == whole[key]


def test_a_terminated_run_leaves_a_checkpoint_and_a_sentence(workplace: Path) -> None:
    process = start(workplace, 0.05)
    wait_for(workplace / RUN / "resume.pt")
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + 15
    assert (workplace / RUN / "resume.pt").exists()


def test_two_processes_do_not_write_the_same_run(workplace: Path) -> None:
    pair = [start(workplace, 3600) for _ in range(2)]
    assert sum("finished already" in finish(process) for process in pair) == 1
    history = (workplace / RUN / "history.csv").read_text().splitlines()
    assert len(history) == 1 + EPOCHS + 1  # header, epochs, removal: written once
