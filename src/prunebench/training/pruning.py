"""Apply a plan: mask, remove, and check that the smaller network computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.plan import Plan
from prunebench.channels.removal import kept_units, mask, remove, slice_tensor, slicing
from prunebench.channels.verify import TOLERANCE, largest_difference
from prunebench.core.errors import ModelError
from prunebench.methods.base import Before
from prunebench.training.run import RunState
from prunebench.training.step import apply_masks


@dataclass(frozen=True)
class Applied:
    """The effect of a plan.

    Attributes
    ----------
    before
        The network just before, for the method's `after_removal`.
    units
        Numbers of removed units and of units before the removal, over all groups.
    difference
        Largest relative difference of the outputs, masked against removed, in float64; None if
        nothing was removed.
    """

    before: Before
    units: tuple[int, int]
    difference: float | None


def apply_plan(run: RunState, plan: Plan) -> Applied:
    """Mask the weights and remove the units of `plan`; masks lose the same units.

    Raises ModelError if the smaller network does not compute the same as the masked one.
    """
    _add_masks(run, plan)
    removed = {name: units for name, units in plan.removed.items() if len(units)}
    cuts = slicing(run.graph, removed)
    tensors = dict([*run.model.named_parameters(), *run.model.named_buffers()])
    before = Before(run.graph, tensors, cuts)
    total = sum(group.n_units for group in run.graph.groups.values())
    if not removed:
        return Applied(before, (0, total), None)
    smaller, difference = removed_and_difference(
        run.model, run.graph, removed, run.dataset.info.shape, run.device
    )
    if not difference <= TOLERANCE:
        raise ModelError(
            f"phase {run.phase.name!r}: removal changes the output by {difference:.1e} of its "
            f"largest value; the groups were {', '.join(removed)}"
        )
    for name, units in removed.items():
        run.kept[name] = run.kept[name][kept_units(len(run.kept[name]), units)]
    run.masks = {name: slice_tensor(m, cuts.get(name, [])) for name, m in run.masks.items()}
    run.adopt(smaller)
    return Applied(before, (sum(len(units) for units in removed.values()), total), difference)


def _add_masks(run: RunState, plan: Plan) -> None:
    for name, keep in plan.zeroed.items():
        keep = keep.to(run.device)
        run.masks[name] = run.masks[name] & keep if name in run.masks else keep
    apply_masks(run)


def removed_and_difference(
    model: nn.Module,
    graph: ChannelGraph,
    removed: Mapping[str, Tensor],
    image: tuple[int, ...],
    device: torch.device | str = "cpu",
) -> tuple[nn.Module, float]:
    """Return the smaller network, and the largest difference of its outputs from the masked one's.

    The difference is relative, in float64, on two images of noise of the shape `image`.
    """
    noise = torch.rand((2, *image), generator=torch.Generator().manual_seed(0)).to(device)
    smaller = remove(model, graph, removed)
    return smaller, largest_difference(mask(model, graph, removed), smaller, noise)
