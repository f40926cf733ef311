"""In which mode the modules of a network train."""

from __future__ import annotations

from torch import nn

from prunebench.core.recipe import Recipe


def set_modes(model: nn.Module, recipe: Recipe) -> None:
    """Put a network into training mode; batch norm whose statistics are frozen evaluates.

    Its weights and biases are trained all the same.
    """
    model.train()
    if recipe.norm_statistics == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
