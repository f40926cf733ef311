"""Devices: the GPUs that a setting allows, what a processor can do, and names in results."""

from __future__ import annotations

import shutil
import subprocess
from typing import NamedTuple

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


class GpuState(NamedTuple):
    """The driver and the current clocks of a GPU, as `nvidia-smi` reports them; None: unknown."""

    driver: str | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None


def gpu_state(device: torch.device) -> GpuState:
    """Return driver and clocks of a GPU; all are None on a CPU and without `nvidia-smi`.

    The GPU is asked for by its UUID, because CUDA may number GPUs in another order.
    """
    if device.type != "cuda" or shutil.which("nvidia-smi") is None:
        return GpuState()
    uuid = torch.cuda.get_device_properties(device).uuid
    command = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={_STATE}"]
    command += ["--format=csv,noheader,nounits"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return _state(found.stdout) if found.returncode == 0 else GpuState()


_STATE = "driver_version,clocks.current.sm,clocks.current.memory"


def _state(line: str) -> GpuState:
    """Return the state in a line of `nvidia-smi`; what it cannot say is None.

    >>> _state("550.54.15, 1980, 2619"), _state("550.54.15, [N/A], 2619").sm_clock_mhz
    (GpuState(driver='550.54.15', sm_clock_mhz=1980, memory_clock_mhz=2619), None)
    """
    driver, sm, memory = (text.strip() for text in line.split(","))
    clocks = (int(text) if text.isdigit() else None for text in (sm, memory))
    return GpuState(driver, *clocks)
