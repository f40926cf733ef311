"""How many GPUs a job may take, from the name that users give."""

from __future__ import annotations

import torch

from prunebench.core.errors import ConfigError


def usable_gpus(name: str) -> int:
    """Return how many GPUs "auto", "cpu" or "cuda" allows; ConfigError for "cuda" without one."""
    if name == "cpu":
        return 0
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not available:
        raise ConfigError("device: 'cuda' is asked for and this machine has none; allowed: cpu")
    return available
