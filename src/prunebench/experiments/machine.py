"""Settings of the machine that runs a job.

They are no part of a run's specification: a change of them reruns nothing. A new setting is one
field here; config/config.yaml, the options of the commands and the workflow take it from here.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from pydantic import Field

from prunebench.experiments.settings import Settings

MOST_WORKERS = 8  # by default
LARGEST_WORKERS = 256


VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}  # flags in /proc/cpuinfo, widest first


def processor_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of this machine's processor, with its widest vector instructions.

    PyTorch's kernels differ by these, and so do results, in the last bits. The name alone does not
    tell: virtual machines call processors of several generations "AMD EPYC".
    """
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    name = facts.get("model name", platform.processor() or platform.machine())
    flags = facts.get("flags", "").split()
    vectors = next((words for flag, words in VECTORS.items() if flag in flags), None)
    return name if vectors is None else f"{name} ({vectors})"


def gpu_name() -> str | None:
    """Return the name of this machine's first GPU, as PyTorch calls it; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    names = found.stdout.splitlines() if found.returncode == 0 else []
    return names[0].strip() if names else None


class Machine(Settings):
    """Settings of the machine; results do not depend on them, except by rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Device of training and timing; `auto` uses a GPU if there is one.",
    )
    data_dir: Path = Field(
        Path("data"),
        description="Folder of data set sources, downloaded if missing, and of own weight files.",
    )
    shared_bases: Path | None = Field(
        None,
        description="Folder of base networks that others have trained, written by `prunebench "
        "share`. One of the same specification and data is copied, instead of trained.",
    )
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="Seconds between two checkpoints of a training job."
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=LARGEST_WORKERS,
        description=(
            "Number of image-loading workers of a training job; `null` is one less than its "
            f"cores, at most {MOST_WORKERS}."
        ),
    )
    capture: bool = Field(
        True,
        description="Capture the training step as a CUDA graph and replay it, on a GPU; also time "
        "networks as CUDA graphs.",
    )
    deterministic: bool = Field(
        False,
        description="Use only deterministic algorithms: the same bits in every repetition, "
        "on a GPU too.",
    )
    auto_accumulate: bool = Field(
        False,
        description="Retry a run that does not fit into memory once, with each batch in two parts.",
    )
    check_base: bool = Field(
        True,
        description="Stop a run if its base network is far from the expected accuracy of its "
        "recipe or, on data that have changed since, from its stored accuracy.",
    )

    @property
    def loading_workers(self) -> int:
        """Return the number of image-loading workers."""
        if self.workers is not None:
            return self.workers
        return min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1)
