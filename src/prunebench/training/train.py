"""Train one base network or one run, from its specification to its files.

A job locks the folder of its results, returns if they are finished, trains (again with smaller
parts if memory is short), and writes training.json last, which marks the other files as complete.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from socket import gethostname
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.predicted_latency import PredictedLatency
from prunebench.core.errors import ConfigError, ModelError, ResultError, TrainingError
from prunebench.core.files import file_hash, remove_leftovers
from prunebench.core.lock import only_writer
from prunebench.data.dataset import Dataset, load
from prunebench.data.normalization import normalization
from prunebench.data.random_state import seeded
from prunebench.experiments.latency_table import LatencyTable
from prunebench.experiments.machine import Machine
from prunebench.experiments.phases import Budget, Phase
from prunebench.experiments.resolved import PACKAGE
from prunebench.experiments.results import (
    MODEL_FILE,
    TRAINED_FILES,
    HistoryRow,
    PlanResult,
    TrainingResult,
    write_receipt,
)
from prunebench.experiments.shared_bases import shared_base, take_base
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.measure.cuda_graphs import CudaGraphs
from prunebench.measure.device import device_name, multiplies_bf16, usable_gpus
from prunebench.methods.base import Method, MethodOptions
from prunebench.methods.controls import Base
from prunebench.methods.registry import method_class
from prunebench.methods.source_code import method_code
from prunebench.models.registry import build
from prunebench.network import (
    check_weights,
    load_network,
    read_structure,
    save_network,
    structure_of,
)
from prunebench.training.checkpoint import CheckpointFile, StopRequest, listening
from prunebench.training.cuda import MemoryShortError, deterministic
from prunebench.training.latency_target import latency_reached
from prunebench.training.launch import is_first_process
from prunebench.training.loop import Loop
from prunebench.training.memory import keep_freed_memory
from prunebench.training.pretrained import (
    Pretrained,
    cast_lines,
    check_accuracy,
    load_backbone,
    load_pretrained,
)
from prunebench.training.processes import Alone, device_of, processes
from prunebench.training.progress import Progress, SilentProgress
from prunebench.training.pruning import missed_ratio
from prunebench.training.rendezvous import Group, joined
from prunebench.training.run import RunState, derived_seed
from prunebench.training.shared import Shared
from prunebench.training.start_accuracy import evaluate_start

PLAIN = Machine()
PACKAGES = ("prunebench", "torch", "numpy", "scikit-learn")  # whose versions a result records


def train_base(
    spec: BaseSpec, results: Path, *, progress: Progress, machine: Machine = PLAIN
) -> TrainingResult:
    """Train a base network below `results`, or import the weights that its recipe names."""
    return _Job(spec, spec, None, results, progress, machine).result()


def train_run(
    spec: RunSpec,
    results: Path,
    *,
    progress: Progress,
    machine: Machine = PLAIN,
    shared: Shared | None = None,
) -> TrainingResult:
    """Run a method on a base network below `results`.

    Runs that are given the same `shared` load their data and compute equal scores once.
    ResultError if the base network, or the run whose widths are taken, is missing or belongs to
    another specification.
    """
    start = None
    if spec.start == "base":
        start = TrainingResult.read(results / spec.base.path, spec.base.hash)
    return _Job(spec, spec.base, start, results, progress, machine, shared).result()


def method_of(spec: BaseSpec | RunSpec) -> Method[Any]:
    """Return the method of a specification, with its options and without any state."""
    if isinstance(spec, BaseSpec):
        return Base(MethodOptions())
    found = method_class(spec.method)
    return found(found.Options.model_validate(spec.options))


def phases_of(spec: BaseSpec | RunSpec) -> tuple[Phase, ...]:
    """Return the phases of a specification; none for imported weights."""
    if isinstance(spec, RunSpec):
        return tuple(method_of(spec).phases(spec.recipes, spec.budget))
    if spec.recipe.weights is not None:
        return ()
    return tuple(method_of(spec).phases({"base": spec.recipe}, Budget(kind="auto", ratio=None)))


def check_precision(spec: BaseSpec | RunSpec, device: torch.device) -> None:
    """Raise ConfigError if a recipe trains in bf16 and the device has no instructions for it.

    A recipe `<name>_bf16` has an fp32 counterpart `<name>`, which the message names.
    """
    recipes = (
        {spec.recipe_names[role]: recipe for role, recipe in spec.recipes.items()}
        if isinstance(spec, RunSpec)
        else {spec.recipe_name: spec.recipe}
    )
    for name, recipe in recipes.items():
        if recipe.precision != "bf16" or recipe.weights or multiplies_bf16(device):
            continue
        raise ConfigError(
            f"recipe {name!r}: precision: 'bf16' needs bf16 instructions, and this processor "
            f"({device_name(device)}) has none; use {name.replace('_bf16', '')!r} with "
            "precision: fp32"
        )


def _when_and_where() -> str:
    """Return time, host and SLURM job: a log holds one such line for each attempt at a run.

    Example: 2026-12-01 08:15:30 UTC · node17 · SLURM job 4711
    """
    job = os.environ.get("SLURM_JOB_ID")
    where = [gethostname(), *([f"SLURM job {job}"] if job else [])]
    return " · ".join([f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", *where])


class _Job:
    """Makes the result of one specification on this machine.

    Parameters
    ----------
    base
        Specification of the base network: of `spec` itself, or of the run.
    start
        Result of the base network from which the run starts; None: fresh or imported weights.
    """

    def __init__(
        self,
        spec: BaseSpec | RunSpec,
        base: BaseSpec,
        start: TrainingResult | None,
        results: Path,
        progress: Progress,
        machine: Machine,
        shared: Shared | None = None,
    ) -> None:
        self.shared = shared
        self.spec, self.base, self.start = spec, base, start
        self.base_hash = None if start is None else start.weights_sha256
        self.results, self.folder, self.machine = results, results / spec.path, machine
        self.progress = progress if is_first_process() else SilentProgress()
        self.code = method_code(spec.method, spec.options) if isinstance(spec, RunSpec) else None
        self.phases = phases_of(spec)  # invalid options raise before the folder is locked

    def result(self) -> TrainingResult:
        """Return the stored result; train first if there is none."""
        group, first = joined(), is_first_process()
        lock = only_writer(self.folder, self.progress.say, at_once=sys.stdout.isatty())
        with lock if first else nullcontext():
            if group is not None:
                group.after_first()
            if group is not None or not self._has_result():
                try:
                    self._train(group)
                except ModelError as error:
                    raise ModelError(f"{self.spec.path}: {error}") from None
            result = TrainingResult.read(self.folder)
            if first:
                write_receipt(self.folder, result)
            return result

    def _has_result(self) -> bool:
        """Whether the folder holds the result, also by taking a shared base network."""
        if self._is_finished():
            self.progress.say(f"{self.folder}: finished already")
            return True
        return self._is_taken() and self._is_finished()

    def _is_taken(self) -> bool:
        """Copy the network from the folder of shared base networks; False if it is not there."""
        if self.machine.shared_bases is None or not isinstance(self.spec, BaseSpec):
            return False
        data = data_path(self.results, self.spec.dataset)
        try:
            entry = shared_base(self.machine.shared_bases, self.spec, data)
        except ResultError as error:
            self.progress.say(f"{error}; not taken from the shared base networks, but trained here")
            return False
        if entry is None:
            return False
        take_base(entry, self.spec, self.folder)
        self._checkpoint().remove()
        self.progress.say(f"{self.folder}: base network taken from {entry}")
        return True

    def _is_finished(self) -> bool:
        """Whether the folder holds the whole result of this specification and base network."""
        if not (self.folder / TrainingResult.FILE).exists():
            return False
        try:
            stored = TrainingResult.read(self.folder, self.spec.hash)
        except ResultError as error:
            self.progress.say(str(error))
            return False
        if stored.base_hash != self.base_hash:
            self.progress.say(f"{self.folder}: the base network has changed; training again")
            return False
        if damages := list(stored.damages(self.folder)):
            for problem in damages:
                self.progress.say(problem)
            self.progress.say(f"{self.folder}: training again")
            return False
        check_weights(self.folder)
        return True

    def _train(self, group: Group | None) -> None:
        torch.set_num_threads(self.spec.threads)
        self.progress.say(_when_and_where())
        with (
            deterministic(self.machine.deterministic),
            device_of(self.machine.device, group, self.progress.say) as device,
            processes(device, group) as parallel,
            listening() as stop,
        ):
            check_precision(self.spec, device)
            if device.type == "cpu":
                keep_freed_memory()
            if parallel.world > 1 and parallel.from_first(self._has_result):
                return
            try:
                self._attempt(device, parallel, stop, more_parts=1)
            except MemoryShortError as error:
                # In several processes, one that still has memory would wait for this one.
                if not self.machine.auto_accumulate or parallel.world > 1:
                    raise
                self.progress.say(f"{error}; once more, with each batch in two parts")
            else:
                return
            if device.type == "cuda":
                torch.cuda.empty_cache()
            self._attempt(device, parallel, stop, more_parts=2)

    def _attempt(
        self, device: torch.device, parallel: Alone, stop: StopRequest, *, more_parts: int
    ) -> None:
        """Train from the start or the checkpoint to the end, and write the files."""
        if parallel.rank == 0:
            remove_leftovers(self.folder)
        method = method_of(self.spec)
        run = self._new_run(device, parallel, method)
        pretrained = self._start(run)
        checkpoint = self._checkpoint()
        captures = device.type == "cuda" and self.machine.capture and parallel.world == 1
        loop = Loop(
            run,
            method,
            progress=self.progress,
            stop=stop,
            checkpoint=checkpoint,
            recorder=CudaGraphs(device) if captures else None,
            more_parts=more_parts,
        )
        if any(phase.recipe is not None and phase.recipe.compile for phase in self.phases):
            # PyTorch's own place is a temporary folder, which jobs of other machines do not share.
            cache = str(self.results.resolve() / ".compiled")
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)
        with seeded(derived_seed(self.spec.seed, "run")):
            is_resumed = parallel.from_first(checkpoint.path.exists)
            is_imported = self.start or (pretrained and self.base.recipe.weights)
            if is_imported and not is_resumed:
                evaluate_start(run, self.base, self.results, self.progress)
                if self.machine.check_base:
                    self._check_base(run)
            loop.train()
            if parallel.rank == 0:
                with checkpoint.offered():
                    self._write(loop, pretrained)
                checkpoint.remove()
            else:
                run.evaluations_now()  # all processes evaluate with the first one
            parallel.wait()

    def _checkpoint(self) -> CheckpointFile:
        return CheckpointFile(
            self.folder,
            f"{self.spec.hash} {self.base_hash}",
            self.machine.checkpoint_seconds,
            self.progress.say,
        )

    def _new_run(self, device: torch.device, parallel: Alone, method: Method[Any]) -> RunState:
        path, workers = data_path(self.results, self.spec.dataset), self.machine.loading_workers
        joined = self.spec.trained_on == "train_and_val"

        most = self.base.recipe.max_images

        def loaded() -> Dataset:
            return load(path, device, workers=workers, joined=joined, most=most)

        key = path, str(device), workers, joined, most
        dataset = self.shared.dataset(key, loaded) if self.shared else loaded()
        # A folder says only when it is loaded whether its images are read from files.
        for recipe in (self.base.recipe, *(phase.recipe for phase in self.phases if phase.recipe)):
            dataset.info.check_augmentation(recipe.augment)
        widths = self.spec.widths_from if isinstance(self.spec, RunSpec) else None
        return RunState(
            seed=self.spec.seed,
            device=device,
            dataset=dataset,
            build=self._builder(dataset),
            phases=self.phases,
            base_recipe=self.base.recipe,
            source_kept=None if widths is None else _kept_units(self.results / widths),
            latency=self._predicted_latency(),
            grouped=method.options.grouped,
            parallel=parallel,
            shared=self.shared if parallel.world == 1 else None,
        )

    def _predicted_latency(self) -> PredictedLatency | None:
        """Return the prediction by the table that the run names.

        ConfigError if the file has changed since the run was resolved, or was measured on another
        device.
        """
        if isinstance(self.spec, BaseSpec) or self.spec.latency_table is None:
            return None
        path = Path(self.spec.latency_table)
        table = LatencyTable.read(path)
        if table.hash != self.spec.latency_table_hash:
            raise ConfigError(
                f"{path}: the latency table has changed since {self.spec.path} was resolved; "
                "resolve the experiment again"
            )
        if table.device_kind == "cuda":
            usable_gpus("cuda")
        try:
            table.check_device(device_name(torch.device(table.device_kind)))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return PredictedLatency(table)

    def _builder(self, dataset: Dataset) -> Callable[[], nn.Module]:
        def fresh() -> nn.Module:
            with seeded(derived_seed(self.spec.seed, "init")):
                return build(
                    self.spec.architecture,
                    num_classes=dataset.info.num_classes,
                    in_channels=dataset.info.shape[0],
                )

        return fresh

    def _start(self, run: RunState) -> Pretrained | None:
        """Give the run its first network; return the source of its weights if they are imported."""
        if self.start is not None:
            self._start_from_base(run, self.start)
            self.progress.say(
                f"{'base':<10} {self.spec.architecture} · {self.spec.dataset} · "
                f"{self.start.accuracy:.2f} % (seed {self.spec.seed}, {self.base_hash:.8})"
            )
            return None
        model, pretrained = run.build(), None
        if isinstance(self.spec, BaseSpec) and self.spec.recipe.weights is not None:
            pretrained = load_pretrained(model, self.spec.recipe, self.machine.data_dir)
        elif isinstance(self.spec, BaseSpec) and self.spec.recipe.backbone is not None:
            pretrained = load_backbone(model, self.spec.recipe, self.machine.data_dir)
        for line in cast_lines(pretrained or {}):
            self.progress.say(f"{'weights':<10} {line} · {self.spec.path}")
        run.start_from(model)
        return pretrained

    def _start_from_base(self, run: RunState, stored: TrainingResult) -> None:
        """Load the base network, and its accuracies if it was stored with the same data.

        ResultError if its weights are not those that it was stored with.
        """
        folder = self.results / self.base.path
        if (found := file_hash(folder / MODEL_FILE)) != stored.weights_sha256:
            raise ResultError(
                f"{folder / MODEL_FILE}: SHA-256 is {found}, expected {stored.weights_sha256} as "
                f"in {TrainingResult.FILE}; train the base network again"
            )
        run.start_from(load_network(folder))
        if stored.data_sha256 == run.dataset.sha256:
            own = normalization(self.base.recipe.normalize, run.dataset.info)
            run.remember("test", own, stored.accuracy, stored)
            if stored.val_accuracy is not None:
                run.remember("val", own, stored.val_accuracy)

    def _check_base(self, run: RunState) -> None:
        """Check the accuracy of a base network that was not trained in this job.

        Imported weights are evaluated, and so is a base network that was stored with other data.
        TrainingError if it is far from the accuracy that its recipe expects or that it had when it
        was stored.
        """
        recipe, what = self.base.recipe, f"the base network {self.base.path}"
        own = normalization(recipe.normalize, run.dataset.info)
        accuracy = run.evaluated("test", own).percent
        check_accuracy(accuracy, run.task.metric, recipe, what)
        if self.start is not None and abs(accuracy - self.start.accuracy) > recipe.expected_within:
            raise TrainingError(
                f"{what} has {accuracy:.2f} % on the test split, and had "
                f"{self.start.accuracy:.2f} % when it was stored; train it again, or continue with "
                "check_base: false"
            )

    def _write(self, loop: Loop, pretrained: Pretrained | None) -> None:
        """Write all files; training.json comes last and marks the others as complete."""
        run, info = loop.run, loop.run.dataset.info
        structure = structure_of(
            run.model,
            architecture=self.spec.architecture,
            dataset=self.spec.dataset,
            num_classes=info.num_classes,
            image=info.shape,
            sizes=run.sizes,
            kept=run.kept,
            grouped=run.grouped,
            normalization=normalization(run.recipe.normalize, info),
            resize=info.resize,
            classes=info.classes,
        )
        save_network(self.folder, run.model, structure, run.masks)
        run.records.write(self.folder, run.task.metric)
        files = {name: file_hash(self.folder / name) for name in TRAINED_FILES}
        result = self._result(loop, files, pretrained)
        result.write(self.folder)
        self.progress.say(f"{'test':<10} {result.accuracy:.2f} % · {self.folder}")

    def _result(
        self, loop: Loop, files: dict[str, str], pretrained: Pretrained | None
    ) -> TrainingResult:
        run, records = loop.run, loop.run.records
        val, tested = run.evaluations_now()
        test = tested.percent
        # The network at the end comes last: of equally good epochs the latest counts.
        reportable = [
            (row.val_accuracy, row.test_accuracy) for row in records.history if row.reportable
        ]
        ends = [*reportable, (val, test)]
        best_val = None if val is None else max(reversed(ends), key=lambda end: end[0] or 0.0)
        differences = (plan.masked_removed_difference for plan in records.plans)
        return TrainingResult(
            spec_hash=self.spec.hash,
            base_hash=self.base_hash,
            weights_sha256=files[MODEL_FILE],
            pretrained=pretrained,
            accuracy=test,
            val_accuracy=val,
            accuracy_best_val=None if best_val is None else best_val[1],
            accuracy_best_test=max(end[1] for end in ends if end[1] is not None),
            accuracy_masked=_masked_accuracy(records.history, records.plans),
            epochs=round(records.epochs_trained, 6),
            last_phase_epochs=round(records.epochs_trained - records.epochs_before, 6),
            seconds={name: round(s, 3) for name, s in records.seconds.items()},
            selection_seconds=sum(plan.selection_seconds for plan in records.plans),
            summary=dict(tested.figures) | loop.method.figures() | self._budget(loop),
            capped=tuple(records.capped),
            masked_removed_difference=max((d for d in differences if d is not None), default=None),
            plans=tuple(records.plans),
            resumed_at=tuple(records.resumed_at),
            peak_memory_mb=_peak_memory_mb(),
            device=torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            processes=run.parallel.world,
            more_parts=loop.more_parts,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            data_sha256=run.dataset.sha256,
            versions=versions(),
            commit=commit(),
            spec=self.spec.model_dump(mode="json"),
            test_images=len(run.dataset.test),
            processor=device_name(torch.device("cpu")),
            code=self.code,
            options=loop.method.options.model_dump(mode="json")
            if isinstance(self.spec, RunSpec)
            else None,
            date=datetime.now(UTC).date().isoformat(),
            task=run.dataset.info.task,
            by_class=dict(tested.by_class) or None,
            files=files,
        )

    def _budget(self, loop: Loop) -> dict[str, float]:
        """Return the rounding of widths, and the ratio reached if it is less than asked for.

        A latency is measured, and the ratio reached is printed and returned in any case.
        """
        if not isinstance(self.spec, RunSpec):
            return {}
        rounding = loop.method.options.round_to
        found: dict[str, float] = {"round_to": rounding} if rounding > 1 else {}
        if self.spec.ratio_kind == "latency" and loop.run.latency is not None:
            assert self.spec.ratio is not None
            timed = latency_reached(
                loop.run,
                loop.run.latency.table,
                1 - self.spec.ratio,
                has_rounded_widths=rounding > 1,
            )
            self.progress.say(f"{'latency':<10} {timed.words()} · {self.folder}")
            return found | timed.figures()
        reached = missed_ratio(loop.method, loop.run, self.spec.budget)
        if reached is None:
            return found
        self.progress.say(
            f"{'ratio':<10} {reached:.4g} reached, {self.spec.ratio:g} of {self.spec.ratio_kind} "
            f"asked for · {self.folder}"
        )
        return {"ratio_reached": reached}


def _masked_accuracy(history: list[HistoryRow], plans: list[PlanResult]) -> float | None:
    """Return the accuracy of the masked dense network if a removal ended the training."""
    if not plans or not history or history[-1].event != "pruned" or len(history) == 1:
        return None
    return plans[-1].test_accuracy_before


def _kept_units(folder: Path) -> dict[str, Tensor]:
    """Return the kept units of a finished run, by group."""
    groups = read_structure(folder).groups
    return {name: torch.tensor(group.kept) for name, group in groups.items()}


def _peak_memory_mb() -> int:
    """Return the peak host memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def versions() -> dict[str, str]:
    """Return the versions of Python, of CUDA and of the packages that compute results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda and torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
    return found


def commit() -> str | None:
    """Return the commit of the sources, with "+" if they have changed since; None without git."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            [*command, "--dirty=+"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
