"""How this machine trains: what changes no result, or only by rounding, and is no part of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MOST_WORKERS = 8


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The settings of a machine.

    Attributes
    ----------
    data_dir
        Where a base network's own file of weights lies.
    workers
        Processes that read image files; None: one less than the cores, at most 8.
    capture
        Whether the step of a phase is recorded in a CUDA graph, on a GPU.
    deterministic
        Whether only algorithms are used that give the same bits at every repetition.
    auto_accumulate
        Whether a run that does not fit into memory is tried once with its batches in two parts.
    check_base
        Whether a base network far from its expected accuracy stops a run.
    """

    data_dir: Path = Path("data")
    workers: int | None = None
    capture: bool = True
    deterministic: bool = False
    auto_accumulate: bool = False
    check_base: bool = True

    @property
    def reading_processes(self) -> int:
        """Return how many processes read image files."""
        if self.workers is not None:
            return self.workers
        return min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1)
