"""Turn the ties of a pass into groups: ids that are one unit, units that form a group.

Tied ids form connected components, one per unit. Units form a group if their ids lie in the same
blocks, equally many in each, and if they are frozen for the same reason or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import nn

from prunebench.channels.examples import Arrangement
from prunebench.channels.groups import (
    ChannelGraph,
    ChannelGroup,
    GroupRole,
    Member,
    Pad,
    Positions,
    Width,
)
from prunebench.channels.roles import gates
from prunebench.channels.trace.ids import Block, Ids, Ints
from prunebench.channels.trace.passes import POSITIONS, ROWS, WIDTH, Pass, joined

# Pairs (number of the block, slices per unit) in network order, equal for all units of a group.
Signature = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Units:
    """Units of one signature: the rows of `ids[block]`, (units, slices per unit)."""

    signature: Signature
    reason: str
    ids: dict[int, Ints]


def graph_of(state: Pass, batch: int, arrangement: Arrangement = "rows") -> ChannelGraph:
    """Return the graph of a traced pass over `batch` examples."""
    blocks = state.ids.blocks
    ordered = sorted(
        all_units(state.ids),
        key=lambda units: (first_block(units, blocks), bool(units.reason), units.signature),
    )
    flow = state.flow.finished()
    factors = {state.calls[number].weight for number in gates(flow)}
    groups: dict[str, ChannelGroup] = {}
    modules: dict[tuple[str, int], dict[str, torch.Tensor]] = {}
    taken: dict[str, int] = {}
    for units in ordered:
        path = layer_path(units, state)
        number = taken[path] = taken.get(path, -1) + 1
        name = f"{path}#{number}" if number else path
        groups[name] = group_of(name, units, state, factors)
        for number, ids in units.ids.items():
            block = blocks[number]
            if isinstance(block.owner, str) and not units.reason:
                index = torch.from_numpy(ids - block.start)
                modules.setdefault((block.owner, block.dim), {})[name] = index
    named = {name: t for t, names in zip(state.tensors, state.names, strict=True) for name in names}
    return ChannelGraph(
        groups={name: group for name, group in groups.items() if not group.frozen},
        frozen={name: group for name, group in groups.items() if group.frozen},
        pads=tuple(
            Pad(path, place, before, after, modules.get((path, place), {}))
            for (path, place), (before, after, _) in state.pads.items()
        ),
        widths=tuple(
            Width(path, attribute, len(ids), modules.get((joined(path, attribute), WIDTH), {}))
            for (path, attribute), ids in state.widths.items()
        ),
        positions=tuple(
            Positions(
                state.names[number],
                state.tensors[number].detach().to("cpu", torch.int64, copy=True),
                len(ids),
                modules.get((state.names[number][0], POSITIONS), {}),
            )
            for number, ids in state.positions.items()
        ),
        calls=tuple(
            replace(
                call,
                per_unit={
                    name: index.shape[1]
                    for name, index in modules.get((call.weight, ROWS), {}).items()
                },
            )
            if call.rows
            else call
            for call in state.calls
        ),
        batch=batch,
        arrangement=arrangement,
        shapes={name: tuple(tensor.shape) for name, tensor in named.items()},
        trainable=tuple(
            names[0]
            for tensor, names in zip(state.tensors, state.names, strict=True)
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad
        ),
        flow=flow,
        unknown=tuple(state.unknown),
        unused=tuple(
            names[0]
            for tensor, names in zip(state.tensors, state.names, strict=True)
            if isinstance(tensor, nn.Parameter) and state.values.get(tensor) is None
        ),
    )


def all_units(ids: Ids) -> list[Units]:
    """Find the components of tied ids and sort them by signature and reason."""
    labels = components(ids)
    reasons = frozen_reasons(ids, labels)
    numbers = [i for i, block in enumerate(ids.blocks) if block.size and is_bound(block)]
    if not numbers:
        return []
    bound = [ids.blocks[i] for i in numbers]
    flat = np.concatenate([np.arange(block.start, block.start + block.size) for block in bound])
    block_of = np.repeat(numbers, [block.size for block in bound])
    label_of = labels[flat]
    order = np.argsort(label_of, kind="stable")  # within a component by block, then by position
    flat, block_of, label_of = flat[order], block_of[order], label_of[order]
    starts = np.flatnonzero(np.r_[True, label_of[1:] != label_of[:-1]])
    sizes = np.diff(np.r_[starts, len(flat)])
    words = list(dict.fromkeys(["", *reasons.values()]))
    numbers_of_words = {word: number for number, word in enumerate(words)}
    reason_of = np.zeros(labels.max() + 1, np.int64)
    reason_of[list(reasons)] = [numbers_of_words[word] for word in reasons.values()]
    found = []
    # Components of one size are rows of a matrix; equal rows are one kind.
    for size in np.unique(sizes).tolist():
        firsts = starts[sizes == size]
        places = firsts[:, None] + np.arange(size)
        kinds = np.c_[reason_of[label_of[firsts]], block_of[places]]
        changes = np.flatnonzero((kinds[1:] != kinds[:-1]).any(axis=1)) + 1
        runs: dict[bytes, list[Ints]] = {}  # few: units of a group mostly follow each other
        for run in np.split(np.arange(len(kinds)), changes):
            runs.setdefault(kinds[run[0]].tobytes(), []).append(run)
        for same in runs.values():
            kind, rows = kinds[same[0][0]], flat[places[np.concatenate(same)]]
            found.append(units_of(kind[1:], words[int(kind[0])], rows, ids.blocks))
    return found


def is_bound(block: Block) -> bool:
    """Whether a removal cuts a block: a dimension with a role, a pad or a width."""
    return bool(block.roles) or isinstance(block.owner, str)


def units_of(block_of: Ints, reason: str, rows: Ints, blocks: list[Block]) -> Units:
    """Return the units whose ids are `rows`, in the order of their first producer's slices.

    `block_of` holds the block of each column of `rows`, in ascending order.
    """
    first = np.flatnonzero(np.r_[True, block_of[1:] != block_of[:-1]])
    numbers, counts = block_of[first], np.diff(np.r_[first, len(block_of)])
    signature = tuple(zip(numbers.tolist(), counts.tolist(), strict=True))
    lead = first_of(signature, blocks)
    place = int(first[numbers.tolist().index(lead)])
    rows = rows[np.argsort(rows[:, place])]
    ids = {
        int(number): rows[:, f : f + count]
        for number, f, count in zip(numbers, first, counts, strict=True)
    }
    if not reason and not any("out" in blocks[number].roles for number in ids):
        reason = "no layer produces it"
    return Units(signature, reason, ids)


def components(ids: Ids) -> Ints:
    """Return the component of every id."""
    if not ids.left:
        return np.arange(ids.size)
    left, right = np.concatenate(ids.left), np.concatenate(ids.right)
    ties = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(ids.size, ids.size))
    labels: Ints = connected_components(ties, directed=False)[1].astype(np.int64)
    return labels


def frozen_reasons(ids: Ids, labels: Ints) -> dict[int, str]:
    """Return the first reason of every frozen component."""
    reasons: dict[int, str] = {}
    for some, reason in (*ids.frozen, *ids.used):
        for label in np.unique(labels[some]).tolist():
            reasons.setdefault(label, reason)
    for label in out_of_proportion(ids, labels):
        reasons.setdefault(label, "divided by the number of other channels")
    for some, divisor in ids.remainders:
        found, counts = np.unique(labels[some], return_counts=True)
        for label in found[counts % divisor != 0].tolist():
            reasons.setdefault(label, f"the code divides their number by {divisor}")
    # A parameter without a role would not be cut with the channels that it is tied to.
    unbound = [b for b in ids.blocks if isinstance(b.owner, int) and not b.roles and b.size]
    sizes = np.bincount(labels, minlength=1)
    for block in unbound:
        mine = labels[block.start : block.start + block.size]
        if block.size < int(sizes[np.unique(mine)].sum()):
            for label in np.unique(mine).tolist():
                reasons.setdefault(label, "coupled with a parameter whose use is unknown")
    return reasons


def out_of_proportion(ids: Ids, labels: Ints) -> Iterator[int]:
    """Yield components that would take different shares of two sets that must stay proportional."""
    for a, b in ids.proportional:
        found_a, count_a = np.unique(labels[a], return_counts=True)
        found_b, count_b = np.unique(labels[b], return_counts=True)
        share_a = dict(zip(found_a.tolist(), (count_a * len(b)).tolist(), strict=True))
        share_b = dict(zip(found_b.tolist(), (count_b * len(a)).tolist(), strict=True))
        for label in share_a.keys() | share_b.keys():
            if share_a.get(label) != share_b.get(label):
                yield label


def first_of(signature: Signature, blocks: list[Block]) -> int:
    """Return the first producing block, or the first block if none produces."""
    numbers = [number for number, _ in signature]
    return next((number for number in numbers if "out" in blocks[number].roles), numbers[0])


def first_block(units: Units, blocks: list[Block]) -> int:
    """Return the block that determines a group's position in the network."""
    return first_of(units.signature, blocks)


def layer_path(units: Units, state: Pass) -> str:
    """Return the module path of the first producing layer, or "<path>:in" if none produces."""
    block = state.ids.blocks[first_of(units.signature, state.ids.blocks)]
    if not isinstance(block.owner, int):
        return f"{block.owner}:in"
    name = state.names[block.owner][0]
    path = name.rpartition(".")[0] or name
    return path if "out" in block.roles else f"{path}:in"


def group_of(name: str, units: Units, state: Pass, factors: set[str]) -> ChannelGroup:
    """Translate ids into slices of parameters; `factors` are the weights of gates."""
    members = []
    producers = []
    for number, ids in units.ids.items():
        block = state.ids.blocks[number]
        if not isinstance(block.owner, int):
            continue
        if "out" in block.roles and not factors.intersection(state.names[block.owner]):
            producers.append(block)
        index = torch.from_numpy(np.ascontiguousarray(ids - block.start))
        for role in block.roles:
            members.append(Member(state.names[block.owner], block.dim, role, index))
    place: GroupRole = "inside"
    if len(producers) > 1:
        place = "stream"
    elif producers and producers[0].reads_input:
        place = "stem"
    n_units = len(next(iter(units.ids.values())))
    return ChannelGroup(name, n_units, tuple(members), place, units.reason)
