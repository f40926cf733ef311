"""Devices: the GPUs that a setting allows, what a processor can do, and names in results."""

from __future__ import annotations

import torch

from prunebench.core.errors import ConfigError
from prunebench.experiments.machine import processor_name

# Of x86 (AVX-512, AMX) and of ARM, as torch.cpu.get_capabilities names them.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def usable_gpus(name: str) -> int:
    """Return the number of GPUs for "auto", "cpu" or "cuda"; ConfigError for "cuda" without one."""
    if name == "cpu":
        return 0
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not available:
        raise ConfigError("device: 'cuda', but this machine has no GPU; allowed: auto, cpu")
    return available


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16; only CPUs are asked.

    Without them bf16 is emulated and slower than fp32.
    """
    if device.type != "cpu":
        return True
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in BF16_INSTRUCTIONS)


def device_name(device: torch.device) -> str:
    """Return the name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name()
