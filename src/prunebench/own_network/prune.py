"""Prune a network of one's own in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from prunebench.channels.examples import Example
from prunebench.channels.groups import Grouping
from prunebench.channels.selections import GROUP_ROLES
from prunebench.core.errors import ConfigError
from prunebench.criteria.registry import criterion_class
from prunebench.methods.allocation import Allocation
from prunebench.methods.base import Method
from prunebench.methods.one_shot import one_shot
from prunebench.methods.registry import method_class
from prunebench.own_network.loaded_batches import Loader, Loss
from prunebench.own_network.own_run import Evaluate
from prunebench.own_network.prune_call import PruneCall
from prunebench.own_network.pruned import Pruned
from prunebench.own_network.pruned_files import normalization_of
from prunebench.own_network.target import options_of, target_of
from prunebench.own_network.training_plan import LR, Training

DEFAULT = "l1"
CountedKind = Literal["macs", "params", "activations", "units_global", "units_per_group"]


def prune(
    model: nn.Module,
    example: Example,
    *,
    criterion: str | None = None,
    method: str | None = None,
    ratio: float | None = None,
    ratio_kind: CountedKind = "macs",
    ratios: Mapping[str, float] | None = None,
    allocation: Allocation = "uniform",
    round_to: int = 1,
    keep: Sequence[str] = (),
    grouped: Grouping = "auto",
    data: Loader | None = None,
    loss: Loss | None = None,
    recalibrate: Loader | None = None,
    evaluate: Evaluate | None = None,
    max_drop: float | None = None,
    epochs: int | None = None,
    lr: float = LR,
    recipe: Mapping[str, Any] | None = None,
    checkpoint: Path | str | None = None,
    quiet: bool = False,
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
    method
        A method that trains, such as `greg_1` or `group_fisher`; it needs `data` and `epochs`. If
        it has an option `criterion`, that is `criterion`.
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
        A loader of (inputs, targets), for criteria that compute gradients and for training.
    loss
        From outputs and targets to the mean loss. Default: cross-entropy.
    recalibrate
        A loader whose first images, 2,048 or a batch more, estimate the statistics of batch norm
        again after the removal. Its targets, if there are any, are ignored.
    evaluate
        From a network in evaluation mode to its accuracy, a number that is better if higher. The
        result has the accuracy of the given and of the pruned network.
    max_drop
        Search for the largest ratio whose accuracy is at most this much lower, in the unit of
        `evaluate`, by bisection down to half a percent. `ratio` limits the search.
    epochs, lr, recipe, checkpoint, quiet
        As in `prunebench.finetune`, for pruning and fine-tuning together. A method whose pruning
        takes more than half of the epochs is shortened, unless its lengths are among the options.
        With a criterion, the network is fine-tuned after the removal.
    seed
        Seed of the criterion `random`, and of PyTorch's random numbers in training.
    normalization, classes
        Mean and deviation per channel of pixels in [0, 1], and names of the outputs, to be stored
        with the network.
    options
        Options of the criterion or method, such as `samples=2048` or `roles=["inside"]`.

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
    name = method or criterion or DEFAULT
    kind = method_class(name) if method is not None else one_shot(criterion_class(name))
    target = target_of(kind, name, ratio, ratio_kind, ratios, is_searched=max_drop is not None)
    chosen = {
        "roles": GROUP_ROLES,
        "allocation": allocation,
        "round_to": round_to,
        "grouped": grouped,
        "layer_ratios": dict(ratios or {}),
        **known_options(kind, name, criterion if method else None, trains=epochs is not None),
        **options,
    }
    training = None
    if epochs is not None:
        folder = None if checkpoint is None else Path(checkpoint)
        training = Training(
            epochs=epochs, lr=lr, recipe=recipe or {}, checkpoint=folder, quiet=quiet
        )
    call = PruneCall(
        model,
        example,
        name,
        kind,
        options_of(kind, name, chosen),
        keep=keep,
        data=data,
        loss=loss,
        recalibrate=recalibrate,
        evaluate=evaluate,
        training=training,
        given=options,
        seed=seed,
        normalization=normalization_of(normalization, example),
        classes=classes,
    )
    return call.pruned(target) if max_drop is None else call.within(target, max_drop)


def known_options(
    kind: type[Method[Any]], name: str, criterion: str | None, *, trains: bool
) -> dict[str, Any]:
    """Return options that follow from the call, for methods that have them.

    ConfigError for a criterion of a method that takes none.
    """
    fields = kind.Options.model_fields
    if criterion is not None and "criterion" not in fields:
        raise ConfigError(f"criterion: {name} has its own importance score; remove {criterion!r}")
    found = {"fine_tune": trains, "pretrained": True, "criterion": criterion}
    return {key: value for key, value in found.items() if key in fields and value is not None}
