"""Devices: the GPUs that a setting allows, and the names of devices in results."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from prunebench.core.errors import ConfigError


def usable_gpus(name: str) -> int:
    """Return the number of GPUs for "auto", "cpu" or "cuda"; ConfigError for "cuda" without one."""
    if name == "cpu":
        return 0
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not available:
        raise ConfigError("device: 'cuda', but this machine has no GPU; allowed: auto, cpu")
    return available


def device_name(device: torch.device) -> str:
    """Return the name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
