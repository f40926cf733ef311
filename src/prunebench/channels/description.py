"""Describe the channels of a traced network in text: groups, frozen groups, largest reduction."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from prunebench.channels.costs import costs_of
from prunebench.channels.groups import ChannelGraph, ChannelGroup, Member

WIDTH = 100
WORDS = {
    "out": "produced by",
    "pass": "passed on by",
    "vector": "together with",
    "index": "picked by",
    "in": "read by",
}


def describe(graph: ChannelGraph) -> Iterator[str]:
    """Yield lines: groups with their members, frozen groups with reasons, the largest reduction."""
    units = sum(group.n_units for group in graph.groups.values())
    yield f"prunable groups: {len(graph.groups)}, with {units} units"
    for group in graph.groups.values():
        yield ""
        yield f"{group.name} · {group.role} · {group.n_units} units"
        yield from member_lines(group)
    yield ""
    yield f"groups that cannot be pruned: {len(graph.frozen)}"
    for group in graph.frozen.values():
        yield f"  {group.name} · {group.n_units} units · {group.frozen}"
    yield ""
    yield f"unknown operations: {', '.join(graph.unknown) or 'none'}"
    yield from reduction(graph)


def member_lines(group: ChannelGroup) -> Iterator[str]:
    """Yield the tensors that a group cuts, by role."""
    for role, words in WORDS.items():
        members = [member for member in group.members if member.role == role]
        if members:
            yield from textwrap.wrap(
                ", ".join(vectors(members) if role == "vector" else map(member_words, members)),
                WIDTH,
                initial_indent=f"  {words:<14}",
                subsequent_indent=" " * 16,
                break_long_words=False,
                break_on_hyphens=False,
            )


def member_words(member: Member) -> str:
    """Return a weight's names, and the number of slices per unit if it is above 1."""
    slices = member.index.shape[1]
    return " = ".join(member.parameters) + (f" (×{slices})" if slices > 1 else "")


def vectors(members: list[Member]) -> list[str]:
    """Return biases, affine parameters and statistics by module."""
    by_module: dict[str, list[str]] = {}
    for member in members:
        module, _, name = member.parameters[0].rpartition(".")
        by_module.setdefault(module, []).append(name)
    return [f"{module or 'network'} ({', '.join(own)})" for module, own in by_module.items()]


def reduction(graph: ChannelGraph) -> Iterator[str]:
    """Yield the costs of the network before and after pruning every group to one unit."""
    costs, least = costs_of(graph), dict.fromkeys(graph.groups, 1)
    yield "with one unit in each group:"
    for what, before, after in (
        ("MACs", costs.macs(), costs.macs(least)),
        ("parameters", costs.params(), costs.params(least)),
    ):
        share = f"−{100 * (1 - after / before):.2f} %" if before else "none"
        yield f"  {what:<12}{before:,} → {after:,} ({share})"
