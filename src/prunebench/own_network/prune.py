"""Prune a network of one's own in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from prunebench.channels.examples import Example, arguments
from prunebench.channels.groups import Grouping
from prunebench.channels.selections import GROUP_ROLES
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import verify
from prunebench.core.errors import ConfigError, ModelError, RemovalError
from prunebench.criteria.registry import criterion_class
from prunebench.data.normalization import Normalization
from prunebench.methods.allocation import Allocation
from prunebench.methods.base import Method, MethodOptions
from prunebench.methods.registry import method_class
from prunebench.network import GroupStructure
from prunebench.own_network.loaded_batches import Loader, Loss, check_labels
from prunebench.own_network.own_run import OwnRun
from prunebench.own_network.pruned import Change, Pruned, PrunedGroup, composed
from prunebench.own_network.pruned_files import normalization_of, structure_for
from prunebench.own_network.target import (
    Target,
    achieved,
    asked_for,
    check_reach,
    options_of,
    target_of,
)
from prunebench.own_network.whole_groups import check_ratios, kept_whole
from prunebench.training.checkpoint import StopRequest
from prunebench.training.loop import Loop
from prunebench.training.progress import SilentProgress

DEFAULT = "l1"


def prune(
    model: nn.Module,
    example: Example,
    *,
    criterion: str | None = None,
    ratio: float | None = None,
    ratio_kind: str = "macs",
    ratios: Mapping[str, float] | None = None,
    allocation: Allocation = "uniform",
    round_to: int = 1,
    keep: Sequence[str] = (),
    grouped: Grouping = "auto",
    data: Loader | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    classes: Sequence[str] = (),
    **options: Any,
) -> Pruned:
    """Return a network with fewer channels, and the proof that they were removed correctly.

    All groups of coupled channels may lose units unless `keep`, `ratios` or the option `roles` say
    otherwise. The removal is checked: the outputs of the smaller network are compared with those of
    the given one with masked units, in float64.

    Parameters
    ----------
    model
        Any network. It stays as it is.
    example
        An input of the network, or a tuple of its arguments, on any device.
    criterion
        Importance score of units (see `prunebench list methods`). Default: `l1`.
    ratio
        Fraction to remove, of what `ratio_kind` says: the result has at least this ratio.
    ratio_kind
        macs, params or activations of the whole network; units_global, all units together; or
        units_per_group, the same fraction of each group.
    ratios
        Ratio by pattern of group names instead of `ratio`. The first match counts, and groups
        without a match stay whole.
    allocation
        Distribution of a ratio of costs: "uniform", the same share of every group, or "global", all
        units ranked together.
    round_to
        Each layer keeps a multiple of this number of channels, such as 8 for tensor cores.
    keep
        Patterns of module paths, such as "head.*": the channels that these modules make all stay.
    grouped
        Units of grouped convolutions; see `prunebench.trace`.
    data
        A loader of (inputs, targets), for criteria that compute gradients.
    loss
        From outputs and targets to the mean loss. Default: cross-entropy.
    seed
        Seed of the criterion `random`.
    normalization, classes
        Mean and deviation per channel of pixels in [0, 1], and names of the outputs, to be stored
        with the network.
    options
        Options of the criterion, such as `samples=2048` or `roles=["inside"]`.

    Raises
    ------
    PrunebenchError
        In one line: an unknown name, a pattern without a match, a ratio out of reach (with the
        largest one), a network that cannot be traced.

    >>> from prunebench.testing import toy_network
    >>> import torch
    >>> result = prune(toy_network(), torch.rand(1, 1, 8, 8), ratio=0.5)
    >>> result.achieved >= 0.5, result.deviation < 1e-12, result.model(torch.rand(3, 1, 8, 8)).shape
    (True, True, torch.Size([3, 2]))
    """
    name = DEFAULT if criterion is None else criterion
    criterion_class(name)
    kind = method_class(name)
    target = target_of(kind, name, ratio, ratio_kind, ratios)
    chosen = {
        "roles": GROUP_ROLES,
        "allocation": allocation,
        "round_to": round_to,
        "grouped": grouped,
        "layer_ratios": dict(ratios or {}),
        "fine_tune": False,
    }
    call = _Call(
        model, example, name, kind, target, options_of(kind, name, {**chosen, **options}),
        keep=keep, data=data, loss=loss, seed=seed,
        normalization=normalization_of(normalization, example), classes=classes,
    )  # fmt: skip
    return call.result()


class _Call:
    """One call of `prune`: its arguments, checked."""

    def __init__(
        self,
        model: nn.Module,
        example: Example,
        name: str,
        kind: type[Method[Any]],
        target: Target,
        options: MethodOptions,
        *,
        keep: Sequence[str],
        data: Loader | None,
        loss: Loss | None,
        seed: int,
        normalization: Normalization | None,
        classes: Sequence[str],
    ) -> None:
        if isinstance(keep, str):
            raise ConfigError(f"keep: {keep!r} is one text; give a list of patterns")
        self.model, self.example, self.name = model, example, name
        self.kind, self.target, self.options = kind, target, options
        self.data, self.loss, self.seed = data, loss, seed
        self.normalization, self.classes = normalization, classes
        graph = trace(model, example, grouped=options.grouped)
        self.whole = kept_whole(model, graph, keep)
        check_ratios(graph.with_frozen(self.whole), options.layer_ratios)

    def result(self) -> Pruned:
        """Prune; if a removal changes the outputs, find the groups at fault and leave them whole.

        A few uses of a number of channels in `forward` are found by comparing outputs alone.
        """
        try:
            return self._pruned()
        except RemovalError:
            report = verify(self.model, self.example, grouped=self.options.grouped)
            broken = {n: why for n, why in report.broken.items() if n not in self.whole}
            if not broken:
                raise
            self.whole |= broken
            return self._pruned()

    def _pruned(self) -> Pruned:
        method = self.kind(self.options)
        run = OwnRun.of(
            self.model,
            self.example,
            data=self.data,
            loss=self.loss,
            seed=self.seed,
            grouped=self.options.grouped,
            whole=self.whole,
        )
        if not method.candidates(run):
            raise ModelError(
                "no group of channels can be pruned; `prunebench.trace` says why each is frozen"
            )
        if method.needs_labels():
            check_labels(*run.dataset.train.given.first())  # type: ignore[attr-defined]
        check_reach(method, run, self.target)
        try:
            run.phases = tuple(method.phases({}, asked_for(method, run, self.target)))
        except ValueError as error:
            raise ConfigError(f"{self.name}: {error}") from None
        run.go_to(0)
        Loop(run, method, progress=SilentProgress(), stop=StopRequest()).train()
        return self._described(method, run)

    def _described(self, method: Method[Any], run: OwnRun) -> Pruned:
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
        return Pruned(
            model=model,
            method=self.name,
            asked=str(self.target),
            requested=self.target.ratio,
            achieved=achieved(method, run, self.target),
            groups=groups,
            frozen={name: group.frozen for name, group in first.frozen.items()},
            macs=Change(run.base_macs, run.costs.macs()),
            params=Change(run.base_params, run.costs.params()),
            deviation=max((d for d in differences if d is not None), default=None),
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


def finished(model: nn.Module, given: nn.Module) -> nn.Module:
    """Return the pruned network in evaluation mode; as many parameters are trained as were."""
    trained = {name: p.requires_grad for name, p in given.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
        parameter.grad = None
    return model.eval()
