"""Roles of layers: the place and kind of each convolution and linear layer in its network.

Roles follow from the traced flow alone, not from names or architectures. A block lies between a
fork and the point where its paths meet again, in a sum or a concatenation.

- Residual blocks: `first` and `last`, in bottlenecks also `middle`, and `shortcut` if the shortcut
  has a convolution; outside the blocks `stem` and `head`.
- Inverted bottlenecks: the same if the block has a shortcut, otherwise `chain`.
- Concatenations: the layers whose outputs are concatenated are `last`.
- Squeeze-and-excitation: `gate`.
- Plain networks: `chain` between stem and head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from prunebench.channels.flow import NETWORK_INPUT, Flow, LayerKind, Sources
from prunebench.channels.groups import ChannelGraph

Place = Literal["stem", "chain", "first", "middle", "last", "shortcut", "gate", "head"]


@dataclass(frozen=True)
class LayerRole:
    """Role of a layer; a layer that is called several times has the place of its first call.

    Attributes
    ----------
    place
        "stem" reads the network's input and "head" produces its output. In a block, "last" produces
        an operand of the operation in which the block's paths meet, "first" reads no layer of the
        block, and "middle" lies between them. "shortcut" is the only layer of its path, in a sum
        with a longer path. "gate" computes factors for the output of other layers. "chain" lies in
        no block.
    kind
        "depthwise" and "grouped" convolutions, "pointwise" ones (1x1), "full" ones, and "linear"
        layers.
    block
        Number of the block, from 0 in network order; None for a layer outside blocks. A layer in
        nested blocks belongs to the innermost one, a gate to the block around it.
    parents
        Weights of the layers whose outputs it reads directly, in any of its calls, in network
        order.
    """

    place: Place
    kind: LayerKind
    block: int | None
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Path:
    """One of the paths that meet in a join: its layers, and those that produce its result."""

    join: int
    layers: tuple[int, ...]
    ends: Sources
    place: Literal["path", "shortcut", "gate"]


def layer_roles(graph: ChannelGraph) -> dict[str, LayerRole]:
    """Return the role of every convolution and linear layer by its weight, in network order.

    Weights that are computed in each pass are not listed, since they are no parameters.
    """
    flow = graph.flow
    paths = list(all_paths(flow))
    gates = shortest(path for path in paths if path.place == "gate")
    around = shortest(path for path in paths if path.place != "gate")
    found: dict[str, LayerRole] = {}
    blocks: dict[int, int] = {}
    for number, call in enumerate(graph.calls):
        if call.weight not in graph.shapes or call.weight in found:
            continue
        path = around.get(number)
        place = place_of(number, flow, path, gates.get(number))
        inside = path is not None and place not in ("stem", "head")
        found[call.weight] = LayerRole(
            place,
            flow.kinds[number],
            blocks.setdefault(path.join, len(blocks)) if path and inside else None,
            parents(graph, call.weight),
        )
    return found


def place_of(number: int, flow: Flow, path: Path | None, gate: Path | None) -> Place:
    """Return the place of one call; `path` and `gate` are the innermost ones that contain it."""
    if number in flow.outputs:
        return "head"
    if flow.reads[number] == {NETWORK_INPUT}:
        return "stem"
    if gate and not (path and len(path.layers) < len(gate.layers)):
        return "gate"
    if path is None:
        return "chain"
    if path.place == "shortcut":
        return "shortcut"
    if number in path.ends:
        return "last"
    return "middle" if flow.reads[number] & set(path.layers) else "first"


def parents(graph: ChannelGraph, weight: str) -> tuple[str, ...]:
    """Return the weights of the layers that a layer reads directly."""
    numbers = set[int]().union(
        *(
            reads
            for call, reads in zip(graph.calls, graph.flow.reads, strict=True)
            if call.weight == weight
        )
    )
    return tuple(
        dict.fromkeys(graph.calls[n].weight for n in sorted(numbers) if n != NETWORK_INPUT)
    )


def shortest(paths: Iterable[Path]) -> dict[int, Path]:
    """Return the path with the fewest layers that contains each layer, the first of several."""
    found: dict[int, Path] = {}
    for path in paths:
        for layer in path.layers:
            if layer not in found or len(path.layers) < len(found[layer].layers):
                found[layer] = path
    return found


def gates(flow: Flow) -> set[int]:
    """Return the layers whose results are factors for the results of other layers."""
    products = replace(flow, joins=tuple(join for join in flow.joins if join.kind == "product"))
    return {end for path in all_paths(products) if path.place == "gate" for end in path.ends}


def all_paths(flow: Flow) -> Iterator[Path]:
    """Yield the paths of every join, each from the point where it separates from the others.

    A set of layers is an int with one bit per layer, shifted by one for the network's input, so
    that unions and differences over a whole network are single operations.
    """
    above: list[int] = []  # each layer and all layers that it depends on
    for number, reads in enumerate(flow.reads):
        above.append(union(above, reads) | 2 << number)
    for join, (kind, operands) in enumerate((j.kind, j.operands) for j in flow.joins):
        closures = {ends: union(above, ends) for ends in dict.fromkeys(operands)}
        common = -1
        for closure in closures.values():
            common &= closure
        sides = {}
        for ends, closure in closures.items():
            shared = common | 1
            for other in closures.values():
                if other != closure and other & closure == other:
                    shared |= other  # the whole of another path, as with an identity
            sides[ends] = members(closure & ~shared)
        lengths = {ends: length(flow, layers) for ends, layers in sides.items()}
        for ends, layers in sides.items():
            place: Literal["path", "shortcut", "gate"] = "path"
            if kind == "product" and not any(sides[other] for other in sides if other != ends):
                place = "gate"
            elif kind == "sum" and len(layers) == 1 and max(lengths.values()) > 1:
                place = "shortcut"
            if layers:
                yield Path(join, layers, ends, place)


def union(above: list[int], sources: Sources) -> int:
    """Return the sources and all layers that they depend on."""
    result = 0
    for source in sources:
        result |= 1 if source == NETWORK_INPUT else above[source]
    return result


def members(layers: int) -> tuple[int, ...]:
    """Return the numbers of the layers in a set without the network's input.

    >>> members(0b1100)
    (1, 2)
    """
    found = []
    while layers:
        lowest = layers & -layers
        found.append(lowest.bit_length() - 2)
        layers ^= lowest
    return tuple(found)


def length(flow: Flow, layers: tuple[int, ...]) -> int:
    """Return the length of the longest chain among these layers, given in ascending order."""
    depth: dict[int, int] = {}
    for layer in layers:
        depth[layer] = 1 + max((depth.get(source, 0) for source in flow.reads[layer]), default=0)
    return max(depth.values(), default=0)
