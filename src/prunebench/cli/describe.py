"""Build, trace and describe a network for `prunebench groups`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from prunebench.channels.description import describe
from prunebench.channels.drawing import as_dot, as_svg
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ConfigError, ModelError, in_one_line
from prunebench.core.files import write_text
from prunebench.core.own_code import own_function
from prunebench.models import registry

DRAWINGS = {".svg": as_svg, ".dot": as_dot}
CLASSES = 10  # default for this project's networks, whose builders have none


def report(
    architecture: str, num_classes: int | None, image: str, grouped: str, out: Path | None
) -> Iterator[str]:
    """Yield the description of a network's groups; draw them to the file `out` if it is given."""
    if out is not None and out.suffix not in DRAWINGS:
        raise ConfigError(f"--out: {out} must end in {' or '.join(DRAWINGS)}")
    shape = image_shape(image)
    model = build(architecture, num_classes, shape[0])
    graph = trace(model, torch.rand(1, *shape), grouped=grouped)  # type: ignore[arg-type]
    yield from describe(graph)
    if out is not None:
        write_text(out, DRAWINGS[out.suffix](graph, f"{architecture}, {image}"))
        yield str(out)


def image_shape(text: str) -> tuple[int, int, int]:
    """Return channels, height and width.

    >>> image_shape("3x32x32")
    (3, 32, 32)
    """
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", text):
        raise ConfigError(f"--image: {text!r} is not of the form CxHxW, as in 3x32x32")
    channels, height, width = (int(part) for part in text.split("x"))
    return channels, height, width


def build(architecture: str, num_classes: int | None, in_channels: int) -> nn.Module:
    """Build one of this project's networks, or call `module:function`.

    Modules of the current folder are found, as by `python -m`.

    Raises
    ------
    ConfigError
        For an unknown name, or a module that fails when imported or has no such function.
    ModelError
        If the function raises any exception or returns no network.
    """
    if ":" not in architecture:
        n = CLASSES if num_classes is None else num_classes
        return registry.build(architecture, num_classes=n, in_channels=in_channels)
    builder = own_function(architecture, "network")
    options = {} if num_classes is None else {"num_classes": num_classes}
    try:
        model = builder(**options)
    except Exception as error:  # such as weights that cannot be downloaded
        raise ModelError(
            f"network {architecture!r} cannot be built: {in_one_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{architecture!r} returns {type(model).__name__}, not an nn.Module")
    return model
