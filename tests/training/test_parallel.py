"""Two processes on a folder of images, started by torchrun, against one process."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from prunebench.core.files import read_json
from prunebench.data.dataset import load, prepare
from prunebench.data.images import evaluation_batches
from prunebench.experiments.spec import data_path
from prunebench.measure.accuracy import count_correct
from prunebench.network import load_network
from prunebench.training.checkpoint import unpacked_sums
from prunebench.training.processes import Alone

ARCHITECTURE = "resnet20_x0_25"
RECIPE = """
epochs: {epochs}
batch_size: 16
accumulation: {accumulation}
lr: 0.02
weight_decay: 0.001
augment: {{resized_crop: {{}}, jitter: 0.2, flip: true, lighting: 0.1}}
"""
EXPERIMENT = """
title: Pairs
datasets: [folder_stripes]
networks: {resnet20_x0_25: {}}
seeds: [0]
ratios: [0.5]
recipes: {base: one, fine_tune: one}
methods: {l1: {}, greg_1: {recipes: {regularize: steps}, options: {delta: 0.5, interval_steps: 1,
  stabilize_steps: 3}}}
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 45 training and 13 test images of two classes, and recipes."""
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    for split, counts in (("train", (23, 22)), ("test", (7, 6))):
        for label, n in enumerate(counts):
            for k in range(n):
                path = folder / "data" / "stripes" / split / str(label) / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 120, (20, 20, 3), dtype=np.uint8)
                pixels[(slice(None), slice(0, 20, 2))[:: 1 if label else -1]] += 130
                Image.fromarray(pixels).save(path)
    (folder / "data" / "stripes" / "dataset.yaml").write_text("{size: 16, resize: 18}")
    recipes = folder / "config" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "one.yaml").write_text(RECIPE.format(epochs=3, accumulation=1))
    (recipes / "two.yaml").write_text(RECIPE.format(epochs=3, accumulation=2))
    (recipes / "synced.yaml").write_text(
        RECIPE.format(epochs=3, accumulation=1) + "sync_batch_norm: true"
    )
    (recipes / "long.yaml").write_text(RECIPE.format(epochs=60, accumulation=1))
    (recipes / "steps.yaml").write_text(
        RECIPE.format(epochs=3, accumulation=1).replace("epochs: 3", "")
    )
    (folder / "config" / "experiments").mkdir()
    (folder / "config" / "experiments" / "pairs.yaml").write_text(EXPERIMENT)
    (folder / "config" / "config.yaml").write_text("{experiments: pairs, workers: 0, device: cpu}")
    results = folder / "results"
    prepare("folder_stripes", folder / "data", data_path(results, "folder_stripes"), validation=0.0)
    return folder


def command(processes: int, *arguments: str) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *(torchrun if processes > 1 else []), "-m", "prunebench", *arguments]


def base(recipe: str, *more: str) -> list[str]:
    named = ["--dataset", "folder_stripes", "--architecture", ARCHITECTURE, "--recipe", recipe]
    return ["base", *named, *more]


def run(workplace: Path, processes: int, *arguments: str, results: str) -> None:
    (workplace / results).mkdir(exist_ok=True)
    if not (workplace / results / "data").exists():
        (workplace / results / "data").symlink_to(workplace / "results" / "data")
    words = command(processes, *arguments, "--results", results)
    subprocess.run(words, cwd=workplace, check=True, timeout=300)


def outcome(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    with (folder / "history.csv").open(newline="") as lines:
        rows = [{**row, "seconds": ""} for row in csv.DictReader(lines)]
    return read_json(folder / "training.json"), rows


def base_folder(workplace: Path, results: str, recipe: str) -> Path:
    return workplace / results / "base" / "folder_stripes" / ARCHITECTURE / recipe / "seed0"


def test_two_processes_have_the_loss_curve_of_one(workplace: Path) -> None:
    run(workplace, 2, *base("one"), results="pair")
    run(workplace, 1, *base("two"), results="alone")
    pair, pair_rows = outcome(base_folder(workplace, "pair", "one"))
    _, alone_rows = outcome(base_folder(workplace, "alone", "two"))
    losses = [[float(row["train_loss"]) for row in rows] for rows in (pair_rows, alone_rows)]
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert pair["processes"] == 2
    # exact over processes: the same count as one process makes of the stored network
    model = load_network(base_folder(workplace, "pair", "one"))
    data = load(data_path(workplace / "results", "folder_stripes"))
    batches = evaluation_batches(data.test, mean=data.info.mean, std=data.info.std)
    with torch.inference_mode():
        found = count_correct(model.to(memory_format=torch.channels_last), batches)
    assert found.total == 13
    assert found.percent == pair["top1"]


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_synchronized_norms_have_the_loss_curve_of_whole_batches(workplace: Path) -> None:
    run(workplace, 2, *base("synced", "--device", "cuda"), results="synced")
    run(workplace, 1, *base("one", "--device", "cuda"), results="whole_batches")
    _, pair = outcome(base_folder(workplace, "synced", "synced"))
    _, alone = outcome(base_folder(workplace, "whole_batches", "one"))
    losses = [[float(row["train_loss"]) for row in rows] for rows in (pair, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_a_method_runs_on_two_processes(workplace: Path) -> None:
    run(workplace, 1, *base("one"), results="methods")
    choice = ["prune", "--experiment", "pairs", "--ratio", "0.5", "--method"]
    for method in ("l1", "greg_1"):
        run(workplace, 2, *choice, method, results="methods")
        folder = workplace / "methods" / "pairs" / "folder_stripes" / ARCHITECTURE / method
        found = read_json(folder / "default" / "0.5" / "seed0" / "training.json")
        assert found["processes"] == 2
        assert found["masked_removed_difference"] < 1e-9


@pytest.mark.slow
def test_a_stopped_pair_goes_on_to_the_same_bits(workplace: Path) -> None:
    run(workplace, 2, *base("long"), results="whole")
    stopped = base_folder(workplace, "stopped", "long")
    (workplace / "stopped").mkdir()
    (workplace / "stopped" / "data").symlink_to(workplace / "results" / "data")
    words = command(2, *base("long"), "--results", "stopped", "--checkpoint-seconds", "0")
    process = subprocess.Popen(words, cwd=workplace)
    while not (stopped / "resume.previous.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) != 0
    assert not (stopped / "training.json").exists()
    run(workplace, 2, *base("long"), results="stopped")
    resumed, resumed_rows = outcome(stopped)
    whole, whole_rows = outcome(base_folder(workplace, "whole", "long"))
    assert resumed["resumed_at"][0][1] > 0
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed_rows == whole_rows


class Second(Alone):
    rank, world = 1, 2


@pytest.mark.parametrize("world", [1, 2])
def test_sums_of_another_number_of_processes_go_to_the_first(world: int) -> None:
    stored = {
        "sums": [torch.tensor([1.5, 2.0, 4.0]), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])]
    }
    first = Alone()
    first.world = world
    device = torch.device("cpu")
    sums = unpacked_sums(stored, device, first)
    assert (float(sums.loss), int(sums.correct), sums.images) == (7.5, 6, 15)
    other = unpacked_sums(stored, device, Second())
    assert (float(other.loss), int(other.correct), other.images) == (0, 0, 0)
