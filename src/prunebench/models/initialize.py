"""Drawing the weights of a network anew, also of one that has lost channels."""

from __future__ import annotations

from torch import nn


def initialize(model: nn.Module) -> None:
    """Reset every parameter and buffer as a new network of these widths would have them.

    Each module's own `reset_parameters` first, then the architecture's `draw_weights` where it
    has one. Numbers come from torch's global generator.
    """
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    draw = getattr(model, "draw_weights", None)
    if callable(draw):
        draw()
