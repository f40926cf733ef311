"""Training speed: ratios of variants measured in turn, in one process.

    python benchmarks/training_speed.py step --networks resnet20 resnet56 --batch-size 128
    python benchmarks/training_speed.py epoch
    python benchmarks/training_speed.py checkpoint
    python benchmarks/training_speed.py seeds --seeds 3

step        our step (batch from the images on the device, augmentation, sums) against the same
            network, batch and optimizer on inputs that stand ready: the compute-only bound. On a
            GPU both are replayed from CUDA graphs.
epoch       our epoch against a loop in the style of the papers' released code, written here:
            DataLoader with workers, PIL transforms, contiguous fp32, one .item() a step.
checkpoint  seconds of writing one against seconds of an epoch.
seeds       an epoch of several runs of one network, one run after the other, against their steps
            in turns, on a GPU each run's on a stream of its own.

Images are random, 32x32 in three colours: no accuracy is meant. On a CPU one thread computes, and
seconds are the process's own (with its workers', for `epoch`), so that other jobs on the machine
matter less; on a GPU they are the wall clock's around synchronized stretches.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prunebench.data.dataset import Dataset, Split
from prunebench.data.registry import dataset_info
from prunebench.experiments.phases import Phase, Steps
from prunebench.experiments.recipe import Augment, Recipe
from prunebench.measure.cuda_graphs import CudaGraphs
from prunebench.methods.base import Method, MethodOptions
from prunebench.models.registry import build
from prunebench.training.batches import Batching, draw_epoch
from prunebench.training.checkpoint import CheckpointFile, pack
from prunebench.training.cuda import PhaseStep
from prunebench.training.optimizer import Optimizer
from prunebench.training.processes import Network
from prunebench.training.run import RunState
from prunebench.training.step import Sums

CIFAR10 = dataset_info("cifar10")
AUGMENT = Augment(crop_padding=4, flip=True)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def seconds(device: torch.device) -> float:
    """Return a clock: of this process and its finished children on a CPU, the wall's on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def took(device: torch.device, work: Callable[[], object]) -> float:
    start = seconds(device)
    work()
    return seconds(device) - start


def ratios(
    device: torch.device, theirs: Callable[[], object], ours: Callable[[], object], repeats: int
) -> tuple[float, float, float]:
    """Return the medians of both in seconds and of their ratio, measured in turn."""
    theirs(), ours()
    pairs = [(took(device, theirs), took(device, ours)) for _ in range(repeats)]
    medians = (statistics.median(pair[k] for pair in pairs) for k in (0, 1))
    return *medians, statistics.median(a / b for a, b in pairs)


def random_images(n: int, device: torch.device) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, *CIFAR10.shape), dtype=torch.uint8, generator=generator)
    split = Split(images.to(device), (torch.arange(n) % 10).to(device))
    empty = Split(images[:0].to(device), split.labels[:0])
    return Dataset(info=CIFAR10, train=split, val=empty, test=split, sha256="")


def make_run(network: str, images: int, recipe: Recipe, device: torch.device) -> RunState:
    run = RunState(
        seed=0,
        device=device,
        dataset=random_images(images, device),
        build=lambda: build(network, num_classes=10),
        phases=(Phase(name="train", recipe=recipe, length=Steps(1)),),
        base_recipe=recipe,
    )
    run.start_from(run.build())
    return run


class Ours:
    """Epochs and steps as the training loop makes them."""

    def __init__(self, run: RunState, recipe: Recipe) -> None:
        self.run, self.recipe, self.sums = run, recipe, Sums.zero(run.device)
        self.optimizer = Optimizer(run.params, recipe)
        recorder = CudaGraphs(run.device) if run.device.type == "cuda" else None
        method: Method[Any] = Method(MethodOptions())
        self.step = PhaseStep(run, method, self.optimizer, Network(run.model), recorder)
        self.batching = Batching(len(run.dataset.train), recipe.batch_size)
        self.epochs = 0

    def draw(self) -> None:
        """Draw the next epoch."""
        info = self.run.dataset.info
        self.batches = draw_epoch(
            self.run.dataset.train,
            self.recipe.augment,
            mean=info.mean,
            std=info.std,
            batching=self.batching,
            generator=self.run.generator("epoch", self.epochs),
        )
        self.epochs += 1

    def train(self, position: int) -> None:
        """Train on a batch of it."""
        self.optimizer.set_lr(self.recipe.lr)
        self.step(*self.batches.chunk(position), self.batching.portion(position), self.sums)

    def epoch(self) -> float:
        """Train for an epoch."""
        self.draw()
        for position in range(len(self.batching)):
            self.train(position)
        return float(self.sums.loss)


class Bound:
    """The compute-only bound: a batch that stands ready, no augmentation, no sums."""

    def __init__(self, run: RunState, recipe: Recipe, inputs: Tensor, labels: Tensor) -> None:
        self.run, self.inputs, self.labels = run, inputs, labels
        self.optimizer = Optimizer(run.params, recipe)
        self.train: Callable[[], None] = self.eager
        if run.device.type == "cuda":
            recorder = CudaGraphs(run.device)
            for _ in range(3):
                recorder.warm_up(self.eager)
            self.optimizer.zero_grad()
            self.train = recorder.record(self.eager)

    def eager(self) -> None:
        """Train on the batch that stands ready."""
        self.optimizer.zero_grad()
        F.cross_entropy(self.run.model(self.inputs), self.labels).backward()
        self.optimizer.step()


def step(options: argparse.Namespace, device: torch.device) -> None:
    """Print our steps against the bound."""
    print("| network | batch | bound, s | our step, s | bound / ours |\n|---|---|---|---|---|")
    for network in options.networks:
        recipe = make_recipe(options.batch_size)
        run = make_run(network, 4 * options.batch_size, recipe, device)
        ours = Ours(run, recipe)
        ours.draw()
        bound = Bound(run, recipe, *(t.clone() for t in ours.batches.chunk(0)))
        found = ratios(device, bound.train, lambda: ours.train(1), options.repeats)  # noqa: B023
        print(f"| {network} | {options.batch_size} | {row(*found)} |", flush=True)


class PlainEpochs:
    """A loop in the style of the papers' released code."""

    def __init__(
        self, dataset: Dataset, network: str, recipe: Recipe, device: torch.device
    ) -> None:
        from torchvision import transforms

        channels, side, _ = dataset.info.shape
        normalize = transforms.Normalize(dataset.info.mean, dataset.info.std)
        steps = [transforms.RandomCrop(side, padding=4), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), normalize])
        assert isinstance(dataset.train, Split)
        images = dataset.train.images.cpu()
        self.images = (images[:, 0] if channels == 1 else images.permute(0, 2, 3, 1)).numpy()
        self.labels = dataset.train.labels.tolist()
        self.device, self.model = device, build(network, num_classes=10, in_channels=channels)
        self.model.to(device).train()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay
        )
        self.loader = torch.utils.data.DataLoader(
            self,  # type: ignore[arg-type]
            batch_size=recipe.batch_size,
            shuffle=True,
            num_workers=2,
            pin_memory=device.type == "cuda",
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[k])), self.labels[k]

    def epoch(self) -> float:
        """Train for an epoch."""
        total = 0.0
        for x, y in self.loader:
            inputs, labels = x.to(self.device), y.to(self.device)
            loss = F.cross_entropy(self.model(inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(y)
        return total


def epoch(options: argparse.Namespace, device: torch.device) -> None:
    """Print our epochs against the papers' style."""
    print(
        "| network | images | papers' style, s | ours, s | papers' / ours |\n|---|---|---|---|---|"
    )
    for network in options.networks:
        recipe = make_recipe(options.batch_size)
        run = make_run(network, options.images, recipe, device)
        plain = PlainEpochs(run.dataset, network, recipe, device)
        found = ratios(device, plain.epoch, Ours(run, recipe).epoch, options.repeats)
        print(f"| {network} | {options.images} | {row(*found)} |", flush=True)


def checkpoint(options: argparse.Namespace, device: torch.device) -> None:
    """Print what a checkpoint per epoch costs."""
    print("| network | images | epoch, s | checkpoint, s | share |\n|---|---|---|---|---|")
    for network in options.networks:
        recipe = make_recipe(options.batch_size)
        run = make_run(network, options.images, recipe, device)
        ours = Ours(run, recipe)
        method: Method[Any] = Method(MethodOptions())
        with tempfile.TemporaryDirectory() as folder:
            file = CheckpointFile(Path(folder), "benchmark", 0.0, print)

            def write() -> None:
                file.write(pack(run, method, ours.optimizer, ours.sums))  # noqa: B023

            each, written, _ = ratios(device, ours.epoch, write, options.repeats)
        share = written / each
        print(f"| {network} | {options.images} | {each:.3f} | {written:.4f} | {share:.2%} |")


def seeds(options: argparse.Namespace, device: torch.device) -> None:
    """Print runs one after the other against the same runs side by side."""
    print(
        "| network | runs | one after the other, s | side by side, s | after / beside |\n"
        "|---|---|---|---|---|"
    )
    for network in options.networks:
        recipe = make_recipe(options.batch_size)
        runs = [
            Ours(make_run(network, options.images, recipe, device), recipe)
            for _ in range(options.seeds)
        ]
        streams = [
            torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
            for _ in runs
        ]

        def after() -> None:
            for run in runs:  # noqa: B023
                run.epoch()

        def beside() -> None:
            for run, stream in zip(runs, streams, strict=True):  # noqa: B023
                with torch.cuda.stream(stream):
                    run.draw()
            for position in range(len(runs[0].batching)):  # noqa: B023
                for run, stream in zip(runs, streams, strict=True):  # noqa: B023
                    with torch.cuda.stream(stream):
                        run.train(position)

        found = ratios(device, after, beside, options.repeats)
        print(f"| {network} | {options.seeds} | {row(*found)} |", flush=True)


def row(theirs: float, ours: float, ratio: float) -> str:
    return f"{theirs:.4f} | {ours:.4f} | {ratio:.2f}"


def make_recipe(batch_size: int) -> Recipe:
    return Recipe(batch_size=batch_size, lr=0.01, weight_decay=5e-4, augment=AUGMENT)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = {"step": step, "epoch": epoch, "checkpoint": checkpoint, "seeds": seeds}
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--networks", nargs="+", default=["resnet20"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--images", type=int, default=1024, help="of an epoch")
    parser.add_argument("--seeds", type=int, default=3, help="runs side by side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(options.device)
    load = "" if device.type == "cuda" else f", load {os.getloadavg()[0]:.1f}"
    print(f"{device_name(device)}{load}, torch {torch.__version__}, NumPy {np.__version__}\n")
    kinds[options.what](options, device)


if __name__ == "__main__":
    main()
