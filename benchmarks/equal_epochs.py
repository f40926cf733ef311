r"""Accuracy at equal epochs: the fast settings against a plain loop, in units of the seed noise.

    python benchmarks/equal_epochs.py
    python benchmarks/equal_epochs.py --device cuda --network resnet20 --images 60000 --epochs 30 \
        --jobs 1

plain       the loop of `training_speed.py` in the style of the papers' released code: DataLoader,
            PIL transforms image by image, contiguous fp32, eager.
fast        our loop: augmentation of whole batches on the device, channels last, fp32; on a GPU
            steps are replayed from a CUDA graph and fp32 is TensorFloat-32.
fast, bf16  the same with forward passes in bf16.

Fashion-MNIST, as many of its training images of each class, its 10,000 test images; the same first
weights, batches, schedule and augmentation by seed, the random numbers are each loop's own. The
seed noise is the standard deviation over seeds, pooled over the plain loop and the setting beside
it. Of two settings that are the same the means of three seeds differ by 0.8 of it (root mean
square).
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from training_speed import PlainEpochs, device_name, seconds

from prunebench.data.dataset import Dataset, Split, load, prepare
from prunebench.data.normalization import normalization
from prunebench.experiments.phases import Budget
from prunebench.experiments.recipe import Augment, Recipe, Schedule
from prunebench.measure.cuda_graphs import CudaGraphs
from prunebench.methods.base import MethodOptions
from prunebench.methods.controls import Base
from prunebench.models.registry import build
from prunebench.training.checkpoint import StopRequest
from prunebench.training.classification import count_split
from prunebench.training.loop import Loop
from prunebench.training.progress import SilentProgress
from prunebench.training.run import RunState

DATA = "fashion_mnist"


def fewer(split: Any, n: int) -> Split:
    """Return the first n images of a split, as many of each class."""
    classes = [(split.labels == c).nonzero()[: n // 10, 0] for c in range(10)]
    places = torch.cat(classes).sort().values
    return Split(split.images[places], split.labels[places])


def make_recipe(options: argparse.Namespace, precision: str) -> Recipe:
    return Recipe(
        epochs=options.epochs,
        batch_size=128,
        lr=0.1,
        weight_decay=5e-4,
        schedule=Schedule(kind="cosine"),
        augment=Augment(crop_padding=4, flip=True),
        precision=precision,
    )


def first_network(options: argparse.Namespace, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build(options.network, num_classes=10, in_channels=1)


def plain(options: argparse.Namespace, data: Dataset, seed: int) -> nn.Module:
    """Return a network that the plain loop has trained."""
    recipe = make_recipe(options, "fp32")
    first = first_network(options, seed)
    loop = PlainEpochs(data, options.network, recipe, torch.device(options.device))
    loop.model.load_state_dict(first.state_dict())
    for epoch in range(options.epochs):
        for group in loop.optimizer.param_groups:
            group["lr"] = recipe.lr_at(epoch, options.epochs)
        loop.epoch()
    return loop.model


def fast(options: argparse.Namespace, data: Dataset, seed: int, precision: str) -> nn.Module:
    """Return a network that our loop has trained."""
    recipe, device = make_recipe(options, precision), torch.device(options.device)
    method = Base(MethodOptions())
    run = RunState(
        seed=seed,
        device=device,
        # It looks at test images after each epoch: a few are enough, all are counted at the end.
        dataset=replace(data, test=fewer(data.test, 10)),
        build=lambda: first_network(options, seed),
        phases=tuple(method.phases({"base": recipe}, Budget(kind="auto", ratio=None))),
        base_recipe=recipe,
    )
    run.start_from(run.build())
    recorder = CudaGraphs(device) if device.type == "cuda" else None
    Loop(run, method, progress=SilentProgress(), stop=StopRequest(), recorder=recorder).train()
    return run.model


SETTINGS: dict[str, Callable[[argparse.Namespace, Dataset, int], nn.Module]] = {
    "plain": plain,
    "fast": lambda options, data, seed: fast(
        options, data, seed, "tf32" if options.device == "cuda" else "fp32"
    ),
    "fast, bf16": lambda options, data, seed: fast(options, data, seed, "bf16"),
}


def job(options: argparse.Namespace, file: Path, setting: str, seed: int) -> tuple[float, float]:
    """Return the accuracy of a run in percent, and its seconds, on a CPU with its workers'."""
    torch.set_num_threads(1)
    data = load(file, options.device)
    empty = fewer(data.val, 0)
    data = replace(data, train=fewer(data.train, options.images), val=empty)
    device = torch.device(options.device)
    start = seconds(device)
    model = SETTINGS[setting](options, data, seed)
    took = seconds(device) - start
    found = count_split(model, data.test, normalization("dataset", data.info))
    return found.percent, took


def row(setting: str, runs: list[tuple[float, float]], base: list[float]) -> str:
    """Return a line of the table; `base` are the plain loop's accuracies."""
    own = [top1 for top1, _ in runs]
    mean, sd = statistics.mean(own), statistics.stdev(own)
    noise = math.sqrt((sd**2 + statistics.variance(base)) / 2)
    away = mean - statistics.mean(base)
    units = "" if setting == "plain" else f"{away:+.2f} | {away / noise:+.1f}"
    took = statistics.mean(took for _, took in runs)
    each = ", ".join(f"{top1:.2f}" for top1 in own)
    return f"| {setting} | {each} | {mean:.2f} ± {sd:.2f} | {units or ' | '} | {took:.0f} |"


def main() -> None:
    """Train every setting with every seed; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet20_x0_25")
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--jobs", type=int, default=2, help="at once, a thread each")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{DATA}.safetensors"
        prepare(DATA, options.data_dir, file, validation=0.0)
        # No forks: the plain loop's workers are forked from processes without threads.
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
            runs = {
                setting: [
                    pool.submit(job, options, file, setting, seed) for seed in range(options.seeds)
                ]
                for setting in options.settings
            }
            found = {setting: [one.result() for one in own] for setting, own in runs.items()}
    where = device_name(torch.device(options.device))
    print(f"{where}, load {load_before:.1f}, torch {torch.__version__}, NumPy {np.__version__}")
    print(f"{options.network}, {options.images} images, {options.epochs} epochs, ", end="")
    print(f"{time.perf_counter() - started:.0f} s\n")
    print("| setting | test accuracy by seed, % | mean ± sd | difference | in seed noise | s |")
    print("|---|---|---|---|---|---|")
    base = [top1 for top1, _ in found["plain"]] if "plain" in found else []
    for setting, own in found.items():
        print(row(setting, own, base))


if __name__ == "__main__":
    main()
