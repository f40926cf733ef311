"""A base network of two layers, compiled by torch.compile's default backend, in a job of its own.

    python -m tests.training.compiled_base RESULTS SEED

prints, as JSON, how often the compiler found its code in the cache and how often it did not. All
batches have 60 images, so that one shape is compiled.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from torch import nn

from prunebench.experiments.machine import Machine
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.spec import BaseSpec
from prunebench.models import caffe
from prunebench.models.registry import MODELS
from prunebench.training.progress import SilentProgress
from prunebench.training.train import train_base


def two_layers(*, num_classes: int, in_channels: int, width: float) -> nn.Module:
    """Return a convolution with batch norm and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


def spec(seed: int, *, compiled: bool) -> BaseSpec:
    """Return two epochs of eight steps."""
    return BaseSpec(
        dataset="synthetic",
        architecture="two_layers",
        recipe_name="compiled" if compiled else "eager",
        recipe=Recipe(epochs=2, batch_size=60, lr=0.05, weight_decay=1e-3, compile=compiled),
        seed=seed,
        threads=1,
    )


def train(results: Path, seed: int, *, compiled: bool) -> None:
    """Train the network below `results`, where the data set lies."""
    MODELS["two_layers"] = "caffe"
    caffe.NETWORKS["two_layers"] = two_layers
    machine = Machine(device="cpu", checkpoint_seconds=3600.0)
    train_base(spec(seed, compiled=compiled), results, progress=SilentProgress(), machine=machine)


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]), compiled=True)
    from torch._dynamo.utils import counters

    found = counters["inductor"]
    print(json.dumps({word: found[f"fxgraph_cache_{word}"] for word in ("hit", "miss")}))
