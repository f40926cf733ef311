"""Count structures that follow from a recipe, in all the papers' conventions, without training."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ModelError
from prunebench.measure.layer_counts import LayerCount, activations, count_layers
from prunebench.measure.macs import count_params
from prunebench.models.registry import build
from prunebench.papers import conventions
from prunebench.papers.conventions import fpgm_imagenet
from prunebench.papers.structures import CountedStructure, Cut, Formula, Thinned

Layers = Sequence[LayerCount]
TRACED_SIDE = 64  # pixels; the groups do not depend on the image size, and tracing is faster

OF_LAYERS: dict[str, Callable[[Layers], float]] = {
    "macs": conventions.macs,
    "two_per_mac": conventions.two_per_mac,
    "conv_macs": conventions.conv_only,
    "thop4": conventions.thop,
    "thop2": lambda layers: conventions.thop(layers, norm_factor=2),
    "thop2_average_free": lambda layers: conventions.thop(layers, norm_factor=2, pool_window=False),
    "norm2_conv_macs": lambda layers: conventions.conv_only(layers) + 2 * _norm_outputs(layers),
    "thinet": conventions.thinet,
    "ptflops": lambda layers: conventions.ptflops(layers, relu_and_pooling=False),
    "ptflops_modules": lambda layers: conventions.ptflops(layers, relu_and_pooling=True),
    "outputs": lambda layers: activations(layers) + _linear_outputs(layers),
}
OF_MODELS: dict[str, Callable[[nn.Module, Tensor], float]] = {
    "params": lambda model, image: count_params(model),
    "layer_params": lambda model, image: count_layer_params(model),
    "params_without_biases": lambda model, image: count_params(model) - count_biases(model),
    "params_per_call": lambda model, image: count_params_per_call(model, image),
}


def _linear_outputs(layers: Layers) -> int:
    return sum(layer.outputs for layer in layers if layer.kind == "linear")


def _norm_outputs(layers: Layers) -> int:
    return sum(layer.outputs for layer in layers if layer.kind == "norm")


def count_layer_params(model: nn.Module) -> int:
    """Count the weights of convolutions and the weights and biases of linear layers."""
    total = 0
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            total += module.weight.numel()
        elif isinstance(module, nn.Linear):
            total += sum(parameter.numel() for parameter in module.parameters())
    return total


def count_biases(model: nn.Module) -> int:
    """Count the biases of convolution and linear layers."""
    return sum(
        module.bias.numel()
        for module in model.modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and module.bias is not None
    )


def count_params_per_call(model: nn.Module, image: Tensor) -> int:
    """Count each module's own parameters once per call of it in one forward pass."""
    calls: Counter[nn.Module] = Counter()
    hooks = [
        module.register_forward_hook(lambda module, args, out: calls.update([module]))
        for module in model.modules()
    ]
    try:
        with torch.inference_mode():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(
        count * sum(parameter.numel() for parameter in module.parameters(recurse=False))
        for module, count in calls.items()
    )


def count_all(
    structures: Sequence[CountedStructure], workers: int = 1
) -> dict[CountedStructure, dict[str, float]]:
    """Count every quantity of every structure, with `workers` processes.

    One process counts all structures of a network, so that it builds and traces it once.
    Raises ModelError if a pattern fits no group.
    """
    by_network: dict[tuple[object, ...], list[CountedStructure]] = {}
    for structure in dict.fromkeys(structures):
        by_network.setdefault((structure.architecture, structure.num_classes), []).append(structure)
    batches = list(by_network.values())
    if workers == 1:
        counted = [_count_batch(batch) for batch in batches]
    else:
        # "spawn": forking a process with running torch threads is unsafe
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            counted = list(pool.map(_count_batch, batches))
    return {key: value for batch in counted for key, value in batch}


def _count_batch(
    structures: list[CountedStructure],
) -> list[tuple[CountedStructure, dict[str, float]]]:
    return [(structure, count(structure)) for structure in structures]


def count(structure: CountedStructure) -> dict[str, float]:
    """Count every quantity that the structure determines.

    A closed form determines only the convolutions' multiply-accumulates, and cut convolutions only
    multiply-accumulates and weights.
    """
    if structure.formula is not None:
        return {"conv_macs": closed_form(structure.formula)}
    if structure.cut is not None:
        return _count_cut(_on_meta(structure), structure.image, structure.cut)
    image = torch.zeros(1, *structure.image, device="meta")  # only shapes are needed
    model = _thinned(structure) if structure.thinned else _on_meta(structure)
    layers = count_layers(model, image)
    return {name: float(of(layers)) for name, of in OF_LAYERS.items()} | {
        name: float(of(model.eval(), image)) for name, of in OF_MODELS.items()
    }


def closed_form(formula: Formula) -> float:
    """Count convolutions with the paper's own formula."""
    if formula.name == "fpgm_imagenet":
        return fpgm_imagenet(formula.depth, formula.keep)
    return conventions.fractional_sfp(*conventions.cifar_resnet_macs(formula.depth), formula.keep)


def _count_cut(model: nn.Module, image: tuple[int, ...], cut: Cut) -> dict[str, float]:
    """Count a network whose convolutions are cut."""
    layers = count_layers(model, torch.zeros(1, *image, device="meta"))
    convolutions = [layer.name for layer in layers if layer.kind == "conv"]
    for pattern, _ in cut.ratios:
        if not any(_fits(name, (pattern,)) for name in convolutions):
            raise ModelError(f"no convolution is called {pattern}")
    kept = [_cut_layer(layer, model.get_submodule(layer.name), cut) for layer in layers]
    counted = {name: float(OF_LAYERS[name](kept)) for name in ("macs", "two_per_mac", "conv_macs")}
    weights = sum(layer.weights for layer in kept if layer.kind in ("conv", "linear"))
    return counted | {"layer_params": float(weights + _linear_outputs(kept))}


def _cut_layer(layer: LayerCount, module: nn.Module, cut: Cut) -> LayerCount:
    ratios = [r for pattern, r in cut.ratios if _fits(layer.name, (pattern,))]
    if layer.kind != "conv" or not ratios:
        return layer
    assert isinstance(module.weight, Tensor)
    ratio = ratios[0] * cut.times
    if cut.what == "filters":
        total = len(module.weight)
        kept = total - int(ratio * total)
    else:
        total = module.weight[0].numel()
        kept = total - math.ceil(ratio * total)
    return replace(layer, macs=layer.macs * kept // total, weights=layer.weights * kept // total)


def kept_units(groups: Mapping[str, int], thinned: Sequence[Thinned]) -> dict[str, int]:
    """Return the number of kept units of each thinned group; the first fitting entry counts.

    `groups` maps each group to its number of units. Raises ModelError if an entry fits no group.

    >>> kept_units({"a.conv1": 16, "b.conv1": 7}, [Thinned(groups=("a.*",), ratio=0.7)])
    {'a.conv1': 4}
    """
    for entry in thinned:
        if not any(_fits(name, entry.groups) for name in groups):
            raise ModelError(f"no channel group is called {', '.join(entry.groups)}")
    kept = {}
    for name, units in groups.items():
        fitting = [entry for entry in thinned if _fits(name, entry.groups)]
        if fitting:
            kept[name] = max(1, _kept(units, fitting[0]))
    return kept


def _kept(units: int, entry: Thinned) -> int:
    if entry.units is not None:
        return entry.units
    if entry.keep is not None:
        return int(units * entry.keep)
    assert entry.ratio is not None
    return units - math.ceil(units * entry.ratio)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _thinned(structure: CountedStructure) -> nn.Module:
    model, graph = _traced(structure.architecture, structure.num_classes, structure.image[0])
    sizes = {name: group.n_units for name, group in graph.groups.items()}
    kept = kept_units(sizes, structure.thinned)
    removed = {name: torch.arange(units, sizes[name]) for name, units in kept.items()}
    return remove(model, graph, removed).to("meta")


def _on_meta(structure: CountedStructure) -> nn.Module:
    with torch.device("meta"):
        return build(
            structure.architecture,
            num_classes=structure.num_classes,
            in_channels=structure.image[0],
        )


@lru_cache(maxsize=1)
def _traced(
    architecture: str, num_classes: int, in_channels: int
) -> tuple[nn.Module, ChannelGraph]:
    with torch.random.fork_rng(devices=[]):
        model = build(architecture, num_classes=num_classes, in_channels=in_channels)
    return model, trace(model, torch.zeros(1, in_channels, TRACED_SIDE, TRACED_SIDE))
