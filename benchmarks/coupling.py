"""Time a trace and a removal against one step of Torch-Pruning's pruner and a forward pass.

    python benchmarks/coupling.py

Both libraries get the same networks and input in one process, and remove the same share of random
units in place. Torch-Pruning builds its graph in its pruner, for which the network computes its
layers; a trace needs only their shapes unless the network looks at values. Times are processor
seconds of one thread, so that other load on the machine matters little, and the fastest of several
interleaved repeats. A forward pass is without gradients.
"""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch_pruning as tp
import torchvision
from beside_torch_pruning import parsed, versions
from torch import Tensor, nn

from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace

NETWORKS = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large", "regnet_x_400mf",
    "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0",
    "squeezenet1_1", "vgg16_bn", "wide_resnet50_2",
)  # fmt: skip
RATIO = 0.3


def build(name: str) -> nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, name)(weights=None, **options).eval()


def trace_and_remove(model: nn.Module, example: Tensor) -> None:
    graph = trace(model, example)
    removed = {
        name: torch.randperm(group.n_units)[: int(RATIO * group.n_units)]
        for name, group in graph.groups.items()
    }
    remove(model, graph, removed, in_place=True)


def torch_pruning_step(model: nn.Module, example: Tensor) -> None:
    last = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    pruner = tp.pruner.BasePruner(
        model,
        example,
        importance=tp.importance.RandomImportance(),
        pruning_ratio=RATIO,
        ignored_layers=[last],
    )
    pruner.step()


def seconds(run: Callable[[], Any]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def times(name: str, size: int, repeats: int) -> tuple[float, float, float, float | None]:
    """Return the seconds of a forward pass, a trace, trace and removal, and Torch-Pruning's."""
    model, example = build(name), torch.rand(1, 3, size, size)

    def forward() -> None:
        with torch.no_grad():
            model(example)

    found: list[list[float]] = [[], [], [], []]
    for _ in range(repeats + 1):  # the first one is a warm-up
        found[0].append(seconds(forward))
        found[1].append(seconds(lambda: trace(model, example)))
        own, theirs = copy.deepcopy(model), copy.deepcopy(model)
        found[2].append(seconds(lambda own=own: trace_and_remove(own, example)))
        if math.inf in found[3]:
            continue
        try:
            found[3].append(seconds(lambda theirs=theirs: torch_pruning_step(theirs, example)))
            with torch.no_grad():
                theirs(example)  # a network that no longer runs was not pruned
        except Exception as error:  # any error of the other library; the other networks go on
            print(f"{name}: Torch-Pruning: {type(error).__name__}: {error}"[:100])
            found[3] = [math.inf]
    best = [min(some[1:] or some) for some in found]
    return best[0], best[1], best[2], best[3] if best[3] < math.inf else None


def geometric_mean(numbers: Iterable[float]) -> float:
    logs = [math.log(number) for number in numbers]
    return math.exp(sum(logs) / len(logs))


def main() -> None:
    """Print a table and the two summary figures."""
    options = parsed(__doc__, NETWORKS)
    torch.manual_seed(0)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"{versions()}; 1x3x{options.size}x{options.size}\n"
    )
    print("| network | forward (ms) | trace | trace + remove | Torch-Pruning | speedup |")
    print("|---|---:|---:|---:|---:|---:|")
    traced, faster = [], []
    for name in options.networks:
        forward, trace_alone, both, theirs = times(name, options.size, options.repeats)
        traced.append(trace_alone / forward)
        if theirs is not None:
            faster.append(theirs / both)
        cells = [f"{1000 * forward:.0f}", f"{1000 * trace_alone:.0f}", f"{1000 * both:.0f}"]
        cells += ["–", "–"] if theirs is None else [f"{1000 * theirs:.0f}", f"{theirs / both:.1f}×"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    mean, worst = geometric_mean(traced), max(traced)
    print(f"\ntrace over forward: geometric mean {mean:.2f}, at most {worst:.2f}")
    mean, worst = geometric_mean(faster), min(faster)
    print(f"Torch-Pruning over trace + remove: geometric mean {mean:.1f}, at least {worst:.1f}")


if __name__ == "__main__":
    main()
