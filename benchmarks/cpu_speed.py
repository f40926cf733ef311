"""Choices of training on this CPU: precision, memory format, compilation, threads, evaluation.

    python benchmarks/cpu_speed.py
    python benchmarks/cpu_speed.py --networks resnet20 resnet56 --repeats 3
    python benchmarks/cpu_speed.py --only step --compiled

step        a training step in the style of the papers' released code, written here: transforms of
            torchvision for each image, contiguous fp32, one .item() a step; forward, backward and
            optimizer alone, contiguous and channels last, on a batch that stands ready; our step by
            an fp32 and by a bf16 recipe, and with --compiled by a compiled one.
evaluation  a plain inference loop, contiguous in batches of 128, against our evaluation; and the
            share of evaluations in a run of three epochs, which evaluates the test split four
            times: after removal and after each epoch.
threads     two runs side by side with one thread each against one run with two threads; seconds of
            the wall clock, so nothing else should run.

Images are random, 32x32 in three colors. Variants take turns: ours in one process, all others in
another one, since ours changes how the C library keeps memory. Each computes with one thread;
seconds are the process's own, so that other jobs matter less, and ratios are medians over the
turns. Without arguments it takes less than two minutes on an idle core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from training_speed import CIFAR10, Ours, PlainEpochs, device_name, make_recipe, make_run

from prunebench.data.augment import normalize
from prunebench.data.dataset import Split
from prunebench.data.normalization import Normalization
from prunebench.measure.device import multiplies_bf16
from prunebench.training.classification import count_split
from prunebench.training.memory import keep_freed_memory
from prunebench.training.processes import Network

CPU = torch.device("cpu")
BATCH = 128
TRAIN, TEST, EPOCHS = 50_000, 10_000, 3  # CIFAR-10
Work = Callable[[], object]


class PlainSteps(PlainEpochs):
    """Steps in the style of the papers' released code, without workers."""

    def train(self, position: int) -> float:
        """Train on a batch."""
        items = [self[k] for k in range(position * BATCH, (position + 1) * BATCH)]
        inputs, labels = torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items])
        loss = F.cross_entropy(self.model(inputs), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Ready(PlainEpochs):
    """Steps on one batch that stands ready."""

    def __init__(self, *rest: Any, memory_format: torch.memory_format) -> None:
        super().__init__(*rest)
        self.model.to(memory_format=memory_format)
        self.x = torch.randn(BATCH, *CIFAR10.shape).contiguous(memory_format=memory_format)
        self.y = torch.arange(BATCH) % 10

    def train(self) -> None:
        """Train on the batch."""
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()


def ours(network: str, *, images: int = 4 * BATCH, **keys: Any) -> Ours:
    recipe = make_recipe(BATCH).model_copy(update=keys)
    found = Ours(make_run(network, images, recipe, CPU), recipe)
    found.draw()
    return found


Variants = dict[str, Work]
Seconds = dict[str, list[float]]


def _work(make: Callable[..., Variants], arguments: tuple[Any, ...], pipe: Any) -> None:
    """Make variants and, for each name that arrives, send the CPU seconds of a call."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    variants = make(*arguments)
    pipe.send(list(variants))
    while (name := pipe.recv()) is not None:
        start = time.process_time()
        variants[name]()
        pipe.send(time.process_time() - start)


def in_turns(repeats: int, *makers: tuple[Any, ...]) -> Seconds:
    """Return the seconds of each variant in each turn, after a turn that does not count.

    Each maker, a function and its arguments, makes its variants in a process of its own.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Any] = {}
    for make, *arguments in makers:
        here, there = context.Pipe()
        context.Process(target=_work, args=(make, tuple(arguments), there), daemon=True).start()
        pipes |= dict.fromkeys(here.recv(), here)
    seconds: Seconds = {name: [] for name in pipes}
    for turn in range(repeats + 1):
        for name, pipe in pipes.items():
            pipe.send(name)
            took = pipe.recv()
            if turn:
                seconds[name].append(took)
    for pipe in set(pipes.values()):
        pipe.send(None)
    return seconds


def ratio(seconds: Seconds, above: str, below: str) -> float:
    return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))


def plain_steps(network: str) -> Variants:
    """Return steps of the papers' style and of ready batches."""
    recipe = make_recipe(BATCH)
    settings = (make_run(network, 4 * BATCH, recipe, CPU).dataset, network, recipe, CPU)
    papers = PlainSteps(*settings)
    forms = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    return {"papers' style": lambda: papers.train(1)} | {
        f"ready batch, {name}": Ready(*settings, memory_format=form).train
        for name, form in forms.items()
    }


def our_steps(network: str, is_compiled: bool) -> Variants:
    """Return our steps by recipes of each precision."""
    keep_freed_memory()
    precisions = ("fp32", "bf16") if multiplies_bf16(CPU) else ("fp32",)
    found = {f"ours, {each}": ours(network, precision=each) for each in precisions}
    if is_compiled:
        compiled = ours(network, precision=precisions[-1])
        forward = torch.compile(compiled.run.model, dynamic=False)
        compiled.step.network = Network(forward)
        found[f"ours, {precisions[-1]}, compiled"] = compiled
    return {name: partial(each.train, 1) for name, each in found.items()}


def step(options: argparse.Namespace) -> None:
    """Print the steps of all variants."""
    print("| network | step | CPU s | our fp32 step / this | papers' style / this |")
    print("|---|---|---:|---:|---:|")
    for network in options.networks:
        found = in_turns(
            options.repeats, (plain_steps, network), (our_steps, network, options.compiled)
        )
        for name, seconds in found.items():
            against = [ratio(found, above, name) for above in ("ours, fp32", "papers' style")]
            print(
                f"| {network} | {name} | {statistics.median(seconds):.3f} | "
                f"{against[0]:.2f} | {against[1]:.2f} |",
                flush=True,
            )
    if not multiplies_bf16(CPU):
        print("\nThis processor has no bf16 instructions.")


def plain_evaluation(network: str, images: int) -> Variants:
    """Return a plain inference loop."""
    recipe = make_recipe(BATCH)
    dataset = make_run(network, images, recipe, CPU).dataset
    model, test = PlainEpochs(dataset, network, recipe, CPU).model.eval(), dataset.test
    assert isinstance(test, Split)

    def plain() -> int:
        correct = 0
        with torch.no_grad():
            for start in range(0, len(test), BATCH):
                x = normalize(test.images[start : start + BATCH], CIFAR10.mean, CIFAR10.std)
                y = test.labels[start : start + BATCH]
                correct += int((model(x).argmax(dim=1) == y).sum())
        return correct

    return {"plain": plain}


def our_evaluation(network: str, images: int) -> Variants:
    """Return our evaluation and our steps."""
    keep_freed_memory()
    own = Normalization(CIFAR10.mean, CIFAR10.std)
    found = {each: ours(network, images=images, precision=each) for each in ("fp32", "bf16")}
    run = found["fp32"].run
    steps = {each: partial(found[each].train, 1) for each in found}
    if not multiplies_bf16(CPU):
        del steps["bf16"]
    return {"ours": lambda: count_split(run.model, run.dataset.test, own), **steps}


def evaluation(options: argparse.Namespace) -> None:
    """Print our evaluation against a plain loop, and its share of a run."""
    print(
        f"| network | images | plain loop, s | ours, s | ours / plain | recipe | "
        f"share of {EPOCHS} epochs |\n|---|---:|---:|---:|---:|---|---:|"
    )
    for network in options.networks:
        found = in_turns(
            options.repeats,
            (plain_evaluation, network, options.images),
            (our_evaluation, network, options.images),
        )
        each = {name: statistics.median(values) for name, values in found.items()}
        evaluated = (1 + EPOCHS) * each["ours"] * TEST / options.images
        for precision in [name for name in ("fp32", "bf16") if name in each]:
            share = evaluated / (evaluated + EPOCHS * each[precision] * TRAIN / BATCH)
            print(
                f"| {network} | {options.images} | {each['plain']:.2f} | {each['ours']:.2f} | "
                f"{ratio(found, 'ours', 'plain'):.2f} | {precision} | {share:.1%} |",
                flush=True,
            )


def _steps(network: str, threads: int, count: int, start: Any, done: Any) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    own = ours(network)
    own.train(0)
    start.wait()
    for k in range(count):
        own.train(k % 4)
    done.wait()


def wall(network: str, processes: int, threads: int, count: int) -> float:
    """Return the seconds in which each process makes `count` steps, all at the same time."""
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(processes + 1), context.Barrier(processes + 1)
    arguments = (network, threads, count, start, done)
    running = [context.Process(target=_steps, args=arguments) for _ in range(processes)]
    for process in running:
        process.start()
    start.wait()
    began = time.perf_counter()
    done.wait()
    took = time.perf_counter() - began
    for process in running:
        process.join()
    return took


def threads(options: argparse.Namespace) -> None:
    """Print two runs side by side against one run with two threads."""
    print("| network | two runs, s for 2 x 8 steps | one run, s for 16 steps | one / two |")
    print("|---|---:|---:|---:|")
    for network in options.networks:
        turns = [(wall(network, 2, 1, 8), wall(network, 1, 2, 16)) for _ in range(2)]
        two, one = (statistics.median(turn[k] for turn in turns) for k in (0, 1))
        print(f"| {network} | {two:.2f} | {one:.2f} | {one / two:.2f} |")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = {"step": step, "evaluation": evaluation, "threads": threads}
    parser.add_argument("--only", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--networks", nargs="+", default=["resnet20"])
    parser.add_argument("--images", type=int, default=1024, help="of an evaluation")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compiled", action="store_true", help="compile, which takes a minute")
    options = parser.parse_args()
    print(f"{device_name(CPU)}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for name in options.only:
        print()
        kinds[name](options)


if __name__ == "__main__":
    main()
