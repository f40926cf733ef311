"""Compare pruning of eight networks with Torch-Pruning: lines, seconds, parameters, exactness.

    python benchmarks/side_by_side.py            # prints the table of docs/side_by_side.md

Each library gets the example of its own README, which is run as it stands here: half of the
channels of every layer, by the L2 norm of their weights, in multiples of 8. Seconds are those of
one processor core for the whole example, the fastest of several repeats. The deviation compares the
pruned network with the given one in which the removed channels are masked: the layers that read
them read zeros, so both must compute the same. It is the largest difference of the outputs in
float64, relative to the largest output.
"""

from __future__ import annotations

import ast
import copy
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
import torch_pruning as tp
import torchvision
from beside_torch_pruning import parsed, versions
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock

import prunebench as pb
from prunebench.experiments.machine import processor_name

NETWORKS = (
    "resnet18", "resnet50", "vgg16_bn", "mobilenet_v2", "densenet121", "efficientnet_b0",
    "convnext_tiny", "regnet_x_400mf",
)  # fmt: skip

OURS = """
import prunebench as pb
result = pb.prune(
    model, example, criterion="l2", ratio=0.5, ratio_kind="units_per_group", round_to=8
)
print(result)
"""

THEIRS = """
import torch_pruning as tp
importance = tp.importance.GroupMagnitudeImportance(p=2)
ignored = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
pruner = tp.pruner.BasePruner(
    model, example, importance=importance, pruning_ratio=0.5, ignored_layers=ignored, round_to=8
)
macs_before, params_before = tp.utils.count_ops_and_params(model, example)
pruner.step()
macs, params = tp.utils.count_ops_and_params(model, example)
print(macs_before, params_before, macs, params)
"""


def shown(*values: object) -> list[str]:
    """Make the text of a report without printing it."""
    return [str(value) for value in values]


def build(name: str) -> nn.Module:
    """Return a network with random weights and statistics, so that every channel counts."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, CNBlock):
            nn.init.ones_(module.layer_scale)  # initially 1e-6, which hides every difference
    return model


def lines(code: str) -> int:
    """Return the number of statements of an example, without the import."""
    return len(ast.parse(code).body) - 1


def ran(code: str, model: nn.Module, example: Tensor) -> tuple[dict[str, Any], float]:
    """Run an example; return its names and the processor seconds that it took."""
    names: dict[str, Any] = {"model": model, "example": example, "torch": torch, "print": shown}
    started = time.process_time()
    exec(code, names)
    return names, time.process_time() - started


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def our_deviation(model: nn.Module, example: Tensor) -> float:
    """Compare `prune` with `mask` on the given network, both in float64."""
    model, example = copy.deepcopy(model).double(), example.double()
    result = ran(OURS, model, example)[0]["result"]
    masked = pb.mask(model, pb.trace(model, example), result.removed)
    with torch.no_grad():
        return relative(result.model(example), masked(example))


def without(channels: list[int], module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the input of a layer with zeros in some channels."""
    own = inputs[0].clone()
    own[(..., channels) if isinstance(module, nn.Linear) else (slice(None), channels)] = 0
    return own


def their_deviation(model: nn.Module, example: Tensor) -> float:
    """Prune Torch-Pruning's groups, and compare with a network whose layers read zeros instead."""
    model, example = copy.deepcopy(model).double(), example.double()
    masked, layers = copy.deepcopy(model), {m: n for n, m in model.named_modules()}
    ignored = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    pruner = tp.pruner.BasePruner(
        model, example, importance=importance, pruning_ratio=0.5, ignored_layers=ignored, round_to=8
    )
    roots = []
    for group in pruner.step(interactive=True):  # in the numbering of the given network
        first = group[0]
        roots.append((first.dep.target.module, first.dep.handler, list(first.idxs)))
        for dep, idxs in group:
            if dep.handler.__name__ == "prune_in_channels":
                reader = masked.get_submodule(layers[dep.target.module])
                reader.register_forward_pre_hook(partial(without, idxs))
    for module, function, idxs in roots:
        pruner.DG.get_pruning_group(module, function, idxs).prune()
    with torch.no_grad():
        return relative(model(example), masked(example))


def best(code: str, model: nn.Module, example: Tensor, repeats: int) -> tuple[nn.Module, float]:
    """Return the network that an example makes, and its seconds in the fastest of the repeats."""
    found = []
    for _ in range(repeats):
        given = copy.deepcopy(model)
        names, seconds = ran(code, given, example)
        found.append((names["result"].model if "result" in names else given, seconds))
    return found[0][0], min(seconds for _, seconds in found)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def attempt(function: Callable[[], Any]) -> Any:
    """Return the result, or the error's name: the other networks go on."""
    try:
        return function()
    except Exception as error:
        return type(error).__name__


def row(name: str, size: int, repeats: int) -> list[str]:
    """Return the cells of a network."""
    model, example = build(name), torch.rand(1, 3, size, size)
    before, cells = parameters(model), [name]
    for code, deviation in ((OURS, our_deviation), (THEIRS, their_deviation)):
        made = attempt(lambda code=code: best(code, model, example, repeats))
        off = attempt(lambda deviation=deviation: deviation(model, example))
        if isinstance(made, str):
            cells += [made, "–", "–"]
            continue
        pruned, seconds = made
        left = f"{100 * parameters(pruned) / before:.1f} %"
        cells += [f"{seconds:.2f}", left, off if isinstance(off, str) else f"{off:.0e}"]
    return cells


def main() -> None:
    """Print the table."""
    options = parsed(__doc__, NETWORKS)
    print(f"{datetime.now(UTC):%d %B %Y}, {processor_name()}, {versions()}")
    ours, theirs = ("prunebench", lines(OURS)), ("Torch-Pruning", lines(THEIRS))
    for library, statements in (ours, theirs):
        print(f"{library}: {statements} statements after the import")
    print()
    cells = ["seconds", "parameters left", "deviation"]
    heads = [f"{library}: {cells[0]} | {' | '.join(cells[1:])}" for library, _ in (ours, theirs)]
    print(f"| network | {' | '.join(heads)} |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in options.networks:
        print(f"| {' | '.join(row(name, options.size, options.repeats))} |", flush=True)


if __name__ == "__main__":
    main()
