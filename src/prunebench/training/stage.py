"""The two training stages: base networks and runs, from a specification to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.core.errors import ResultError
from prunebench.core.files import read_json, write_json
from prunebench.core.phases import Budget
from prunebench.core.spec import BaseSpec, RunSpec, data_path
from prunebench.data.stage import load
from prunebench.measure.network import load_network, read_structure, save_network, structure_of
from prunebench.methods.base import Method, MethodOptions
from prunebench.methods.registry import method_class
from prunebench.methods.unpruned import Base
from prunebench.models.registry import build
from prunebench.training.checkpoint import CheckpointFile
from prunebench.training.device import claimed_device
from prunebench.training.lock import only_writer
from prunebench.training.loop import Loop
from prunebench.training.progress import Progress
from prunebench.training.result import is_finished, training_result
from prunebench.training.run import RunState
from prunebench.training.seeds import derived_seed, seeded
from prunebench.training.stop import listening


def train_base(
    spec: BaseSpec, results: Path, *, device: str, checkpoint_seconds: float, progress: Progress
) -> dict[str, Any]:
    """Train a base network below `results`; return its training.json."""
    method = Base(MethodOptions())
    phases = method.phases({"base": spec.recipe}, Budget(kind="auto", ratio=None))
    stage = _Stage(spec, spec, method, phases, results, device, checkpoint_seconds, progress)
    return stage.run(None, None)


def train_run(
    spec: RunSpec, results: Path, *, device: str, checkpoint_seconds: float, progress: Progress
) -> dict[str, Any]:
    """Run a method on a base network below `results`; return its training.json.

    ResultError where the base network, or the run whose widths are taken over, is missing or of
    another specification.
    """
    found = method_class(spec.method)
    method = found(found.Options.model_validate(spec.options))
    phases = method.phases(spec.recipes, spec.budget)
    base = None if spec.start == "fresh" else _base_result(spec, results)
    widths = None if spec.widths_from is None else results / spec.widths_from
    stage = _Stage(spec, spec.base, method, phases, results, device, checkpoint_seconds, progress)
    return stage.run(base, widths)


class _Stage:
    """What both stages do: lock, start or resume, train, write."""

    def __init__(
        self,
        spec: BaseSpec | RunSpec,
        base: BaseSpec,
        method: Method[Any],
        phases: list[Any],
        results: Path,
        device: str,
        checkpoint_seconds: float,
        progress: Progress,
    ) -> None:
        self.spec, self.base, self.method, self.phases = spec, base, method, tuple(phases)
        self.results, self.folder = results, results / spec.path
        self.device, self.checkpoint_seconds, self.progress = device, checkpoint_seconds, progress

    def run(self, base: dict[str, Any] | None, widths: Path | None) -> dict[str, Any]:
        """Train unless the result is there; `base` is the base network's training.json."""
        base_hash = None if base is None else base["weights_sha256"]
        with only_writer(self.folder, self.progress.say):
            if is_finished(self.folder, self.spec.hash, base_hash):
                self.progress.say(f"{self.folder}: finished already")
            else:
                if base is not None:
                    self._say_base(base)
                self._train(base_hash, widths)
            result: dict[str, Any] = read_json(self.folder / "training.json")
        return result

    def _train(self, base_hash: str | None, widths: Path | None) -> None:
        torch.set_num_threads(self.spec.threads)
        with claimed_device(self.device) as device, listening() as stop:
            run = self._new_run(device, base_hash, widths)
            checkpoint = CheckpointFile(
                self.folder,
                f"{self.spec.hash} {base_hash}",
                self.checkpoint_seconds,
                self.progress.say,
            )
            loop = Loop(
                run,
                self.method,
                progress=self.progress,
                stop=stop,
                checkpoint=checkpoint,
            )
            with seeded(derived_seed(self.spec.seed, "run")):
                loop.train()
            self._write(loop, base_hash)
            checkpoint.remove()

    def _new_run(
        self, device: torch.device, base_hash: str | None, widths: Path | None
    ) -> RunState:
        dataset = load(data_path(self.results, self.spec.dataset), device)
        run = RunState(
            seed=self.spec.seed,
            device=device,
            dataset=dataset,
            build=self._builder(dataset.info.num_classes, dataset.info.shape[0]),
            phases=self.phases,
            base_recipe=self.base.recipe,
            source_kept=None if widths is None else _kept_units(widths),
            grouped=self.method.options.grouped,
        )
        run.start_from(run.build() if base_hash is None else load_network(self._base_folder))
        return run

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

    def _write(self, loop: Loop, base_hash: str | None) -> None:
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
            "base_hash": base_hash,
            "weights_sha256": weights,
            **training_result(loop),
            "spec": self.spec.model_dump(mode="json"),
        }
        write_json(self.folder / "training.json", result)
        self.progress.say(f"{'test':<10} {result['top1']:.2f} % · {self.folder}")


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
