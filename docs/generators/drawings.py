"""Drawings of coupled channels for the page of concepts, made from the networks themselves."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from prunebench.channels.drawing import as_svg
from prunebench.channels.trace.tracer import trace


class Block(nn.Module):
    """A convolution, a residual block behind it, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.conv1 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 16, 3, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (N, 10)."""
        x = self.stem(x).relu()
        x = (x + self.conv2(self.conv1(x).relu())).relu()
        return self.fc(x.mean(dim=(2, 3)))


def write(folder: Path) -> list[Path]:
    """Write the drawings below a folder and return their files."""
    path = folder / "drawings" / "block.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = trace(Block(), torch.zeros(1, 3, 32, 32))
    path.write_text(as_svg(graph, "A residual block"), encoding="utf-8")
    return [path]
