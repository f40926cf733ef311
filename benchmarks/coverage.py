"""Check for each network of the zoo that removed units and masked units give the same output.

    python -m benchmarks.coverage            # all networks; writes benchmarks/coverage.md
    python -m benchmarks.coverage resnet18 timm/ghostnet_050

Uses random statistics and affine parameters in float64, and removes 30 % and 70 % of all units at
random. The mask is applied by the few lines below, not by the package. Torch-Pruning removes 30 %
of each of its groups and must pass the same test; it is told which layers produce outputs.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.metadata
import logging
import multiprocessing
import resource
import signal
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks import zoo
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunebench.channels.costs import costs_of
from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import TOLERANCE, Check, outputs, randomized, relative_difference

TABLE = Path(__file__).with_suffix(".md")
USUAL = ("is an output of the network", "reads the network's input")
OUTPUT = USUAL[0]
THEIR_SECONDS = 60  # of the processor; most networks take it less than ten


@dataclass(frozen=True, kw_only=True)
class Row:
    """Results for one network; shares are fractions."""

    name: str
    groups: int
    units: int
    layers: float  # convolutions and linear layers that can lose output channels
    macs: float  # remaining when 30 % of the units are removed
    error: float  # larger of the two, relative to the largest output
    seconds: float  # of the processor, for a trace and one removal
    frozen: str  # the most frequent reasons except input and output, with their numbers of units
    torch_pruning: str


def measure(name: str, *, also_torch_pruning: bool = True) -> Row:
    """Measure one network."""
    model, inputs = randomized(zoo.build(name), 0), zoo.example(name)
    check = Check(inputs, False, tuple(zoo.watched(name, model)))
    start = time.process_time()
    graph = trace(model, inputs)
    plans = [random_plan(graph, share) for share in (0.3, 0.7)]
    smaller = remove(model, graph, plans[0])
    seconds = time.process_time() - start
    found = [outputs(smaller, check)]
    smaller = remove(model, graph, plans[1])
    found.append(outputs(smaller, check))
    del smaller
    theirs = torch_pruning(model, inputs, graph, check) if also_torch_pruning else ""
    errors = []
    for plan, results in zip(plans, found, strict=True):  # the second contains the first
        silence(model, graph, plan)
        errors.append(difference(outputs(model, check), results))
    costs = costs_of(graph)
    kept = {group: graph.groups[group].n_units - len(units) for group, units in plans[0].items()}
    return Row(
        name=name,
        groups=len(graph.groups),
        units=sum(group.n_units for group in graph.groups.values()),
        layers=prunable_layers(model, graph),
        macs=costs.macs(kept) / costs.macs(),
        error=max(errors),
        seconds=seconds,
        frozen=reasons(graph),
        torch_pruning=theirs,
    )


def prepare_process() -> None:
    """Use one thread and silence other libraries."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)


def random_plan(graph: ChannelGraph, share: float) -> dict[str, Tensor]:
    """Return a random share of all units, nested in larger shares; each group keeps a unit."""
    all_units = [(n, u) for n, group in graph.groups.items() for u in range(1, group.n_units)]
    order = torch.randperm(len(all_units), generator=torch.Generator().manual_seed(0)).tolist()
    plan: dict[str, list[int]] = {}
    for place in order[: int(share * len(all_units))]:
        plan.setdefault(all_units[place][0], []).append(all_units[place][1])
    return {name: torch.tensor(units) for name, units in plan.items()}


@torch.no_grad()
def silence(model: nn.Module, graph: ChannelGraph, plan: Mapping[str, Tensor]) -> None:
    """Zero all entries of weights that read these units."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    for name, units in plan.items():
        for member in graph.groups[name].members:
            if member.role == "in":
                columns = member.index[units].flatten()
                weights[member.parameters[0]].transpose(0, member.dim)[columns] = 0


def difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Return the relative difference; infinite where shapes differ."""
    if [a.shape for a in expected] != [b.shape for b in found]:
        return float("inf")
    return relative_difference(expected, found)


def prunable_layers(model: nn.Module, graph: ChannelGraph) -> float:
    """Return the share of convolutions and linear layers that can lose output channels."""
    cut = {
        name
        for group in graph.groups.values()
        for member in group.members
        if member.role in ("out", "pass")
        for name in member.parameters
    }
    layers = [
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
    ]
    return sum(layer in cut for layer in layers) / len(layers)


def reasons(graph: ChannelGraph) -> str:
    """Return the two most frequent reasons, without usual ones and consequences of others."""
    units = Counter[str]()
    for group in graph.frozen.values():
        if group.frozen not in USUAL and not group.frozen.startswith(("reads", "joined")):
            units[group.frozen] += group.n_units
    return "; ".join(f"{reason} ({n})" for reason, n in units.most_common(2))


def torch_pruning(model: nn.Module, inputs: Any, graph: ChannelGraph, check: Check) -> str:
    """Return Torch-Pruning's error in the same test on copies, or the stage in which it fails."""
    import torch_pruning as tp

    theirs = copy.deepcopy(model)
    modules = dict(theirs.named_modules())
    names = {module: name for name, module in modules.items()}
    kept_back = [
        modules[producer.rpartition(".")[0]]
        for group in graph.frozen.values()
        if group.frozen == OUTPUT or check.watch
        for producer in group.producers
        if producer.endswith(".weight")
    ]
    columns: dict[str, list[int]] = {}  # remaining ones, by layer
    stage = "building the graph"
    torch.manual_seed(0)  # of its random choice
    signal.signal(signal.SIGPROF, out_of_time)
    signal.setitimer(signal.ITIMER_PROF, THEIR_SECONDS)
    try:
        pruner = tp.pruner.BasePruner(
            theirs,
            inputs,
            importance=tp.importance.RandomImportance(),
            pruning_ratio=0.3,
            ignored_layers=kept_back,
            forward_fn=lambda network, example: heads(network, example, check.watch),
        )
        stage = "pruning"
        for group in pruner.step(interactive=True):
            for dep, places in group:
                layer = dep.target.module
                if pruner.DG.is_in_channel_pruning_fn(dep.handler) and reads_channels(layer):
                    left = columns.setdefault(names[layer], list(range(n_columns(layer))))
                    columns[names[layer]] = without(left, places)
            group.prune()
        stage = "the forward pass"
        found = outputs(theirs, check)
    except TimeoutError:
        return f"stopped after {THEIR_SECONDS} s of processor time in {stage}"
    except Exception as error:  # any error of another library is its result
        return f"fails in {stage}: {said(error)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if not columns:
        return "removes nothing"
    del theirs, modules, names, kept_back, pruner, group, dep, layer
    gc.collect()  # its graph is full of cycles; two copies of a large network do not fit
    masked = copy.deepcopy(model)
    for name, left in columns.items():
        silence_columns(masked.get_submodule(name), left)
    error = difference(outputs(masked, check), found)
    return f"{error:.0e}" if error <= TOLERANCE else f"differs by {error:.0e}"


def said(error: Exception) -> str:
    """Return an error's class and the beginning of its message, for a cell of a table."""
    message = " ".join(str(error).split()).replace("|", "/")
    return f"{type(error).__name__}: {textwrap.shorten(message, 70, placeholder=' …')}".strip(": ")


def out_of_time(*_: Any) -> None:
    """Stop Torch-Pruning."""
    raise TimeoutError


def heads(network: nn.Module, inputs: tuple[Any, ...], watch: tuple[str, ...]) -> Any:
    """Return the outputs of the watched modules, with gradients, or else the network's output."""
    seen: list[Any] = []
    handles = [
        network.get_submodule(path).register_forward_hook(lambda m, args, out: seen.append(out))
        for path in watch
    ]
    out = network(*inputs)
    for handle in handles:
        handle.remove()
    return tree_leaves(seen) if watch else out


def reads_channels(layer: nn.Module) -> bool:
    """Whether a layer has columns that read channels; a depthwise convolution passes them on."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.groups == 1 or layer.weight.shape[1] > 1
    return isinstance(layer, nn.Linear)


def turned(layer: nn.Module) -> Tensor:
    """Return a layer's weight with its input channels as second dimension."""
    weight: Tensor = layer.weight
    return weight.transpose(0, 1) if getattr(layer, "transposed", False) else weight


def n_columns(layer: nn.Module) -> int:
    """Return the number of columns of a layer."""
    return turned(layer).shape[1]


def without(left: list[int], places: list[int]) -> list[int]:
    """Return the remaining columns without those at these positions.

    Torch-Pruning removes the positions of the first group from all groups of a convolution.
    """
    gone = set(places)
    return [column for place, column in enumerate(left) if place not in gone]


@torch.no_grad()
def silence_columns(layer: nn.Module, left: list[int]) -> None:
    """Zero all columns except these."""
    gone = sorted(set(range(n_columns(layer))) - set(left))
    turned(layer)[:, gone] = 0


def table(rows: list[Row], seconds: float) -> str:
    """Return the rows as a page."""
    libraries = ("torch", "torchvision", "timm", "torch-pruning")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    exact = sum(row.error <= 1e-9 for row in rows)
    lines = [
        "# Coverage of the channel tracer",
        "",
        f"`python -m benchmarks.coverage`: {len(rows)} networks, {exact} of them exact to 1e-9, in "
        f"{seconds / 60:.0f} minutes. {versions}.",
        "",
        "Layers: share of convolutions and linear layers that can lose output channels. MACs: share"
        " that remains when 30 % of all units are removed. Error: largest difference between masked"
        " and removed for 30 % and 70 % of the units, in float64, relative to the largest output."
        " s: processor seconds for a trace and one removal. Frozen: most frequent reasons other"
        " than being an input or output, with numbers of units. Torch-Pruning: the same error for"
        " 30 % of each of its own groups, or the reason why it fails; it gets"
        f" {THEIR_SECONDS} s of processor time per network.",
        "",
        "| network | groups | units | layers | MACs | error | s | Torch-Pruning | frozen |",
        "|---|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    lines += [
        f"| {r.name} | {r.groups} | {r.units} | {r.layers:.0%} | {r.macs:.0%} | {r.error:.0e} | "
        f"{r.seconds:.2f} | {r.torch_pruning} | {r.frozen} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the named networks, or all of them; write the table only for all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=zoo.ALL)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    found: dict[str, Row] = {}
    # Not concurrent.futures: its executor hangs when its processes have reached maxtasksperchild.
    with context.Pool(options.jobs, prepare_process, maxtasksperchild=20) as pool:
        # The slowest first, so that all processes finish at about the same time.
        ordered = sorted(options.networks, key=lambda name: name not in zoo.SLOWEST)
        for number, row in enumerate(pool.imap_unordered(measure, ordered), 1):
            found[row.name] = row
            print(
                f"{number}/{len(ordered)}, {time.perf_counter() - start:.0f} s: {row}", flush=True
            )
    rows = [found[name] for name in options.networks]
    text = table(rows, time.perf_counter() - start)
    if options.networks == zoo.ALL:
        TABLE.write_text(text)
    print(text)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{time.perf_counter() - start:.0f} s, at most {peak:.1f} GiB per process")


if __name__ == "__main__":
    main()
