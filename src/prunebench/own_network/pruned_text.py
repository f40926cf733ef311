"""The report that a pruned network prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunebench.own_network.pruned import Change, Pruned

WIDTH = 100


def report_lines(pruned: Pruned) -> Iterator[str]:
    """Yield lines: the ratio, costs, the comparison of masked and removed, groups, frozen ones."""
    reached = "" if pruned.achieved is None else f", {pruned.achieved:.4f} reached"
    yield f"{type(pruned.model).__name__} · {pruned.method} · {pruned.asked}{reached}"
    yield f"  MACs        {change(pruned.macs)}"
    yield f"  parameters  {change(pruned.params)}"
    if pruned.accuracy is not None:
        yield f"  accuracy    {pruned.accuracy.before:g} → {pruned.accuracy.after:g}"
    if pruned.deviation is None:
        yield "  nothing was removed"
    else:
        yield (
            f"  masked = removed to {pruned.deviation:.0e}: the largest difference of the outputs "
            "in float64"
        )
    if zeros := sum(int((~mask).sum()) for mask in pruned.zeros.values()):
        yield f"  {zeros:,} weights are zero but not removed, which saves no MACs"
    yield from group_lines(pruned)
    yield from frozen_lines(pruned)
    if pruned.tried:
        yield ""
        yield "tried ratios:"
        yield from (f"  {one.achieved:.4f}  accuracy {one.accuracy:g}" for one in pruned.tried)


def change(costs: Change) -> str:
    """Return a cost before and after, with the removed share and the quotient.

    >>> from prunebench.own_network.pruned import Change
    >>> change(Change(2_000_000, 500_000))
    '2,000,000 → 500,000 (−75.0 %, 4.00×)'
    """
    times = f", {costs.before / costs.after:.2f}×" if costs.after else ""
    share = f"−{100 * costs.removed:.1f} %{times}"
    return f"{int(costs.before):,} → {int(costs.after):,} ({share})"


def group_lines(pruned: Pruned) -> Iterator[str]:
    """Yield a table of the groups that could be pruned."""
    if not pruned.groups:
        return
    width = max(len("group"), *(len(group.name) for group in pruned.groups))
    yield ""
    yield f"{'group':<{width}}  {'role':<6}  units   kept  removed"
    for group in pruned.groups:
        kept = len(group.kept)
        yield (
            f"{group.name:<{width}}  {group.role:<6}  {group.units:>5}  {kept:>5}  "
            f"{group.units - kept:>7}"
        )


def frozen_lines(pruned: Pruned) -> Iterator[str]:
    """Yield the groups that stay whole by reason."""
    if not pruned.frozen:
        return
    by_reason: dict[str, list[str]] = {}
    for name, reason in pruned.frozen.items():
        by_reason.setdefault(reason, []).append(name)
    yield ""
    yield "whole groups:"
    for reason, names in by_reason.items():
        yield from textwrap.wrap(
            f"{reason}: {', '.join(names)}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
