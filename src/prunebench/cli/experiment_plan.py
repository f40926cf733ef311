"""What an experiment takes before it runs: jobs, hours, disk and memory of each stage."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from prunebench.core.errors import ConfigError
from prunebench.core.files import parsed_json, read_object
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import Config
from prunebench.experiments.machine import Machine, gpu_name, processor_name
from prunebench.experiments.parts import MEASURED_TOGETHER
from prunebench.experiments.reuse import is_stored, read_stored
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.planning.durations import (
    BACKWARD,
    Images,
    Recorded,
    Speed,
    Work,
    fitted_speed,
    phase_work,
    recorded_runs,
    seconds_of,
)

JOB_MB = 4000  # that the rules ask for
FILES_BYTES = 100_000  # history, structure, diagnostics, results and log of a run
LATENCY_PASSES = 150  # of 64 images, of the network, its base and the base's copy
LATENCY_S = (1.0, 25.0)  # least and most seconds of a run's latency


class Stage(NamedTuple):
    """The jobs of a stage, how many of them are done, and the seconds of the others."""

    name: str
    jobs: int
    done: int
    seconds: float


@dataclass
class Plan:
    """Estimates for the runs of one experiment.

    Attributes
    ----------
    recorded
        Finished runs, of any experiment, whose seconds and speeds are used.
    reused
        Specifications, by their hash, whose stored rows stand for runs (`reuse`).
    basis
        Number of estimates by where they come from.
    """

    runs: Mapping[str, RunSpec]
    results: Path
    recorded: Sequence[Recorded]
    machine: Machine
    runs_per_job: int = 1
    reused: frozenset[str] = frozenset()
    basis: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.specs = list(self.runs.values())
        to_run = [spec for spec in self.specs if spec.hash not in self.reused]
        self.bases = {spec.base.path: spec.base for spec in to_run}
        self.device = "cuda" if self._uses_gpu() else "cpu"
        self.speed_of = cache(self._speed_of)
        self.images_of = cache(self._images_of)

    def _uses_gpu(self) -> bool:
        wanted = self.machine.device
        return wanted == "cuda" or (wanted == "auto" and gpu_name() is not None)

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        data = sorted({spec.dataset for spec in self.specs})
        stored = sum(data_path(self.results, name).exists() for name in data)
        bases = [b for b in self.bases.values() if not self._is_done(b)]
        runs = [r for r in self.specs if not self._is_done(r)]
        by_network: dict[tuple[str, str], int] = {}
        for spec in self.specs:
            key = (spec.dataset, spec.architecture)
            by_network[key] = by_network.get(key, 0) + 1
        parts = sum(math.ceil(n / MEASURED_TOGETHER) for n in by_network.values())
        latency = sum(self._latency_seconds(spec) for spec in runs)
        n_jobs = math.ceil(len(self.specs) / self.runs_per_job)
        n_done = (len(self.specs) - len(runs)) // self.runs_per_job
        return [
            Stage("data", len(data), stored, 0.0),
            Stage("base", len(self.bases), len(self.bases) - len(bases), self._total(bases)),
            Stage("prune", n_jobs, n_done, self._total(runs)),
            Stage("measure", 2 * parts, 0 if runs else 2 * parts, latency),
            Stage("report", 4, 0, 0.0),
        ]

    def _is_done(self, spec: RunSpec | BaseSpec) -> bool:
        return spec.hash in self.reused or is_stored(self.results / spec.path, spec.hash)

    def _total(self, specs: Sequence[RunSpec | BaseSpec]) -> float:
        """Return core seconds, or GPU seconds."""
        cores = 1 if self.device == "cuda" else None
        return sum(self.seconds(spec) * (cores or spec.threads) for spec in specs)

    def seconds(self, spec: RunSpec | BaseSpec) -> float:
        """Return the seconds of a run or a base network."""
        if isinstance(spec, BaseSpec):
            return self._speed(spec).seconds(self._base_work(spec))
        known = seconds_of(spec, self._of_device())
        if known is not None:
            self._count("recorded seconds of equal runs")
            return known
        return self._speed(spec.base).seconds(self._run_work(spec))

    def _count(self, words: str) -> None:
        self.basis[words] = self.basis.get(words, 0) + 1

    def _of_device(self) -> list[Recorded]:
        """Return the recorded runs on the kind of device that the experiment will use."""
        return [r for r in self.recorded if (r.device == "cpu") == (self.device == "cpu")]

    def _speed(self, base: BaseSpec) -> Speed:
        speed, words = self.speed_of(base.dataset, base.architecture, base.recipe.batch_size)
        self._count(words)
        return speed

    def _speed_of(self, dataset: str, architecture: str, batch: int) -> tuple[Speed, str]:
        own = [
            run
            for run in self._of_device()
            if (run.dataset, run.architecture) == (dataset, architecture)
        ]
        images = self.images_of(dataset)
        if found := fitted_speed(own, images):
            return found, "work, at the recorded speed of the network"
        passes = timed(dataset, architecture, batch, self.device)
        # A forward and backward pass counts as three forward passes.
        speed = Speed(passes.per_step, passes.per_mac / BACKWARD)
        return speed, "work, at the speed of the network measured here"

    def size(self, base: BaseSpec) -> tuple[int, int]:
        """Return the multiply-accumulates and parameters of a base network."""
        for run in self.recorded:
            if (run.dataset, run.architecture) == (base.dataset, base.architecture):
                return run.base_macs, run.base_params
        passes = timed(base.dataset, base.architecture, base.recipe.batch_size, self.device)
        return passes.macs, passes.params

    def _base_work(self, base: BaseSpec) -> Work:
        images = self.images_of(base.dataset).at_most(base.recipe.max_images)
        macs, recipe = self.size(base)[0], base.recipe
        if recipe.weights is not None or recipe.epochs is None:
            return Work(0, macs * (images.val + images.test))
        return phase_work(recipe, recipe.epochs, macs, images)

    def _run_work(self, spec: RunSpec) -> Work:
        """Return the work of a run's phases; phases that may end early count to their end."""
        from prunebench.experiments.phases import Epochs
        from prunebench.methods.registry import method_class

        kind = method_class(spec.method)
        method = kind(kind.Options.model_validate(spec.options))
        images = self.images_of(spec.dataset).at_most(spec.base.recipe.max_images)
        macs, total = float(self.size(spec.base)[0]), Work(0, 0)
        for phase in method.phases(spec.recipes, spec.budget):
            if phase.recipe is not None and phase.length is not None:
                per_epoch = max(1, math.ceil(images.train / phase.recipe.batch_size))
                length = phase.length
                epochs = length.n if isinstance(length, Epochs) else length.n / per_epoch
                total += phase_work(phase.recipe, epochs, macs, images)
            if phase.then is not None:
                macs = self.size(spec.base)[0] * (1 - (spec.ratio or 0.5))
                total += Work(0, macs * (images.val + images.test))
        return total

    def _latency_seconds(self, spec: RunSpec) -> float:
        forward = 64 * self.size(spec.base)[0] * self._speed_quietly(spec.base).per_mac
        least, most = LATENCY_S
        return min(most, max(least, LATENCY_PASSES * forward))

    def _speed_quietly(self, base: BaseSpec) -> Speed:
        return self.speed_of(base.dataset, base.architecture, base.recipe.batch_size)[0]

    def _images_of(self, dataset: str) -> Images:
        """Return the numbers of images: of the stored file, or of the data set's description."""
        path = data_path(self.results, dataset)
        if path.exists():
            return stored_images(path)
        info = dataset_info(dataset)
        if info.counts is None:
            raise ConfigError(
                f"{dataset}: its number of images is not known yet; run "
                f"`prunebench data --dataset {dataset}` first"
            )
        train, test = info.counts
        val = math.ceil(info.validation * train)
        return Images(train - val, val, test)

    def disk_bytes(self) -> int:
        """Return the size of all results."""
        total = 0
        for base in self.bases.values():
            total += 4 * self.size(base)[1] + FILES_BYTES
        for spec in self.specs:
            total += int(4 * self.size(spec.base)[1] * (1 - (spec.ratio or 0))) + FILES_BYTES
        for dataset in {spec.dataset for spec in self.specs}:
            total += self._data_bytes(dataset)
        return total

    def _data_bytes(self, dataset: str) -> int:
        path, info = data_path(self.results, dataset), dataset_info(dataset)
        if path.exists():
            return path.stat().st_size
        return 0 if info.in_files else sum(self.images_of(dataset)) * math.prod(info.shape)

    def memory_mb(self) -> tuple[int, str]:
        """Return the memory of a job and where it is known from."""
        paths = [*self.runs, *self.bases]
        found = [
            int(read_object(file)["peak_memory_mb"])
            for path in paths
            if (file := self.results / path / "training.json").is_file()
        ]
        if found:
            return max(found), f"the most of {len(found)} finished runs"
        return JOB_MB, "what the workflow asks for"


@cache
def timed(dataset: str, architecture: str, batch_size: int, device: str) -> Any:
    """Build and time a network; imports torch."""
    import torch

    from prunebench.measure.step_time import time_passes
    from prunebench.models.registry import build

    info = dataset_info(dataset)
    model = build(architecture, num_classes=max(2, info.num_classes), in_channels=info.shape[0])
    torch.set_num_threads(1)
    return time_passes(model, info.shape, batch_size, torch.device(device))


def stored_images(path: Path) -> Images:
    """Return the numbers of images in a data file, by the header of the format safetensors."""
    with path.open("rb") as file:
        header = parsed_json(file.read(int.from_bytes(file.read(8), "little")))
    return Images(
        *(int(header[f"{split}_labels"]["shape"][0]) for split in ("train", "val", "test"))
    )


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
        yield f"on the {cores} cores of this machine: {_hours(total / cores)} hours or more"
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


def known_files(results: Path, given: Sequence[Path]) -> list[Path]:
    """Return the runs.csv files to read: the given ones, or all below the results."""
    if given:
        return list(given)
    return sorted([*results.glob("*/runs.csv"), *results.glob("reference/*/runs.csv")])


def planned(
    runs: Mapping[str, RunSpec],
    results: Path,
    given: Sequence[Path],
    settings: Config,
    machine: Machine,
) -> Plan:
    """Return the plan of an experiment."""
    recorded = list(recorded_runs(known_files(results, given)))
    reused = frozenset(read_stored(settings.reuse))
    return Plan(runs, results, recorded, machine, settings.runs_per_job, reused)
