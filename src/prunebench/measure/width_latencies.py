"""Measure a latency table: the times of a network's layers at a grid of widths.

Each layer is timed alone, with the batch norm and ReLU behind it, on an input of its size in the
network. Layers of equal shape are timed once. In every repeat, many layers and widths and the
network itself take their turn, in random order; times are relative to the network's. So a drift of
the machine's speed meets all of them alike, and each layer finds the caches as others left them.
Everything else in a network is fitted to it and to thinner copies of it: a factor of the layers, a
time per element of the residual sums, and a constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from prunebench.channels.costs import Costs, costs_of
from prunebench.channels.groups import ChannelGraph
from prunebench.channels.predicted_latency import PredictedLatency
from prunebench.channels.removal import remove
from prunebench.channels.selections import select_groups
from prunebench.channels.single_layers import norms_behind
from prunebench.channels.trace.tracer import trace
from prunebench.channels.untouched import untouched
from prunebench.core.errors import ModelError
from prunebench.experiments.latency_table import LatencyTable, LayerTimes, TimedNetwork
from prunebench.measure.device import device_name
from prunebench.measure.latency import Pass, example_images, timer_on
from prunebench.measure.precision import Precision, arithmetic, evaluating

BLOCK = 16  # floats of a vector of AVX-512; on a GPU, tensor cores' tiles are multiples of 8
POINTS = 8  # widths per side of a layer's grid, besides their neighbors
REPEATS = 21
MOST_PASSES = 400  # in turns; oneDNN keeps 1024 primitives by default, and making one takes long
WARMUP = 3  # repeats before those that count
SHARES = (0.75, 0.5, 0.25)  # kept units of the thinner copies


@dataclass(frozen=True)
class Layer:
    """A kind of layer: equal ones take the same time at equal widths.

    Attributes
    ----------
    geometry
        Arguments of the convolution besides its channels; None: a linear layer.
    place
        Shape of the input in one image, without channels: height and width, or leading dimensions.
    outputs, inputs
        Size of the weight's first two dimensions.
    groups
        Groups of the convolution at full width.
    varied
        Whether removals cut either of the two dimensions.
    norm
        Whether a batch norm of its own is behind it.
    """

    geometry: tuple[tuple[str, Any], ...] | None
    place: tuple[int, ...]
    outputs: int
    inputs: int
    groups: int
    varied: tuple[bool, bool]
    norm: bool

    def __str__(self) -> str:
        words = ["linear" if self.geometry is None else "convolution"]
        words += [f"{key} {_size(value)}" for key, value in self.geometry or ()]
        words += [f"groups {self.groups}"] if self.groups > 1 else []
        words += [f"{self.inputs} to {self.outputs}"]
        words += [f"input {_size(self.place)}"] if self.place else []
        return ", ".join(words + (["batch norm and ReLU"] if self.norm else []))

    def grid(self, points: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the widths at which it is timed: numbers of outputs and of inputs.

        Outputs of a grouped convolution are whole units, of one channel in every group or of one
        group.
        """
        unit = self.groups if self.varied[1] else self.outputs // self.groups
        outputs = widths(self.outputs, unit if self.groups > 1 else 1, points)
        inputs = widths(self.inputs, 1, points)
        return (
            outputs if self.varied[0] else (self.outputs,),
            inputs if self.varied[1] else (self.inputs,),
        )

    def build(self, outputs: int, inputs: int, weights: Tensor) -> nn.Module:
        """Return the layer at other widths, in evaluation mode; its weight is part of `weights`.

        Many layers at many widths would not fit into memory with weights of their own.
        """
        n = outputs * inputs
        if self.geometry is None:
            linear = nn.Linear(inputs, outputs, device="meta")
            linear.weight = nn.Parameter(weights[:n].view(outputs, inputs))
            linear.bias = nn.Parameter(weights[:outputs])
            return linear.eval()
        whole = self.groups > 1 and not self.varied[1]
        groups = self.groups * outputs // self.outputs if whole else self.groups
        geometry = dict(self.geometry)
        conv = nn.Conv2d(
            inputs * groups, outputs, groups=groups, bias=False, device="meta", **geometry
        )
        conv.weight = nn.Parameter(_images(weights, (outputs, inputs, *conv.kernel_size)))
        if not self.norm:
            return conv.eval()
        norm = nn.BatchNorm2d(outputs).to(weights.device)
        return nn.Sequential(conv, norm, nn.ReLU(inplace=True)).eval()

    def input_of(self, conv_or_linear: nn.Module, batch_size: int, values: Tensor) -> Tensor:
        """Return an input for what `build` returned, a view of `values`."""
        first = next(iter(conv_or_linear.modules()))
        first = first[0] if isinstance(first, nn.Sequential) else first
        if isinstance(first, nn.Conv2d):
            return _images(values, (batch_size, first.in_channels, *self.place))
        assert isinstance(first, nn.Linear)
        shape = (batch_size, *self.place, first.in_features)
        return values[: int(np.prod(shape))].view(shape)


def widths(full: int, unit: int, points: int) -> tuple[int, ...]:
    """Return the widths at which a layer is timed, in multiples of `unit`.

    Kernels compute blocks of BLOCK channels: a layer of 32 takes less time than one of 31, and one
    of 33 much more. So the widths are up to `points` multiples of BLOCK and the full width, with
    their neighbors, the least one, and half of the first.

    >>> widths(32, 1, 8), widths(12, 4, 8), widths(128, 1, 2)
    ((1, 8, 15, 16, 17, 31, 32), (4, 8, 12), (1, 32, 63, 64, 65, 127, 128))
    """
    units = full // unit
    step = BLOCK * math.ceil(units / (BLOCK * points))
    marks = [*range(step, units, step), units]
    counts = {1, min(step, units) // 2, *(mark + near for mark in marks for near in (-1, 0, 1))}
    return tuple(sorted(count * unit for count in counts if 1 <= count <= units))


def measure_table(
    model: nn.Module,
    *,
    architecture: str,
    num_classes: int,
    image: tuple[int, int, int],
    batch_size: int,
    device: torch.device | str,
    precision: Precision = "fp32",
    points: int = POINTS,
    repeats: int = REPEATS,
) -> LatencyTable:
    """Measure the latency table of a network on `device`, with PyTorch's present threads.

    ModelError if the network has a layer that is neither a Conv2d nor a Linear.
    """
    device = torch.device(device)
    model = model.to(device).to(memory_format=torch.channels_last)
    example = torch.zeros(1, *image, device=device)
    graph = trace(model, example)
    costs = costs_of(graph)
    layers = called_layers(model, example, costs)
    kinds = list(dict.fromkeys(layer for calls in layers.values() for layer in calls))
    copies = thinner_copies(model, graph)
    with (
        evaluating(model),
        torch.inference_mode(),
        arithmetic(device, precision),
    ):
        networks = [model, *(remove(model, graph, _removed(graph, k)) for k in copies.values())]
        times = _timed(kinds, networks, image, batch_size, device, points, repeats)
    *own, measured = times
    table = LatencyTable(
        architecture=architecture,
        num_classes=num_classes,
        image=image,
        batch_size=batch_size,
        precision=precision,
        memory_format="channels_last",
        device_kind="cuda" if device.type == "cuda" else "cpu",
        device=device_name(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=datetime.now(UTC).date().isoformat(),
        repeats=repeats,
        remainder_ms=0.0,
        factor=1.0,
        sums=residual_sums(graph, costs),
        networks=(),
        layers={weight: tuple(map(kinds.index, calls)) for weight, calls in layers.items()},
        times=tuple(_layer_times(layer, points, ms) for layer, ms in zip(kinds, own, strict=True)),
    )
    return fitted(table, costs, {"whole": {}, **copies}, measured)


def fitted(
    table: LatencyTable,
    costs: Costs,
    networks: Mapping[str, Mapping[str, int]],
    measured: Sequence[float],
) -> LatencyTable:
    """Return the table with the remainder, factor and sums that fit the measured networks best.

    None of them is negative, and relative errors count. `networks` has the kept units by group, and
    `table.sums` the elements of the sums.
    """
    predicted = PredictedLatency(table)
    parts = [(*predicted.parts(costs, kept), 1.0) for kept in networks.values()]
    terms, times = np.array(parts), np.array(measured)
    found, _ = nnls(terms / times[:, None], np.ones(len(times)))
    factor, per_element, remainder = map(_rounded, found)
    return table.model_copy(
        update={
            "factor": factor,
            "sums": {weight: per_element * n for weight, n in table.sums.items()},
            "remainder_ms": remainder,
            "networks": tuple(
                TimedNetwork(name=name, measured_ms=_rounded(ms), predicted_ms=_rounded(own))
                for name, ms, own in zip(networks, measured, terms @ found, strict=True)
            ),
        }
    )


def residual_sums(graph: ChannelGraph, costs: Costs) -> dict[str, float]:
    """Return the output elements per channel of the layers whose outputs are summed, by weight."""
    weights = {w for g in graph.groups.values() if g.role == "stream" for w in g.producers}
    outputs, sizes = costs.layer_activations(), costs.weight_sizes()
    return {weight: outputs[weight] / sizes[weight][0] for weight in outputs if weight in weights}


def thinner_copies(model: nn.Module, graph: ChannelGraph) -> dict[str, dict[str, int]]:
    """Return the kept units by group of the thinner copies, by their names.

    Some keep a share of all units, others all channels of residual sums.
    """
    everything = {name: group.n_units for name, group in graph.groups.items()}
    inside = {name: group.n_units for name, group in select_groups(graph, ("inside",)).items()}
    found = {}
    for place, sizes in (("all groups", everything), ("inside", inside)):
        for share in SHARES:
            if sizes:
                kept = {name: max(1, round(share * n)) for name, n in sizes.items()}
                found[f"{share:g} of {place}"] = kept
    return found


def called_layers(model: nn.Module, example: Tensor, costs: Costs) -> dict[str, list[Layer]]:
    """Return the kinds of the convolution and linear layers, one for each call, by weight.

    In the order of `costs`. ModelError if a layer is neither a Conv2d nor a Linear.
    """
    norms = norms_behind(model, example)
    found: dict[str, list[Layer]] = {weight: [] for weight in costs.weight_sizes()}
    names = {id(p): name for name, p in model.named_parameters()}

    def note(path: str, module: nn.Module, args: tuple[Any, ...], _: Any) -> None:
        weight = names.get(id(module.weight), "")
        if weight in costs.extents and type(module) in (nn.Conv2d, nn.Linear):
            found[weight].append(_layer(module, weight, args[0], costs, path in norms))

    handles = [
        module.register_forward_hook(lambda *call, path=path: note(path, *call))
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        with untouched(model), torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    for weight, calls in found.items():
        if not calls:
            raise ModelError(
                f"the layer of {weight!r} is neither a Conv2d nor a Linear; latency tables "
                "are measured of these alone"
            )
    return found


def _layer(module: nn.Module, weight: str, x: Tensor, costs: Costs, norm: bool) -> Layer:
    extents = costs.extents[weight]
    varied = (bool(extents[0].per_unit), bool(extents[1].per_unit))
    outputs, inputs = costs.weight_sizes()[weight][:2]
    if isinstance(module, nn.Linear):
        return Layer(None, tuple(x.shape[1:-1]), outputs, inputs, 1, varied, False)
    assert isinstance(module, nn.Conv2d)
    names = ("kernel_size", "stride", "padding", "dilation")
    geometry = tuple((name, getattr(module, name)) for name in names)
    return Layer(geometry, tuple(x.shape[2:]), outputs, inputs, module.groups, varied, norm)


def _removed(graph: ChannelGraph, kept: Mapping[str, int]) -> dict[str, Tensor]:
    return {
        name: torch.arange(n, graph.groups[name].n_units)
        for name, n in kept.items()
        if n < graph.groups[name].n_units
    }


def _timed(
    kinds: Sequence[Layer],
    networks: Sequence[nn.Module],
    image: tuple[int, int, int],
    batch_size: int,
    device: torch.device,
    points: int,
    repeats: int,
) -> list[list[float]]:
    """Return the median ms of each layer at all widths, and at the end those of the networks."""
    values = torch.rand(_most_values(kinds, batch_size), device=device)
    weights = 0.01 * torch.rand(_most_weights(kinds), device=device)
    passes: list[Pass] = []
    ends: list[int] = []
    for layer in kinds:
        for outputs, inputs in _pairs(layer, points):
            module = layer.build(outputs, inputs, weights)
            passes.append(_on(module, layer.input_of(module, batch_size, values)))
        ends.append(len(passes))
    images, timer = example_images(image, batch_size, device), timer_on(device)
    whole, *_ = both = [network.eval() for network in networks]

    def together(passes: Sequence[Pass], repeats: int) -> list[float]:
        timer(passes, images, WARMUP)
        return [median(own) for own in timer(passes, images, repeats)]

    of_networks = together(both, 3 * repeats)  # they are few, and the fit depends on each
    found = [0.0] * len(passes)
    # In random order: beside one of its own kind, a layer would find the caches as it needs them.
    order = torch.randperm(len(passes), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, len(passes), MOST_PASSES):
        chosen = order[start : start + MOST_PASSES]
        *own, now = together([*(passes[i] for i in chosen), whole], repeats)
        for i, ms in zip(chosen, own, strict=True):
            found[i] = of_networks[0] / now * ms
    return [found[start:end] for start, end in pairwise([0, *ends])] + [of_networks]


def _on(module: nn.Module, x: Tensor) -> Pass:
    """Return a pass that reads an input of its own instead of the images."""
    return lambda images: module(x)


def _pairs(layer: Layer, points: int) -> Iterator[tuple[int, int]]:
    outputs, inputs = layer.grid(points)
    return ((rows, columns) for rows in outputs for columns in inputs)


def _layer_times(layer: Layer, points: int, ms: Sequence[float]) -> LayerTimes:
    outputs, inputs = layer.grid(points)
    rows = np.array(ms).reshape(len(outputs), len(inputs))
    return LayerTimes(
        layer=str(layer),
        outputs=outputs,
        inputs=inputs,
        ms=tuple(tuple(map(_rounded, row)) for row in rows.tolist()),
    )


def _most_values(kinds: Sequence[Layer], batch_size: int) -> int:
    """Return the elements of the largest input."""
    return max(
        batch_size * int(np.prod(layer.place)) * layer.inputs * layer.groups for layer in kinds
    )


def _most_weights(kinds: Sequence[Layer]) -> int:
    """Return the elements of the largest weight or bias."""
    sizes = []
    for layer in kinds:
        kernel = dict(layer.geometry or ()).get("kernel_size", (1,))
        sizes.append(layer.outputs * layer.inputs * int(np.prod(kernel)))
    return max(sizes)


def _images(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the first values as a tensor (N, C, h, w) in channels-last memory order."""
    n, channels, height, width = shape
    flat = values[: n * channels * height * width]
    return flat.view(n, height, width, channels).permute(0, 3, 1, 2)


def _size(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _rounded(number: float) -> float:
    """Return a number with five significant digits, as the file holds it."""
    return float(f"{number:.5g}")
