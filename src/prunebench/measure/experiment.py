"""Measuring many runs in one process: starting Python costs more than counting one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch

from prunebench.core.spec import RunSpec
from prunebench.measure.device import usable_gpus
from prunebench.measure.stage import measure_cost, measure_latency


def measure_runs(
    specs: Sequence[RunSpec],
    results: Path,
    *,
    only: Literal["cost", "latency"] | str | None,
    device: str,
) -> Iterator[str]:
    """Measure each run that has no such file yet; yield a line per run.

    Latencies take the threads that the runs were trained with. On a GPU machine the device is the
    first that the process sees: the workflow gives a latency job all of the machine.
    Raises ConfigError for "cuda" where there is no GPU.
    """
    where = "cuda" if usable_gpus(device) else "cpu"
    for spec in specs:
        run, base = results / spec.path, results / spec.base.path
        words = []
        if only != "latency":
            cost = measure_cost(run, base, spec.hash)
            words.append(f"{cost['base_macs'] / cost['macs']:.2f}× fewer MACs")
        if only != "cost":
            torch.set_num_threads(spec.threads)
            latency = measure_latency(run, base, spec.hash, device=where)
            words += [
                f"{entry['speedup']:.2f}× faster at batch {entry['batch_size']}"
                for entry in latency["entries"]
            ]
        yield f"{spec.path} · {' · '.join(words) or 'zeros save no time'}"
