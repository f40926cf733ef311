"""One call of `prune`: the checked arguments, and what they do to a copy of the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import nn

from prunebench.channels.examples import Example, arguments
from prunebench.channels.verify import verify
from prunebench.core.errors import ConfigError, ModelError, RemovalError, shown
from prunebench.data.normalization import Normalization
from prunebench.experiments.phases import Budget, Phase
from prunebench.methods.base import Method, MethodOptions
from prunebench.network import GroupStructure
from prunebench.own_network.largest_ratio import largest_ratio
from prunebench.own_network.loaded_batches import (
    Loader,
    Loss,
    OwnBatches,
    batches_in,
    check_labels,
)
from prunebench.own_network.own_run import Evaluate, OwnRun, placed_beside, scorable_copy
from prunebench.own_network.own_trace import OwnTrace, trace_own
from prunebench.own_network.own_training import run_phases
from prunebench.own_network.pruned import Change, Pruned, PrunedGroup, composed
from prunebench.own_network.pruned_files import check_classes, structure_for
from prunebench.own_network.target import Target, achieved, asked_for, check_reach, most_ratio
from prunebench.own_network.training_plan import Training, fitted, frozen_names
from prunebench.own_network.whole_groups import check_ratios, kept_whole
from prunebench.training.checkpoint import StopRequest
from prunebench.training.loop import Loop
from prunebench.training.progress import SilentProgress
from prunebench.training.recalibration import recalibrate
from prunebench.training.shared import Shared

EVERY_LAYER = ("grasp", "group_fisher", "mask_fisher")  # they differentiate layers that must run
RECALIBRATED = 2048  # images, rounded up to a batch: as many as 16 batches of 128


@dataclass
class PruneCall:
    """The arguments of `prune`, whose docstring describes them.

    Attributes
    ----------
    training
        None: nothing is trained.
    given
        Options of the method that the user has set.
    whole
        Group name to reason, for groups that keep all units.
    traced
        Of a copy of the network whose parameters all require a gradient.
    shared
        Scores of the given network, which several ratios share.
    """

    model: nn.Module
    example: Example
    name: str
    kind: type[Method[Any]]
    options: MethodOptions
    keep: Sequence[str] = ()
    data: Loader | None = None
    loss: Loss | None = None
    recalibrate: Loader | None = None
    evaluate: Evaluate | None = None
    training: Training | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    normalization: Normalization | None = None
    classes: Sequence[str] = ()
    whole: dict[str, str] = field(init=False)
    traced: OwnTrace = field(init=False)
    shared: Shared = field(default_factory=Shared)

    def __post_init__(self) -> None:
        if isinstance(self.keep, str):
            raise ConfigError(f"keep: {self.keep!r} is one text; give a list of patterns")
        if not isinstance(self.model, nn.Module):
            raise ConfigError(f"model: {shown(self.model)} is no torch.nn.Module")
        self.example = placed_beside(self.model, self.example)
        self.classes = check_classes(self.model, self.example, self.classes)
        scored = scorable_copy(self.model)
        self.traced = trace_own(scored, self.example, grouped=self.options.grouped)
        self.whole = kept_whole(self.model, self.traced.graph, self.keep)
        check_ratios(self.traced.graph.with_frozen(self.whole), self.options.layer_ratios)
        if self.traced.skipped and self.name in EVERY_LAYER:
            first = self.traced.skipped[0].rpartition(".")[0]
            raise ConfigError(
                f"{self.name} computes gradients of every layer in evaluation, but {first!r} runs "
                "in training alone; remove such layers from the network first"
            )
        method = self.kind(self.options)
        if method.starts_from() == "fresh":
            raise ConfigError(
                f"{self.name} starts from fresh weights; prune starts from those of the network"
            )
        if self.training is None and method.needed_roles():
            raise ConfigError(f"{self.name} trains: give data=, a loader, and epochs=")
        if self.training is not None and self.data is None:
            raise ConfigError("epochs: training needs data=, a loader of (inputs, targets)")

    def pruned(self, target: Target) -> Pruned:
        """Prune; if a removal changes the outputs, find the groups at fault and leave them whole.

        A few uses of a number of channels in `forward` are found by comparing outputs alone.
        """
        if self.training is not None:  # training is too long to be repeated
            self.whole |= self._broken()
        try:
            return self._pruned(target)
        except RemovalError:
            broken = self._broken()
            if not broken:
                raise
            self.whole |= broken
            return self._pruned(target)

    def _broken(self) -> dict[str, str]:
        """Return the groups whose removal changes the outputs, with the difference in words."""
        own = self.traced
        report = verify(self.model, own.example, grouped=self.options.grouped, modes=own.modes)
        return {name: why for name, why in report.broken.items() if name not in self.whole}

    def within(self, target: Target, max_drop: float) -> Pruned:
        """Prune as much as the accuracy allows, at most to the target's ratio if it has one."""
        if self.evaluate is None:
            raise ConfigError("max_drop: it needs evaluate=, a function from a network to a number")
        if self.training is not None:
            raise ConfigError("max_drop: it compares networks without training; remove epochs")
        if not max_drop >= 0:
            raise ConfigError(f"max_drop: {max_drop} is not a drop of at least 0")
        assert self.before is not None
        method, run = self.begin()
        most = target.ratio if target.ratio is not None else most_ratio(method, run, target)
        return largest_ratio(
            lambda ratio: self.pruned(Target(target.kind, ratio)),
            most,
            before=self.before,
            max_drop=max_drop,
            is_limit=target.ratio is not None,
        )

    def begin(self) -> tuple[Method[Any], OwnRun]:
        """Return the method without any state, and a run over a copy of the network."""
        method = self.kind(self.options)
        run = OwnRun.of(
            self.model,
            self.example,
            data=self.data,
            batch_size=0 if self.training is None else self.batch_size,
            loss=self.loss,
            evaluate=self.evaluate,
            seed=self.seed,
            grouped=self.options.grouped,
            whole=self.whole,
            shared=self.shared,
            graph=self.traced.graph,
        )
        if not method.candidates(run):
            raise ModelError(
                "no group of channels can be pruned; `prunebench.trace` says why each is frozen"
            )
        return method, run

    def _pruned(self, target: Target) -> Pruned:
        method, run = self.begin()
        if method.needs_labels():
            check_labels(*run.given_split.given.first())
        check_reach(method, run, target)
        budget = asked_for(method, run, target)
        method, run.phases = self._phases(method, budget)
        run.go_to(0)
        if self.training is None:
            Loop(run, method, progress=SilentProgress(), stop=StopRequest()).train()
        else:
            own = self.training
            run_phases(method, run, folder=own.checkpoint, quiet=own.quiet)
        if self.recalibrate is not None:
            recalibrate(run.model, self._first_images(self.recalibrate, run))
        return self._described(method, run, target)

    def _phases(self, method: Method[Any], budget: Budget) -> tuple[Method[Any], tuple[Phase, ...]]:
        """Return the method and its phases; ConfigError if the options do not go together."""
        if self.training is None:
            try:
                return method, tuple(method.phases({}, budget))
            except ValueError as error:
                raise ConfigError(f"{self.name}: {error}") from None
        assert self.data is not None
        return fitted(
            self.kind,
            self.options,
            budget,
            self.training,
            name=self.name,
            batch_size=self.batch_size,
            per_epoch=batches_in(self.data),
            frozen=frozen_names(self.model),
            given=self.given,
        )

    @cached_property
    def batch_size(self) -> int:
        """Return the number of images in the loader's first batch."""
        device = torch.device("cpu")
        assert self.data is not None
        return len(OwnBatches(self.data, len(arguments(self.example)), device).first()[0])

    def _first_images(self, loader: Loader, run: OwnRun) -> Any:
        """Return the inputs of as many batches as hold enough images."""
        batches = OwnBatches(loader, len(arguments(run.given)), run.device)
        return islice(batches.inputs(), max(1, -(-RECALIBRATED // batches.size())))

    def evaluated(self, model: nn.Module) -> float | None:
        """Return the user's accuracy of a copy of a network, in evaluation mode."""
        if self.evaluate is None:
            return None
        return as_number(self.evaluate(copy.deepcopy(model).eval()))

    def _described(self, method: Method[Any], run: OwnRun, target: Target) -> Pruned:
        first = run.first_graph
        groups = tuple(
            PrunedGroup(name, first.groups[name].role, run.sizes[name], kept)
            for name, kept in run.kept.items()
        )
        model = finished(run.model, self.model)
        stored = {
            name: GroupStructure(units=units, kept=tuple(left.tolist()))
            for name, (units, left) in composed(self.model, groups).items()
        }
        vars(model).update(first_groups=stored)
        differences = [plan.masked_removed_difference for plan in run.records.plans]
        before, after = self.before, self.evaluated(model)
        return Pruned(
            model=model,
            method=self.name,
            asked=str(target),
            requested=target.ratio,
            achieved=achieved(method, run, target),
            groups=groups,
            frozen={name: group.frozen for name, group in first.frozen.items()},
            macs=Change(run.base_macs, run.costs.macs()),
            params=Change(run.base_params, run.costs.params()),
            rows=tuple(run.records.history),
            masks={name: mask.cpu() for name, mask in run.masks.items()},
            deviation=max((d for d in differences if d is not None), default=None),
            accuracy=None if before is None or after is None else Change(before, after),
            example=arguments(run.given),
            structure=structure_for(
                model,
                run.given,
                stored,
                grouped=self.options.grouped,
                normalization=self.normalization,
                classes=self.classes,
            ),
        )

    @cached_property
    def before(self) -> float | None:
        """Return the accuracy of the given network by the user's evaluation."""
        return self.evaluated(self.model)


def as_number(accuracy: Any) -> float:
    """Return what the user's evaluation returned as a number; ConfigError if it is none."""
    try:
        number = float(accuracy)
    except (TypeError, ValueError):
        raise ConfigError(
            f"evaluate: it must return a number, not {type(accuracy).__name__}"
        ) from None
    if number != number:
        raise ConfigError("evaluate: it has returned nan")
    return number


def finished(model: nn.Module, given: nn.Module) -> nn.Module:
    """Return the pruned network in evaluation mode; as many parameters are trained as were."""
    trained = {name: p.requires_grad for name, p in given.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
        parameter.grad = None
    return model.eval()
