"""What an experiment takes before it runs: jobs, hours, disk and memory of each stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from prunebench.core.errors import ConfigError
from prunebench.core.files import parsed_json, read_object
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import Config
from prunebench.experiments.machine import Machine, gpu_name
from prunebench.experiments.parts import MEASURED_TOGETHER, Parts
from prunebench.experiments.resolved import Resolved
from prunebench.experiments.reuse import StoredRow, is_stored, read_stored
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
from prunebench.planning.lookup import entries_of

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
        Stored rows that stand for runs (`reuse`), by the hash of the specification.
    basis
        Number of estimates by where they come from.
    """

    runs: Mapping[str, RunSpec]
    results: Path
    recorded: Sequence[Recorded]
    machine: Machine
    runs_per_job: int = 1
    reused: Mapping[str, StoredRow] = field(default_factory=dict)
    basis: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.specs = list(self.runs.values())
        to_run = [spec for spec in self.specs if spec.hash not in self.reused]
        self.bases = {spec.base.path: spec.base for spec in to_run}
        self._seconds: dict[str, float] = {}  # of runs and base networks, by path
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
        return [
            Stage("data", len(data), stored, 0.0),
            Stage("base", len(self.bases), len(self.bases) - len(bases), self._total(bases)),
            Stage("prune", *self._counted(self.training_jobs()), self._total(runs)),
            Stage("measure", *self._counted(2 * self._jobs(MEASURED_TOGETHER)), self._latency()),
            Stage("report", 4, 0, 0.0),
        ]

    def training_jobs(self) -> list[tuple[str, ...]]:
        """Return the paths of the runs of each job that trains."""
        return self._jobs(self.runs_per_job, for_training=True)

    def _jobs(self, size: int, *, for_training: bool = False) -> list[tuple[str, ...]]:
        """Return the runs of each job, in parts as in the workflow; reused runs are in the last."""
        entries, bases = entries_of(self.runs)
        rows = {path: self.reused.get(entry["hash"]) for path, entry in entries.items()}
        reused = {path: row for path, row in rows.items() if row is not None}
        to_run = Parts(Resolved(entries, bases, reused), size, for_training=for_training)
        stored = Resolved({path: entries[path] for path in reused}, bases)
        parts = (to_run, Parts(stored, size, for_training=False))
        return [job for one in parts for jobs in one.of_network.values() for job in jobs]

    def _counted(self, jobs: Sequence[Sequence[str]]) -> tuple[int, int]:
        """Return how many jobs there are, and of how many all runs are done."""
        left = {spec.path for spec in self.specs if not self._is_done(spec)}
        return len(jobs), sum(left.isdisjoint(job) for job in jobs)

    def least_seconds(self, cores: int) -> float:
        """Return how long the experiment takes at least on a machine with so many cores.

        A job cannot be divided among them and waits for those whose results it needs, and
        latencies are measured with nothing else running.
        """
        together = sum(stage.seconds for stage in self.stages() if stage.name != "measure")
        return max(together / cores, self._longest_chain()) + self._latency()

    def _longest_chain(self) -> float:
        """Return the seconds of the jobs that wait for one another and take longest."""
        jobs, specs = self.training_jobs(), {spec.path: spec for spec in self.specs}
        job_of = {path: number for number, job in enumerate(jobs) for path in job}

        @cache
        def end(number: int) -> float:
            own = [specs[path] for path in jobs[number] if not self._is_done(specs[path])]
            if not own:
                return 0.0
            waits = [end(job_of[spec.widths_from]) for spec in own if spec.widths_from is not None]
            bases = [spec.base for spec in own if spec.start == "base"]
            waits += [self.seconds(base) for base in bases if not self._is_done(base)]
            return max(waits, default=0.0) + sum(map(self.seconds, own))

        return max(map(end, range(len(jobs))), default=0.0)

    def _latency(self) -> float:
        return sum(self._latency_seconds(spec) for spec in self.specs if not self._is_done(spec))

    def _is_done(self, spec: RunSpec | BaseSpec) -> bool:
        return spec.hash in self.reused or is_stored(self.results / spec.path, spec.hash)

    def _total(self, specs: Sequence[RunSpec | BaseSpec]) -> float:
        """Return core seconds, or GPU seconds."""
        cores = 1 if self.device == "cuda" else None
        return sum(self.seconds(spec) * (cores or spec.threads) for spec in specs)

    def seconds(self, spec: RunSpec | BaseSpec) -> float:
        """Return the seconds of a run or a base network."""
        if spec.path not in self._seconds:
            self._seconds[spec.path] = self._estimated(spec)
        return self._seconds[spec.path]

    def _estimated(self, spec: RunSpec | BaseSpec) -> float:
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
    reused = {spec_hash: rows[0] for spec_hash, rows in read_stored(settings.reuse).items()}
    return Plan(runs, results, recorded, machine, settings.runs_per_job, reused)
