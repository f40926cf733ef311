"""The text of `prunebench plan`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from prunebench.experiments.machine import processor_name
from prunebench.planning.experiment_plan import Plan


def lines_of(plan: Plan) -> Iterator[str]:
    """Yield the plan as text."""
    stages = plan.stages()
    unit = "GPU hours" if plan.device == "cuda" else "core hours"
    networks, datasets = (
        ", ".join(dict.fromkeys(getattr(spec, key) for spec in plan.specs))
        for key in ("architecture", "dataset")
    )
    yield f"{plan.specs[0].experiment} · {len(plan.specs)} runs · {networks} on {datasets}"
    yield f"{'stage':<10} {'jobs':>6} {'done':>6} {unit:>12}"
    for stage in stages:
        yield f"{stage.name:<10} {stage.jobs:>6} {stage.done:>6} {_hours(stage.seconds):>12}"
    total = sum(stage.seconds for stage in stages)
    jobs, done = (sum(getattr(s, key) for s in stages) for key in ("jobs", "done"))
    yield f"{'total':<10} {jobs:>6} {done:>6} {_hours(total):>12}"
    if plan.device == "cpu":
        cores = len(os.sched_getaffinity(0))
        least = _hours(plan.least_seconds(cores))
        yield f"on the {cores} cores of this machine: {least} hours or more"
    size, (memory, source) = plan.disk_bytes(), plan.memory_mb()
    yield f"disk: {size / 1e6:,.0f} MB of results; memory: {memory:,} MB per job, {source}"
    for words, number in plan.basis.items():
        yield f"{number} estimates from {words}"
    others = sorted({r.processor for r in plan.recorded if r.processor} - {processor_name()})
    if others and plan.device == "cpu":
        yield f"recorded on {', '.join(others)}; this is {processor_name()}"


def _hours(seconds: float) -> str:
    """Return hours with two significant digits.

    >>> _hours(0), _hours(90), _hours(36_000), _hours(4_000_000)
    ('0', '0.025', '10', '1,111')
    """
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"
