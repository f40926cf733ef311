"""Apply a plan: mask, remove, and check that the smaller network computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from prunebench.channels.examples import Example
from prunebench.channels.groups import ChannelGraph
from prunebench.channels.plan import Plan
from prunebench.channels.removal import kept_units, mask, remove, slice_tensor, slicing
from prunebench.channels.trace.tracer import FAILURES
from prunebench.channels.verify import TOLERANCE, largest_difference
from prunebench.core.errors import RemovalError, in_one_line
from prunebench.experiments.phases import Budget
from prunebench.methods.base import Before, Method
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

    Raises RemovalError if the smaller network does not compute the same as the masked one.
    """
    _add_masks(run, plan)
    removed = {name: units for name, units in plan.removed.items() if len(units)}
    cuts = slicing(run.graph, removed)
    tensors = dict([*run.model.named_parameters(), *run.model.named_buffers()])
    before = Before(run.graph, tensors, cuts)
    total = sum(group.n_units for group in run.graph.groups.values())
    if not removed:
        return Applied(before, (0, total), None)
    smaller, difference = removed_and_difference(run.model, run.graph, removed, run.probe)
    if not difference <= TOLERANCE:
        raise RemovalError(
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
    probe: Example,
) -> tuple[nn.Module, float]:
    """Return the smaller network, and the largest difference of its outputs from the masked one's.

    The difference is relative, in float64, on the input `probe`. Raises RemovalError if the smaller
    network does not run.
    """
    smaller = remove(model, graph, removed)
    try:
        return smaller, largest_difference(mask(model, graph, removed), smaller, probe)
    except FAILURES as error:
        raise RemovalError(f"the smaller network does not run: {in_one_line(error)}") from error


def missed_ratio(method: Method[Any], run: RunState, budget: Budget) -> float | None:
    """Return the ratio that a run has reached if it is less than asked for; None otherwise.

    Less is: by more than half a percent of all units, of weights that are ranked together, or of a
    cost; for units_per_group and weights by layer, by more than the method's tolerance in a group,
    or by a tenth of the ratio in all. The widths of another run, rounded widths, and ratios that a
    method decides are not compared.
    """
    asked, options = budget.ratio, method.options
    if not asked or options.widths_from is not None or options.round_to > 1:
        return None
    by_layer = budget.kind == "weights" and options.allocation == "uniform"
    if budget.kind != "units_per_group" and not by_layer:
        reached = reached_ratio(method, run, budget)
        return None if reached >= asked - 0.005 else reached
    counts = _pruned_by_group(method, run)
    total = sum(n for _, n in counts)
    reached = sum(gone for gone, _ in counts) / total if total else 0.0
    missing = max((min(asked * n, n - 1) - gone for gone, n in counts), default=0.0)
    is_near = missing <= method.tolerance + 1e-6
    return None if is_near and reached >= 0.9 * asked else reached


def reached_ratio(method: Method[Any], run: RunState, budget: Budget) -> float:
    """Return the pruned fraction of weights, of a cost, or of all units.

    Masked weights count for weights, macs and params.
    """
    if budget.kind == "weights":
        names = method.zeroed_weights(run) or []
        kept = sum(_kept_entries(run, name) for name in names)
        return 1 - kept / sum(run.base_entries[name] for name in names)
    if budget.kind in ("activations", "latency"):
        return 1 - run.cost(budget.kind) / run.base_cost(budget.kind)
    if budget.kind == "params":
        masked = sum(int((~mask).sum()) for mask in run.masks.values())
        return 1 - (run.costs.params() - masked) / run.base_params
    if budget.kind == "units_global":
        first, now = method.counted_units(run)
        return 1 - now / first if first else 0.0
    macs = method.counted_macs(run)
    shares = {w: float(run.masks[w].double().mean()) if w in run.masks else 1.0 for w in macs}
    left = sum(own * shares[weight] for weight, own in macs.items())
    return 1 - left / sum(run.base_layer_macs[weight] for weight in macs)


def _pruned_by_group(method: Method[Any], run: RunState) -> list[tuple[float, int]]:
    """Return the pruned units and the units at the start, by group or masked layer.

    The units of a masked layer are its filters, or all weights: entries removed with other layers
    count as pruned.
    """
    weights = method.zeroed_weights(run)
    if weights is None:
        sizes = [(name, run.sizes[name]) for name in method.candidates(run)]
        return [(n - len(run.kept[name]), n) for name, n in sizes]
    found = []
    for weight in weights:
        units = len(run.params[weight])
        found.append((units * (1 - _kept_entries(run, weight) / run.base_entries[weight]), units))
    return found


def _kept_entries(run: RunState, weight: str) -> int:
    """Return how many entries of a weight are present and not masked."""
    return int(run.masks[weight].sum()) if weight in run.masks else run.params[weight].numel()
