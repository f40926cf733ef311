"""The training loop: one phase after the other, for every method."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from prunebench.core.errors import RunStoppedError, TrainingError
from prunebench.criteria.base import Needs
from prunebench.experiments.phases import Budget, Epochs, Phase, is_past
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.results import HistoryRow, PlanResult
from prunebench.measure.precision import arithmetic
from prunebench.methods.base import Method, check_plan
from prunebench.training.batches import (
    Batching,
    images_per_epoch,
    portion,
    steps_per_epoch,
)
from prunebench.training.checkpoint import CheckpointFile, StopRequest, pack, unpack, unpacked_sums
from prunebench.training.cuda import PhaseStep, Recorder, within_memory
from prunebench.training.optimizer import Moments, Optimizer
from prunebench.training.processes import synchronized
from prunebench.training.progress import Progress
from prunebench.training.pruning import apply_plan
from prunebench.training.recalibration import batch_size, recalibrate
from prunebench.training.run import RunState
from prunebench.training.step import Sums
from prunebench.training.task import Batches


class Loop:
    """Trains a run by the phases of its method.

    Parameters
    ----------
    checkpoint
        None: the run is never saved.
    recorder
        Captures the step of a phase, to be replayed; None: every step is eager.
    more_parts
        Factor to every recipe's accumulation, used if memory is short.
    """

    def __init__(
        self,
        run: RunState,
        method: Method[Any],
        *,
        progress: Progress,
        stop: StopRequest,
        checkpoint: CheckpointFile | None = None,
        recorder: Recorder | None = None,
        more_parts: int = 1,
    ) -> None:
        self.run, self.method, self.progress, self.stop = run, method, progress, stop
        self.checkpoint, self.parallel = checkpoint, run.parallel
        self.recorder, self.more_parts = recorder, more_parts
        self.moments = Moments()  # of the previous phase, for `optimizer: carry`
        self.sums = Sums.zero(run.device)
        self.per_epoch = 1
        self.since = self.row_since = time.perf_counter()

    def train(self) -> None:
        """Run all phases, from the checkpoint if there is one."""
        resumed = self.parallel.from_first(self.checkpoint.read) if self.checkpoint else None
        if resumed is not None:
            unpack(resumed, self.run, self.method)
            self.moments = Moments(**resumed["moments"])
            self.sums = unpacked_sums(resumed, self.run.device, self.parallel)
            self.progress.say(f"continues in phase {self.run.phase.name} at step {self.run.clock}")
        else:
            self._check_reach()
        self.since = self.row_since = time.perf_counter()
        while self.run.index < len(self.run.phases):
            phase = self.run.phase
            if not self.run.begun:
                self.begin(phase)
            if phase.recipe is not None:
                synced = phase.recipe.sync_batch_norm and self.parallel.world > 1
                with synchronized(self.run.model, self.run.device, asked=synced):
                    self.train_phase(phase)
            if phase.then is not None:
                self.prune(phase, phase.then)
            if phase.recalibrate:
                self.recalibrate(phase)
            self._spend(phase)
            following = self.method.next_phase(self.run, self.run.index)
            self.run.go_to(len(self.run.phases) if following is None else following)
            self.run.begun = False

    def _check_reach(self) -> None:
        """Raise TrainingError, before any training, if no network meets the last budget."""
        budgets = [phase.then for phase in self.run.phases if phase.then is not None]
        if budgets:
            self.method.check_reach(self.run, budgets[-1])

    def begin(self, phase: Phase) -> None:
        """Set network, clock and method state for the start of a phase."""
        run = self.run
        if phase.start == "fresh":
            run.restart()
        elif phase.start != "current":
            if phase.start not in run.slots:
                raise TrainingError(f"phase {phase.name!r} starts from {phase.start!r}: none kept")
            run.restore(run.slots[phase.start])
        if phase.optimizer == "new":
            self.moments = Moments()
        if phase.clock == "new":
            run.clock = run.epoch = 0
        self.sums.reset()
        if phase.recipe is not None:
            self._check_batches(phase.name, phase.recipe.batch_size)
            run.records.epochs_before = run.records.epochs_trained
        self._measure_phase(phase)
        self.method.before_phase(run)
        run.begun = True

    def _check_batches(self, phase: str, batch_size: int) -> None:
        """Say if a batch is larger than the training data; TrainingError if these are no batch."""
        images, name = len(self.run.dataset.train), self.run.dataset.info.name
        if images < 2:
            raise TrainingError(
                f"phase {phase!r}: {name} has {images} training images, at least 2 are needed for "
                "batch norm"
            )
        if images < batch_size:
            self.progress.say(
                f"phase {phase!r}: batch_size is {batch_size}, but {name} has {images} training "
                "images: every step takes all of them"
            )

    def train_phase(self, phase: Phase) -> None:
        """Train to the end of the phase, from its start or from the state of a checkpoint."""
        run, method, recipe = self.run, self.method, self.run.recipe
        end = self._measure_phase(phase)
        set_modes(run.model, recipe)
        freeze(run.params, recipe)
        optimizer = Optimizer(run.params, recipe, self.moments)
        step, batching = self._make_step(optimizer), self._batching()
        # After the first passes of DistributedDataParallel, which no hook may see.
        handles = self._attach(phase)
        interval = method.interval.steps(self.per_epoch) if method.interval else 1
        stretch = recipe.epochs / run.epochs if recipe.epochs else 1.0
        known = recipe.epochs or run.epochs
        batches = None
        self.progress.phase(phase.name, end, run.clock)
        with arithmetic(run.device, "tf32" if recipe.precision == "tf32" else "fp32"):
            while run.clock < end:
                self._save_if_asked(optimizer)
                if "decide" in phase.hooks and run.clock % interval == 0:
                    method.decide(run)
                    step.may_have_changed = True
                    if phase.until_finished and self._is_finished():
                        break
                run.epoch, position = divmod(run.clock, self.per_epoch)
                if batches is None or position == 0:
                    batches = self._draw(batching)
                lr = recipe.lr_at(run.clock / self.per_epoch * stretch, known, run.clock)
                optimizer.set_lr(lr)
                with within_memory(run):
                    inputs, targets = batches.chunk(position)
                    step(inputs, targets, batching.portion(position, len(targets)), self.sums)
                run.clock += 1
                if run.clock % self.per_epoch == 0:
                    self._end_epoch(phase, lr)
                    step.may_have_changed = True
                self.progress.step(run.clock)
            else:
                if phase.until_finished:
                    run.records.capped.append(phase.name)
            if self.parallel.any_of([self.sums.images])[0]:
                self._end_epoch(phase, lr=float(optimizer.lr))
        run.records.flush(phase.name)
        for handle in handles:
            handle.remove()
        self.moments = optimizer.moments
        for parameter in run.params.values():
            parameter.requires_grad_(True)

    def _make_step(self, optimizer: Optimizer) -> PhaseStep:
        """Return the step of a phase: compiled, in several processes, captured, as configured."""
        run = self.run
        # Each shape is compiled by itself: full batches, and the last one of an epoch.
        forward = torch.compile(run.model, dynamic=False) if run.recipe.compile else run.model
        part, _ = self._batching().portion(0).parts[0]
        shape, memory_format = run.dataset.info.shape, run.memory_format
        example = torch.zeros(part.stop - part.start, *shape, device=run.device)
        example = example.contiguous(memory_format=memory_format)
        network = self.parallel.network(
            run.model, forward, lambda called: run.task.rehearsal(called, example)
        )
        recorder = self.recorder if run.task.is_captured else None
        return PhaseStep(run, self.method, optimizer, network, recorder)

    def _attach(self, phase: Phase) -> list[RemovableHandle]:
        """Let the method attach its hooks to the network; TrainingError if the step breaks them."""
        if "attach" not in phase.hooks:
            return []
        handles = self.method.attach(self.run)
        who = f"phase {phase.name!r}: {type(self.method).__name__} hooks into forward passes"
        is_whole = self._parts == 1 and self.parallel.world == 1
        if handles and not (is_whole or self.method.sees_parts):
            raise TrainingError(
                f"{who} and does not declare that its hooks work on parts of a batch (sees_parts): "
                "it needs accumulation 1 and one process"
            )
        if handles and self.run.recipe.compile and self.parallel.world > 1:
            # The first passes of DistributedDataParallel have compiled the network without hooks.
            raise TrainingError(
                f"{who}, which cannot be compiled in several processes: it needs compile: false"
            )
        return handles

    @property
    def _parts(self) -> int:
        """Return the number of passes per batch and process."""
        return self.run.recipe.accumulation * self.more_parts

    def _is_finished(self) -> bool:
        found = self.method.finished(self.run)
        return self.parallel.from_first(lambda: found)

    def prune(self, phase: Phase, budget: Budget) -> None:
        """Select for the budget, remove, and record the accuracy before and after."""
        run, method = self.run, self.method
        before_val, before_test = run.accuracies()
        run.saved_seconds, started = 0.0, time.perf_counter()
        selected = method.select(run, budget)
        plan = self.parallel.from_first(lambda: selected)
        seconds = time.perf_counter() - started + run.saved_seconds
        check_plan(method, run.graph, run.params, plan)
        applied = apply_plan(run, plan)
        self.moments = self.moments.sliced(applied.before.cuts)
        method.after_removal(run, plan, applied.before)
        val, test = self._record(phase, "pruned")
        run.records.plans.append(
            PlanResult(
                phase=phase.name,
                val_accuracy_before=before_val,
                test_accuracy_before=before_test,
                val_accuracy_after=val,
                test_accuracy_after=test,
                macs=run.costs.macs(),
                params=run.costs.params(),
                selection_seconds=seconds,
                masked_removed_difference=applied.difference,
            )
        )
        self.progress.pruned(applied.units, run.base_macs, run.costs.macs(), applied.difference)

    def recalibrate(self, phase: Phase) -> None:
        """Estimate the statistics of batch norm again, and record the accuracy after it.

        Every process does the same on the same images.
        """
        run = self.run
        images = min(phase.recalibrate, len(run.dataset.train))
        samples = run.samples(Needs(samples=images, batch=batch_size(images)))
        recalibrate(run.model, (inputs for inputs, _ in samples))
        self._record(phase, "recalibrated")
        self.progress.say(f"{'statistics':<10} of batch norm estimated on {images} images")

    def _record(self, phase: Phase, event: str) -> tuple[float | None, float | None]:
        """Evaluate, record a row of an event, and return the percentages on val and test split."""
        run = self.run
        val, test = run.accuracies()
        run.records.flush(phase.name)
        run.records.history.append(
            HistoryRow(
                phase=phase.name,
                epoch=math.ceil(run.clock / self.per_epoch),
                step=run.clock,
                val_accuracy=val,
                test_accuracy=test,
                macs=run.costs.macs(),
                seconds=self._lap(),
                event=event,
            )
        )
        return val, test

    def _measure_phase(self, phase: Phase) -> int:
        """Set the length of the phase and of its epochs; return the number of its steps."""
        if phase.recipe is None:
            self.per_epoch, self.run.epochs = 1, 0.0
            return 0
        length = self.method.phase_length(self.run, phase)
        self.per_epoch = steps_per_epoch(len(self.run.dataset.train), phase.recipe.batch_size)
        end = length.steps(self.per_epoch)
        self.run.epochs = length.n if isinstance(length, Epochs) else end / self.per_epoch
        if phase.recipe.max_steps is not None and end > (most := self._most_steps(phase.recipe)):
            end, self.run.epochs = most, most / self.per_epoch
        return end

    def _most_steps(self, recipe: Recipe) -> int:
        """Return the step at which the current phase of a trial ends at the latest.

        Each of the phases that share a clock adds as many steps.
        """
        assert recipe.max_steps is not None
        sharing = 1
        for phase, before in itertools.pairwise(reversed(self.run.phases[: self.run.index + 1])):
            if phase.clock == "new":
                break
            sharing += before.recipe is not None
        return sharing * recipe.max_steps

    def _batching(self) -> Batching:
        """Return the division of an epoch into batches and this process's portions."""
        portions = partial(
            portion,
            accumulation=self._parts,
            rank=self.parallel.rank,
            world=self.parallel.world,
        )
        return Batching(len(self.run.dataset.train), self.run.recipe.batch_size, portions)

    def _draw(self, batching: Batching) -> Batches:
        run = self.run
        reading = run.reading("epoch", run.epoch)
        return run.task.batches(run.dataset.train, run.recipe.augment, reading, batching)

    def _end_epoch(self, phase: Phase, lr: float) -> None:
        """End an epoch: call the method's hook, evaluate, and record a row and diagnostics."""
        run, records = self.run, self.run.records
        if "after_epoch" in phase.hooks:
            self.method.after_epoch(run)
        images = int(self.parallel.total(torch.tensor(self.sums.images, device=run.device)))
        loss = float(self.parallel.total(self.sums.loss)) / images
        if not math.isfinite(loss):
            raise TrainingError(
                f"phase {phase.name!r}, epoch {run.epoch + 1}: the loss is {loss}; "
                f"a smaller learning rate than {run.recipe.lr} may help"
            )
        val, test = run.accuracies()
        row = HistoryRow(
            phase=phase.name,
            epoch=run.epoch + 1,
            step=run.clock,
            lr=lr,
            train_loss=loss,
            train_accuracy=self._train_accuracy(images),
            val_accuracy=val,
            test_accuracy=test,
            macs=run.costs.macs(),
            seconds=self._lap(),
            reportable=_is_reportable(phase, run.epoch, run.epochs),
        )
        if phase.keep_best and val is not None:
            # An earlier phase may have the same name: only the epochs of this one count.
            own = records.history[-run.epoch :] if run.epoch else []
            before = [r.val_accuracy or 0.0 for r in own if r.phase == phase.name and not r.event]
            if val > max(before, default=-1.0):
                run.keep("best")
        records.history.append(row)
        batch_size = run.recipe.batch_size
        records.epochs_trained += images / images_per_epoch(len(run.dataset.train), batch_size)
        records.flush(phase.name)
        self.sums.reset()
        self.progress.epoch(row)

    def _train_accuracy(self, images: int) -> float | None:
        """Return the percentage of correct predictions in the epoch; None if none are counted."""
        if not self.run.task.counts_correct:
            return None
        return 100.0 * int(self.parallel.total(self.sums.correct)) / images

    def _spend(self, phase: Phase) -> None:
        """Add the time since the last call to the time of the phase."""
        now = time.perf_counter()
        self.run.records.spend(phase.name, now - self.since)
        self.since = now

    def _lap(self) -> float:
        """Return the seconds since the previous row of the history."""
        now = time.perf_counter()
        lap, self.row_since = now - self.row_since, now
        return round(lap, 4)

    def _save_if_asked(self, optimizer: Optimizer) -> None:
        """Save if a signal or the interval asks for it, and stop if a signal does."""
        if self.run.clock % self.parallel.agree_every:
            return
        due = self.stop.take_save() or (self.checkpoint is not None and self.checkpoint.is_due())
        save, number = self.parallel.any_of([due, self.stop.signal or 0])
        if self.checkpoint is not None and save:
            self._spend(self.run.phase)
            content = pack(self.run, self.method, optimizer, self.sums, self.parallel)
            if self.parallel.rank == 0:
                self.checkpoint.write(content)
            self.checkpoint.written_at = time.monotonic()
            self.parallel.wait()
        if number:
            raise RunStoppedError(number, self.run.phase.name, self.run.clock)


def set_modes(model: nn.Module, recipe: Recipe) -> None:
    """Put a network into training mode, but batch norm with frozen statistics into evaluation mode.

    Its weights and biases are trained in either mode.
    """
    model.train()
    if recipe.norm_statistics == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def freeze(params: Mapping[str, nn.Parameter], recipe: Recipe) -> None:
    """Let the parameters that a recipe names `frozen` have no gradient.

    TrainingError for a pattern that no parameter has.
    """
    for pattern in recipe.frozen:
        names = [name for name in params if fnmatchcase(name, pattern)]
        if not names:
            raise TrainingError(f"frozen: no parameter is named {pattern!r}")
        for name in names:
            params[name].requires_grad_(False)


def _is_reportable(phase: Phase, epoch: int, epochs: float) -> bool:
    """Whether the accuracy after `epoch` (from 0) may be a result; that of the last epoch may.

    >>> soft = Phase(name="train", reportable_from=0.95)
    >>> _is_reportable(soft, 189, 200), _is_reportable(soft, 190, 200), _is_reportable(soft, 9, 10)
    (False, True, True)
    """
    return phase.reportable_from is not None and is_past(phase.reportable_from, epoch, epochs)
