"""Counts of a network: multiply-accumulates, parameters, and the share that masks zero.

fvcore counts the multiply-accumulates of one forward pass and calls them "flops". Its total
includes normalization, pooling and interpolation; here only convolutions, linear layers and matrix
products count. Those saved by masks follow from layer shapes (`layer_counts`).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.untouched import own_randomness
from prunebench.core.errors import PrunebenchError
from prunebench.measure.layer_counts import LayerCount, count_layers

MAC_OPERATORS = frozenset(
    {"conv", "linear", "addmm", "matmul", "mm", "bmm", "einsum", "deform_conv2d"}
)


@dataclass(frozen=True, kw_only=True)
class MacCount:
    """Multiply-accumulates of one image."""

    total: int
    by_operator: dict[str, int]  # fvcore's names: conv, linear, addmm ...
    by_layer: dict[str, int]  # by path of the module, without its children
    uncounted: dict[str, int]  # operators without a formula, with their number of calls


def count_macs(model: nn.Module, example: Tensor) -> MacCount:
    """Count one forward pass of the first image of `example`, of shape (N, C, h, w).

    The model is left as it was. Raises PrunebenchError if fvcore is not installed.
    """
    # A copy, since `forward` may write to the model and its input; run once, since fvcore fails on
    # a network that changes its modules at first use.
    model, example = copy.deepcopy(model).eval(), example[:1].clone()
    with own_randomness(model), torch.no_grad(), warnings.catch_warnings():
        model(example.clone())
        analysis = _analysis(model, example)
        warnings.simplefilter("ignore")  # from torch.jit, which fvcore traces with
        by_module = analysis.by_module_and_operator()
        uncounted = analysis.unsupported_ops()
    by_operator = {name: int(n) for name, n in by_module[""].items() if name in MAC_OPERATORS}
    return MacCount(
        total=sum(by_operator.values()),
        by_operator=by_operator,
        by_layer=_own_macs(by_module),
        uncounted={name: int(n) for name, n in sorted(uncounted.items())},
    )


def _analysis(model: nn.Module, example: Tensor) -> Any:
    """Return fvcore's analysis, without warnings and with a formula for deformable convolutions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from fvcore.nn import FlopCountAnalysis
    except ImportError:
        raise PrunebenchError(
            "counting operations needs fvcore, which is not installed: pip install fvcore"
        ) from None
    analysis = FlopCountAnalysis(model, example)
    analysis.unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    analysis.set_op_handle("torchvision::deform_conv2d", _deform_conv2d_macs)
    return analysis


def _deform_conv2d_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Count one filter per output, as for a plain convolution, and not the sampling of inputs."""
    weight: list[int] = inputs[1].type().sizes()
    output: list[int] = outputs[0].type().sizes()
    return math.prod(output) * math.prod(weight[1:])


def _own_macs(by_module: Mapping[str, Counter[str]]) -> dict[str, int]:
    """Subtract from each module the counts of its children; drop modules with a count of zero."""
    total = {
        name: sum(int(n) for operator, n in counts.items() if operator in MAC_OPERATORS)
        for name, counts in by_module.items()
    }
    own = dict(total)
    for name, macs in total.items():
        if name:
            own[name.rpartition(".")[0]] -= macs
    return {name: macs for name, macs in own.items() if macs}


def count_params(model: nn.Module) -> int:
    """Count the values of all parameters, a shared one once, without buffers.

    Parameters with `requires_grad` false count too.
    """
    return sum(parameter.numel() for parameter in model.parameters())


def theoretical_macs(model: nn.Module, example: Tensor, masks: Mapping[str, Tensor]) -> int:
    """Count the multiply-accumulates of one image, without those of masked weights.

    `masks` holds, by parameter name, a bool tensor of the parameter's shape; True is kept.
    """
    known = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in known:
            raise ValueError(f"mask of {name!r}: the network has no such parameter")
        if mask.shape != known[name].shape:
            raise ValueError(
                f"mask of {name!r} has shape {tuple(mask.shape)}, expected "
                f"{tuple(known[name].shape)}"
            )
    return kept_macs(count_layers(model, example), masks)


def sparsity(layers: Sequence[LayerCount], masks: Mapping[str, Tensor]) -> float:
    """Return the share of convolution and linear weights that are masked but not removed.

    A weight that several layers share counts once. Biases and normalization do not count.

    >>> sparsity([], {})
    0.0
    """
    sizes = {layer.weight: layer.weights for layer in layers if layer.macs and layer.weight}
    zeros = sum(int((~mask).sum()) for name, mask in masks.items() if name in sizes)
    return zeros / max(sum(sizes.values()), 1)


def kept_macs(layers: Sequence[LayerCount], masks: Mapping[str, Tensor]) -> int:
    """Sum the MACs of layers, each multiplied by the share of its weights that the mask keeps.

    Every weight of a layer is used in the same number of products, so the result is exact.
    """
    total = 0
    for layer in layers:
        mask = masks.get(layer.weight) if layer.macs and layer.weight else None
        kept = layer.weights if mask is None else int(mask.sum())
        total += layer.macs // max(layer.weights, 1) * kept
    return total
