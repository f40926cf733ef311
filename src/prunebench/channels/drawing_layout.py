"""Place the nodes of a directed acyclic graph in rows from top to bottom.

The usual three steps of layered graph drawing (Sugiyama, Tagawa, Toda, IEEE Trans. SMC 11(2),
1981): assign each node to a row below all its predecessors, order the rows so that few edges cross,
and choose positions. Long edges get a bend in each row that they pass, which keeps a lane free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12  # over all rows, alternately down and up
LANE = 0.35  # width of a lane for a long edge, in widths of a node

Node = int
Edge = tuple[Node, Node]


@dataclass(frozen=True)
class Layout:
    """Positions of nodes and edges.

    Attributes
    ----------
    places
        Node to (x, row); x is the center of the node, in widths of a node, from 0.
    lines
        Edge to its points (x, row), one in each row from start to end.
    width
        Right end of the rightmost node or lane.
    rows
        Number of rows.
    """

    places: dict[Node, tuple[float, int]]
    lines: dict[Edge, tuple[tuple[float, int], ...]]
    width: float
    rows: int


def layout_of(n_nodes: int, edges: Sequence[Edge]) -> Layout:
    """Return positions for nodes 0, 1 ...; each edge leads from a lower to a higher number."""
    edges = list(dict.fromkeys(edges))
    row = [0] * n_nodes
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        row[end] = max(row[end], row[start] + 1)
    rows: list[list[Node]] = [[] for _ in range(max(row, default=0) + 1)]
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for node in range(n_nodes):
        rows[row[node]].append(node)
    chains: dict[Edge, list[Node]] = {}
    n_all = n_nodes
    for start, end in edges:
        bends = list(range(n_all, n_all + row[end] - row[start] - 1))
        n_all += len(bends)
        for place, bend in enumerate(bends, row[start] + 1):
            rows[place].append(bend)
        chains[start, end] = [start, *bends, end]
        for a, b in pairwise(chains[start, end]):
            below.setdefault(a, []).append(b)
            above.setdefault(b, []).append(a)
    x = {node: float(place) for some in rows for place, node in enumerate(some)}
    size = {node: 1.0 if node < n_nodes else LANE for node in x}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for some in rows if down else rows[::-1]:
            arrange(some, above if down else below, x, size)
    left = min((x[node] - size[node] / 2 for node in x), default=0.0)
    where = {node: (x[node] - left, place) for place, some in enumerate(rows) for node in some}
    return Layout(
        {node: where[node] for node in range(n_nodes)},
        {edge: tuple(where[node] for node in chain) for edge, chain in chains.items()},
        max((where[node][0] + size[node] / 2 for node in where), default=0.0),
        len(rows),
    )


def arrange(
    row: list[Node],
    neighbors: Mapping[Node, list[Node]],
    x: dict[Node, float],
    size: Mapping[Node, float],
) -> None:
    """Sort a row by the mean position of its neighbors and move it there, without overlaps.

    Nodes that would overlap form a block around the mean of their desired positions.
    """
    desired = {
        node: sum(x[other] for other in neighbors[node]) / len(neighbors[node])
        if node in neighbors
        else x[node]
        for node in row
    }
    row.sort(key=lambda node: (desired[node], x[node]))
    blocks: list[tuple[list[Node], float, float]] = []  # nodes, left end, width
    for node in row:
        block = ([node], desired[node] - size[node] / 2, size[node])
        while blocks and blocks[-1][1] + blocks[-1][2] > block[1] + 1e-9:
            nodes, left, width = blocks.pop()
            weight = len(nodes) / (len(nodes) + len(block[0]))
            start = weight * left + (1 - weight) * (block[1] - width)
            block = (nodes + block[0], start, width + block[2])
        blocks.append(block)
    for nodes, left, _ in blocks:
        for node in nodes:
            x[node] = left + size[node] / 2
            left += size[node]
