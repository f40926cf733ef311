"""What the benchmarks beside Torch-Pruning share: their options, one thread, versions."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from importlib.metadata import version

import torch


def parsed(description: str, networks: Sequence[str]) -> argparse.Namespace:
    """Return the options `size`, `repeats` and `networks`, and prepare for timing one core."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="pixels of the square input")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=networks)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    return options


def versions() -> str:
    """Return the versions of the libraries."""
    names = ("torch", "torchvision", "torch-pruning")
    return ", ".join(f"{name} {version(name)}" for name in names)
