"""Parameters, and what zeros save: multiply-accumulates that cost nothing, sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from prunebench.measure.layers import LayerCount, count_layers


def count_params(model: nn.Module) -> int:
    """Count the trainable values: every parameter, a shared one once, no buffers.

    A parameter frozen for a while (`requires_grad` false) is counted too.
    """
    return sum(parameter.numel() for parameter in model.parameters())


def theoretical_macs(model: nn.Module, example: Tensor, masks: Mapping[str, Tensor]) -> int:
    """Count the multiply-accumulates of one image, without those of zeroed weights.

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
    """Return the share of convolution and linear weights that are zero but still there.

    A weight that several layers share counts once; biases and normalization do not count.

    >>> sparsity([], {})
    0.0
    """
    sizes = {layer.weight: layer.weights for layer in layers if layer.macs and layer.weight}
    zeros = sum(int((~mask).sum()) for name, mask in masks.items() if name in sizes)
    return zeros / max(sum(sizes.values()), 1)


def kept_macs(layers: Sequence[LayerCount], masks: Mapping[str, Tensor]) -> int:
    """Sum the layers' MACs, each times the share of its weights that the mask keeps.

    Every weight of a layer takes part in the same number of products, so the result is exact.
    """
    total = 0
    for layer in layers:
        mask = masks.get(layer.weight) if layer.macs and layer.weight else None
        kept = layer.weights if mask is None else int(mask.sum())
        total += layer.macs // max(layer.weights, 1) * kept
    return total
