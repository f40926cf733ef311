"""What a traced network's channels are, in words: groups, what is frozen, how far it can shrink."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from prunebench.channels.costs import costs_of
from prunebench.channels.groups import ChannelGraph, ChannelGroup, Member

WIDTH = 100
WORDS = {"out": "produced by", "pass": "passed by", "vector": "beside", "in": "read by"}


def describe(graph: ChannelGraph) -> Iterator[str]:
    """Yield lines: the groups with their members, what is frozen and why, the largest reduction."""
    units = sum(group.n_units for group in graph.groups.values())
    yield f"{len(graph.groups)} groups of {units} units can be pruned"
    for group in graph.groups.values():
        yield ""
        yield f"{group.name} · {group.role} · {group.n_units} units"
        yield from member_lines(group)
    yield ""
    yield f"{len(graph.frozen)} groups cannot:"
    for group in graph.frozen.values():
        yield f"  {group.name} · {group.n_units} units · {group.frozen}"
    yield ""
    yield f"operations that are not known: {', '.join(graph.unknown) or 'none'}"
    yield from reduction(graph)


def member_lines(group: ChannelGroup) -> Iterator[str]:
    """Yield what a group cuts, by what it does."""
    for role, words in WORDS.items():
        members = [member for member in group.members if member.role == role]
        if members:
            yield from textwrap.wrap(
                ", ".join(vectors(members) if role == "vector" else map(member_words, members)),
                WIDTH,
                initial_indent=f"  {words:<12}",
                subsequent_indent=" " * 14,
                break_long_words=False,
                break_on_hyphens=False,
            )


def member_words(member: Member) -> str:
    """Return a weight's names, with the slices per unit if there are several."""
    slices = member.index.shape[1]
    return " = ".join(member.parameters) + (f" (×{slices})" if slices > 1 else "")


def vectors(members: list[Member]) -> list[str]:
    """Return biases, affine parameters and statistics by the module that has them."""
    by_module: dict[str, list[str]] = {}
    for member in members:
        module, _, name = member.parameters[0].rpartition(".")
        by_module.setdefault(module, []).append(name)
    return [f"{module or 'network'} ({', '.join(own)})" for module, own in by_module.items()]


def reduction(graph: ChannelGraph) -> Iterator[str]:
    """Yield how small the network becomes with one unit left in every group."""
    costs, least = costs_of(graph), dict.fromkeys(graph.groups, 1)
    yield "with one unit left in each group:"
    for what, before, after in (
        ("MACs", costs.macs(), costs.macs(least)),
        ("parameters", costs.params(), costs.params(least)),
    ):
        share = f"−{100 * (1 - after / before):.2f} %" if before else "none to begin with"
        yield f"  {what:<12}{before:,} → {after:,} ({share})"
