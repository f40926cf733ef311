"""One writer per run folder.

What a finished run writes: training.json beside its network and its history.

The two training stages: base networks and runs, from a specification to files.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from prunebench.core.errors import ResultError, TrainingError
from prunebench.core.files import read_json, remove_leftovers, write_json
from prunebench.data.dataset import load
from prunebench.data.random_state import seeded
from prunebench.experiments.machine import Machine
from prunebench.experiments.phases import Budget, Phase
from prunebench.experiments.resolved import PACKAGE
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.methods.base import Method, MethodOptions
from prunebench.methods.controls import Base
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.network import (
    MODEL_FILE,
    file_hash,
    load_network,
    read_structure,
    save_network,
    structure_of,
)
from prunebench.training.checkpoint import CheckpointFile, StopRequest, listening
from prunebench.training.cuda import CudaGraphs, MemoryShortError, deterministic
from prunebench.training.loop import Loop
from prunebench.training.pretrained import check_accuracy, load_pretrained
from prunebench.training.processes import (
    Alone,
    claimed_device,
    is_first_process,
    processes,
    started_by_torchrun,
)
from prunebench.training.progress import Progress, SilentProgress
from prunebench.training.run import RunState, derived_seed


@contextmanager
def only_writer(folder: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the folder's lock; yield whether another process held it before.

    The operating system gives the lock of a dead process back, so a second one takes over at
    once from a dead first, and waits for a living one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    waited = False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waited = True
        say(f"{folder}: another process writes this run; waiting for it to end")
        lock.acquire()
    try:
        yield waited
    finally:
        lock.release()


PACKAGES = ("prunebench", "torch", "numpy", "scikit-learn")


def training_result(loop: Loop) -> dict[str, Any]:
    """Return the accuracies and what the run cost; None where there is no such number.

    `top1` is of the network as it is at the end. The best ones are taken over the end and all
    epochs that may be reported; papers that print the best epoch on the test split are compared
    with `top1_best_test`. `top1_masked` is of the dense network with zeros, where nothing was
    trained after the last plan.
    """
    records = loop.run.records
    val, test = loop.accuracies()
    rows = [row for row in records.history if row.get("reportable")]
    ends = [*rows, {"val_top1": val, "test_top1": test}]
    best_val = None if val is None else max(reversed(ends), key=lambda row: row["val_top1"])
    return {
        "top1": test,
        "val_top1": val,
        "top1_best_val": None if best_val is None else best_val["test_top1"],
        "top1_best_test": max(row["test_top1"] for row in ends),
        "top1_masked": _masked_top1(records.history, records.plans),
        "epochs": round(records.epochs_trained, 6),
        "seconds": {name: round(s, 3) for name, s in records.seconds.items()},
        "selection_seconds": sum(plan["selection_seconds"] for plan in records.plans),
        "summary": loop.method.figures(),
        "capped": records.capped,
        "masked_removed_difference": _largest(
            plan["masked_removed_difference"] for plan in records.plans
        ),
        "plans": records.plans,
        "resumed_at": records.resumed_at,
        "peak_memory_mb": _peak_memory_mb(),
        "device": _device_name(loop.run.device),
        "threads": torch.get_num_threads(),
        "processes": loop.parallel.world,
        "more_parts": loop.more_parts,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "data_sha256": loop.run.dataset.sha256,
        "versions": versions(),
        "commit": commit(),
    }


def _masked_top1(history: list[dict[str, Any]], plans: list[dict[str, Any]]) -> float | None:
    if not plans or not history or history[-1]["event"] != "pruned" or len(history) == 1:
        return None
    top1: float = plans[-1]["test_top1_before"]
    return top1


def _largest(differences: Iterable[float | None]) -> float | None:
    return max((d for d in differences if d is not None), default=None)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _peak_memory_mb() -> int:
    """Return the most memory of the host that this process has had; of this call, if resumed."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
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
    """Return the commit of the sources, with "+" where they were changed since; None elsewhere."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            [*command, "--dirty=+"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def is_finished(folder: Path, spec_hash: str, base_hash: str | None) -> bool:
    """Whether the folder holds the whole result of this specification and base network."""
    try:
        training = read_json(folder / "training.json")
        found = [training[key] for key in ("spec_hash", "base_hash", "weights_sha256")]
        return found == [spec_hash, base_hash, file_hash(folder / MODEL_FILE)]
    except (ResultError, KeyError, TypeError):
        return False


PLAIN = Machine()


def train_base(
    spec: BaseSpec,
    results: Path,
    *,
    device: str,
    checkpoint_seconds: float,
    progress: Progress,
    machine: Machine = PLAIN,
) -> dict[str, Any]:
    """Train a base network below `results`, or take the weights its recipe names.

    Returns its training.json.
    """
    stage = _Stage(spec, spec, results, device, checkpoint_seconds, progress, machine)
    return stage.run(None, None)


def train_run(
    spec: RunSpec,
    results: Path,
    *,
    device: str,
    checkpoint_seconds: float,
    progress: Progress,
    machine: Machine = PLAIN,
) -> dict[str, Any]:
    """Run a method on a base network below `results`; return its training.json.

    ResultError where the base network, or the run whose widths are taken over, is missing or of
    another specification.
    """
    base = None if spec.start == "fresh" else _base_result(spec, results)
    widths = None if spec.widths_from is None else results / spec.widths_from
    stage = _Stage(spec, spec.base, results, device, checkpoint_seconds, progress, machine)
    return stage.run(base, widths)


def method_of(spec: BaseSpec | RunSpec) -> tuple[Method[Any], list[Phase]]:
    """Return a specification's method and its phases."""
    if isinstance(spec, RunSpec):
        found = method_class(spec.method)
        method = found(found.Options.model_validate(spec.options))
        return method, method.phases(spec.recipes, spec.budget)
    base = Base(MethodOptions())
    if spec.recipe.weights is not None:
        return base, []
    return base, base.phases({"base": spec.recipe}, Budget(kind="auto", ratio=None))


class _Stage:
    """What both stages do: lock, start or resume, train, write."""

    def __init__(
        self,
        spec: BaseSpec | RunSpec,
        base: BaseSpec,
        results: Path,
        device: str,
        checkpoint_seconds: float,
        progress: Progress,
        machine: Machine,
    ) -> None:
        self.spec, self.base, self.machine = spec, base, machine
        self.results, self.folder = results, results / spec.path
        self.device, self.checkpoint_seconds = device, checkpoint_seconds
        self.progress = progress if is_first_process() else SilentProgress()

    def run(self, base: dict[str, Any] | None, widths: Path | None) -> dict[str, Any]:
        """Train unless the result is there; `base` is the base network's training.json."""
        method_of(self.spec)  # what is wrong with its options is said before anything is locked
        first = is_first_process()
        with only_writer(self.folder, self.progress.say) if first else nullcontext():
            if not started_by_torchrun() and self._is_finished(base):
                self.progress.say(f"{self.folder}: finished already")
            else:
                self._train(base, widths)
            result: dict[str, Any] = read_json(self.folder / "training.json")
        return result

    def _is_finished(self, base: dict[str, Any] | None) -> bool:
        return is_finished(self.folder, self.spec.hash, _hash_of(base))

    def _train(self, base: dict[str, Any] | None, widths: Path | None) -> None:
        torch.set_num_threads(self.spec.threads)
        with (
            deterministic(self.machine.deterministic),
            claimed_device(self.device) as device,
            processes(device) as parallel,
            listening() as stop,
        ):
            if parallel.world > 1 and parallel.from_first(lambda: self._is_finished(base)):
                self.progress.say(f"{self.folder}: finished already")
                return
            attempt = partial(self._attempt, device, parallel, stop, base, widths)
            try:
                attempt(more_parts=1)
            except MemoryShortError as error:
                # Another process that still has memory would wait for this one.
                if not self.machine.auto_accumulate or parallel.world > 1:
                    raise
                self.progress.say(f"{error}; once more, with each batch in two parts")
            else:
                return
            if device.type == "cuda":
                torch.cuda.empty_cache()
            attempt(more_parts=2)

    def _attempt(
        self,
        device: torch.device,
        parallel: Alone,
        stop: StopRequest,
        base: dict[str, Any] | None,
        widths: Path | None,
        *,
        more_parts: int,
    ) -> None:
        if parallel.rank == 0:
            remove_leftovers(self.folder)
        method, phases = method_of(self.spec)
        run, pretrained = self._new_run(device, parallel, method, phases, base, widths)
        checkpoint = CheckpointFile(
            self.folder,
            f"{self.spec.hash} {_hash_of(base)}",
            self.checkpoint_seconds,
            self.progress.say,
        )
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
        if any(phase.recipe is not None and phase.recipe.compile for phase in phases):
            # PyTorch's own place is a temporary folder: shared by jobs of one machine only.
            os.environ.setdefault(
                "TORCHINDUCTOR_CACHE_DIR", str(self.results.resolve() / ".compiled")
            )
        with seeded(derived_seed(self.spec.seed, "run")):
            self._check_start(loop, base, pretrained)
            loop.train()
            if parallel.rank == 0:
                self._write(loop, base, pretrained)
                checkpoint.remove()
            else:
                loop.accuracies()  # the first process evaluates with all
            parallel.wait()

    def _check_start(
        self, loop: Loop, base: dict[str, Any] | None, pretrained: dict[str, Any] | None
    ) -> None:
        """Evaluate a network that was trained elsewhere or before, and compare."""
        if base is not None:
            self._say_base(base)
        if (base is None and pretrained is None) or not self.machine.check_base:
            return
        assert loop.checkpoint is not None
        if loop.parallel.from_first(loop.checkpoint.path.exists):
            return  # it was checked when the run began
        recipe, what = self.base.recipe, f"the base network {self.base.path}"
        _, top1 = loop.accuracies(recipe)
        check_accuracy(top1, recipe, what)
        if base is not None and abs(top1 - base["top1"]) > recipe.expected_within:
            raise TrainingError(
                f"{what} has {top1:.2f} % on the test split, and had {base['top1']:.2f} % when it "
                "was stored; train it again, or check_base: false goes on"
            )

    def _new_run(
        self,
        device: torch.device,
        parallel: Alone,
        method: Method[Any],
        phases: list[Phase],
        base: dict[str, Any] | None,
        widths: Path | None,
    ) -> tuple[RunState, dict[str, Any] | None]:
        """Return the run at its start, and where its weights come from if not trained here."""
        dataset = load(
            data_path(self.results, self.spec.dataset),
            device,
            workers=self.machine.reading_processes,
        )
        run = RunState(
            seed=self.spec.seed,
            device=device,
            dataset=dataset,
            build=self._builder(dataset.info.num_classes, dataset.info.shape[0]),
            phases=tuple(phases),
            base_recipe=self.base.recipe,
            source_kept=None if widths is None else _kept_units(widths),
            grouped=method.options.grouped,
            parallel=parallel,
        )
        model = run.build() if base is None else load_network(self._base_folder)
        pretrained = None
        if isinstance(self.spec, BaseSpec) and self.spec.recipe.weights is not None:
            pretrained = load_pretrained(model, self.spec.recipe, self.machine.data_dir)
        run.start_from(model)
        return run, pretrained

    def _builder(self, num_classes: int, in_channels: int) -> Callable[[], nn.Module]:
        def fresh() -> nn.Module:
            with seeded(derived_seed(self.spec.seed, "init")):
                return build(
                    self.spec.architecture, num_classes=num_classes, in_channels=in_channels
                )

        return fresh

    @property
    def _base_folder(self) -> Path:
        return self.results / self.base.path

    def _say_base(self, base: dict[str, Any]) -> None:
        self.progress.say(
            f"{'base':<10} {self.spec.architecture} · {self.spec.dataset} · {base['top1']:.2f} % "
            f"(seed {self.spec.seed}, {base['weights_sha256'][:8]})"
        )

    def _write(
        self, loop: Loop, base: dict[str, Any] | None, pretrained: dict[str, Any] | None
    ) -> None:
        """Write all files; training.json comes last, since it says that the others are whole."""
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
        )
        weights = save_network(self.folder, run.model, structure, run.masks)
        run.records.write(self.folder)
        result = {
            "spec_hash": self.spec.hash,
            "base_hash": _hash_of(base),
            "weights_sha256": weights,
            "pretrained": pretrained,
            **training_result(loop),
            "spec": self.spec.model_dump(mode="json"),
        }
        write_json(self.folder / "training.json", result)
        self.progress.say(f"{'test':<10} {result['top1']:.2f} % · {self.folder}")


def _hash_of(base: dict[str, Any] | None) -> str | None:
    return None if base is None else base["weights_sha256"]


def _base_result(spec: RunSpec, results: Path) -> dict[str, Any]:
    path = results / spec.base.path / "training.json"
    base: dict[str, Any] = read_json(path)
    if base.get("spec_hash") != spec.base.hash:
        raise ResultError(
            f"{path}: trained by the specification {base.get('spec_hash')}, expected "
            f"{spec.base.hash}; train the base network again"
        )
    return base


def _kept_units(folder: Path) -> dict[str, Tensor]:
    """Return the kept units of a finished run, by group."""
    groups = read_structure(folder).groups
    return {name: torch.tensor(group.kept) for name, group in groups.items()}
