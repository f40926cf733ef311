from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from prunebench.channels.drawing_layout import LANE, layout_of

GRAPHS = {
    "chain": (3, [(0, 1), (1, 2)]),
    "residual": (4, [(0, 1), (1, 2), (0, 3), (2, 3)]),
    "four branches": (6, [(0, n) for n in range(1, 5)] + [(n, 5) for n in range(1, 5)]),
    "dense": (6, list(combinations(range(6), 2))),
    "apart": (4, [(0, 2), (1, 3)]),
    "crossed": (6, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5), (4, 5), (1, 5)]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_edges_lead_down_and_bend_in_each_row(name: str) -> None:
    n_nodes, edges = GRAPHS[name]
    layout = layout_of(n_nodes, edges)
    assert set(layout.lines) == set(edges)
    for (start, end), line in layout.lines.items():
        assert (line[0], line[-1]) == (layout.places[start], layout.places[end])
        assert all(b[1] == a[1] + 1 for a, b in pairwise(line))


@pytest.mark.parametrize("name", GRAPHS)
def test_neither_nodes_nor_lines_lie_on_a_node(name: str) -> None:
    n_nodes, edges = GRAPHS[name]
    layout = layout_of(n_nodes, edges)
    for (x, row), (other_x, other_row) in combinations(layout.places.values(), 2):
        assert row != other_row or abs(x - other_x) >= 1 - 1e-6
    for line in layout.lines.values():
        for x, row in line[1:-1]:
            for node_x, node_row in layout.places.values():
                assert row != node_row or abs(x - node_x) >= (1 + LANE) / 2 - 1e-6


def test_a_chain_is_a_straight_line() -> None:
    assert layout_of(3, [(0, 1), (1, 2)]).places == {0: (0.5, 0), 1: (0.5, 1), 2: (0.5, 2)}


def test_a_shortcut_runs_beside_its_block() -> None:
    layout = layout_of(4, [(0, 1), (1, 2), (0, 3), (2, 3)])
    assert layout.places[1][0] == pytest.approx(layout.places[2][0])
    assert layout.width == pytest.approx(1 + LANE)
    assert layout.rows == 4


def test_a_graph_without_edges_is_one_row() -> None:
    assert {row for _, row in layout_of(3, []).places.values()} == {0}
