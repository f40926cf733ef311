"""A picture of a network: its layers, how they are connected, coupled ones in one color.

The body of a layer has the color of the channels that it produces, the strip above it that of
the channels that it reads. Only groups with several producers, grouped convolutions included,
have a color; all others are white, what cannot leave is grey.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import cycle, pairwise

from prunebench.channels.flow import NETWORK_INPUT, Join, Sources
from prunebench.channels.groups import ChannelGraph, ChannelGroup
from prunebench.channels.layout import Layout, lay_out

# After the palette of Okabe and Ito, which color-blind readers can tell apart, light enough for
# dark letters; neighbors in the list differ most, since neighbors in a network have them.
COLORS = ("#56b4e9", "#f0b33c", "#5cc7a0", "#e69ac2", "#f5ec7a", "#e88d5a", "#a6b8e8", "#b9d86b")
ALONE, FROZEN, INK, SOFT, LINE = "#ffffff", "#c9ced4", "#1b1f24", "#5b6672", "#8793a0"

BOX, HEIGHT, PITCH = 168.0, 22.0, 38.0  # width and height of a layer, distance of rows
LANE = BOX + 16.0  # of a node, with the space beside it
GUTTER, MARGIN = 36.0, 14.0
ROWS = 36  # of a column; a deeper network goes on beside it
SLACK = 5  # rows by which a column may be longer or shorter than even parts
SIGNS = {"sum": "+", "product": "×", "concatenation": "‖"}
LEGEND = 8  # groups named above the picture


@dataclass(frozen=True)
class Shape:
    """A node: a layer, by its first call, or a join by its sign."""

    weight: str = ""
    sign: str = ""


def draw(graph: ChannelGraph, title: str) -> str:
    """Return the picture as an SVG document."""
    shapes, edges = nodes_of(graph)
    layout = lay_out(len(shapes), edges)
    colors = colors_of(graph)
    starts = column_starts(layout)
    columns, rows = len(starts), max(b - a for a, b in pairwise([*starts, layout.rows]))
    legend = [*legend_of(graph, colors)]
    head = 30.0 + 18.0 * math.ceil(len(legend) / 2) + 12.0
    width = max(
        2 * MARGIN + columns * layout.width * LANE + (columns - 1) * GUTTER, 2 * MARGIN + 640.0
    )
    canvas = Canvas(layout, starts, head)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
        f'height="{head + rows * PITCH + MARGIN:.0f}" font-family="DejaVu Sans, sans-serif" '
        f'font-size="10">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" fill="{ALONE}"/>',
        f'<text x="{MARGIN}" y="20" font-size="13" fill="{INK}">{escape(title)}</text>',
        *(
            swatch(MARGIN + 330.0 * (number % 2), 30.0 + 18.0 * (number // 2), color, words)
            for number, (color, words) in enumerate(legend)
        ),
        *(canvas.line(edge) for edge in layout.lines),
        *(canvas.node(number, shape, graph, colors) for number, shape in enumerate(shapes)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def nodes_of(graph: ChannelGraph) -> tuple[list[Shape], list[tuple[int, int]]]:
    """Return layers and joins in an order in which edges lead on, and the edges.

    Calls of one weight are nodes of their own: a layer that is shared is drawn wherever it works.
    """
    shapes = [Shape(sign="input")]
    edges: list[tuple[int, int]] = []
    made: dict[Sources, int] = {frozenset((NETWORK_INPUT,)): 0}
    joins = joins_by_result(graph.flow.joins)

    def node(sources: Sources) -> int:
        """Return the node that brings these sources together, made if there is none."""
        if sources not in made:
            join = joins.get(sources)
            parts = parts_of(join, joins) if join else [frozenset((s,)) for s in sorted(sources)]
            before = [node(part) for part in parts]
            shapes.append(Shape(sign=SIGNS[join.kind] if join else "·"))
            made[sources] = len(shapes) - 1
            edges.extend((start, made[sources]) for start in before)
        return made[sources]

    for number, (call, reads) in enumerate(zip(graph.calls, graph.flow.reads, strict=True)):
        start = node(reads) if reads else None
        shapes.append(Shape(weight=call.weight))
        made[frozenset((number,))] = len(shapes) - 1
        if start is not None:
            edges.append((start, len(shapes) - 1))
    return shapes, edges


def joins_by_result(joins: Iterable[Join]) -> dict[Sources, Join]:
    """Return the first join that brings each set of sources together."""
    found: dict[Sources, Join] = {}
    for join in joins:
        found.setdefault(frozenset[int]().union(*join.operands), join)
    return found


def parts_of(join: Join, joins: dict[Sources, Join]) -> list[Sources]:
    """Return what a join brings together; what an earlier one has joined already is one part.

    A dense block joins all its layers anew for each of them, which nobody could follow in lines.
    """
    parts = list(dict.fromkeys(join.operands))
    for n in range(len(parts) - 1, 1, -1):
        joined = frozenset[int]().union(*parts[:n])
        if joined in joins and joins[joined].kind == join.kind:
            return [joined, *parts[n:]]
    whole = frozenset[int]().union(*parts)
    return [part for part in parts if part != whole] or [frozenset((s,)) for s in sorted(whole)]


def colors_of(graph: ChannelGraph) -> dict[str, str]:
    """Return the color of every group."""
    shades = cycle(COLORS)
    colors = dict.fromkeys(graph.frozen, FROZEN)
    for name, group in graph.groups.items():
        colors[name] = next(shades) if len(makers(group)) > 1 else ALONE
    return colors


def makers(group: ChannelGroup) -> list[str]:
    """Return the weights that produce a group's units or pass them on."""
    return [member.parameters[0] for member in group.members if member.role in ("out", "pass")]


def legend_of(graph: ChannelGraph, colors: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield colors with words."""
    coupled = [group for group in graph.groups.values() if colors[group.name] != ALONE]
    for group in coupled[:LEGEND]:
        n = len(makers(group))
        yield colors[group.name], f"{group.name}: {group.n_units} units of {n} coupled layers"
    if len(coupled) > LEGEND:
        yield ALONE, f"and {len(coupled) - LEGEND} groups more; colors come again"
    yield ALONE, "white: leaves alone"
    yield FROZEN, "grey: cannot leave"


def swatch(x: float, y: float, color: str, words: str) -> str:
    """Return a line of the legend."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="18" height="11" rx="2" fill="{color}" '
        f'stroke="{LINE}" stroke-width="0.7"/>'
        f'<text x="{x + 25:.1f}" y="{y + 9.5:.1f}" fill="{SOFT}">{escape(words)}</text>'
    )


def column_starts(layout: Layout) -> list[int]:
    """Return the row with which each column starts: near even parts, where few lines cross."""
    crossing: list[set[float]] = [set() for _ in range(layout.rows)]  # where lines come from
    for line in layout.lines.values():
        for (x, _), (_, row) in pairwise(line):
            crossing[row].add(x)
    columns = math.ceil(layout.rows / ROWS)
    starts = [0]
    for number in range(1, columns):
        even = round(number * layout.rows / columns)
        near = range(max(even - SLACK, starts[-1] + 1), min(even + SLACK + 1, layout.rows))
        starts.append(min(near, key=lambda row: (len(crossing[row]), abs(row - even))))
    return starts


@dataclass(frozen=True)
class Canvas:
    """A layout on paper, folded into columns that start with the rows `starts`."""

    layout: Layout
    starts: list[int]
    head: float

    def point(self, x: float, row: int) -> tuple[float, float]:
        """Return the middle of a place in pixels."""
        column = bisect_right(self.starts, row) - 1
        row -= self.starts[column]
        left = MARGIN + column * (self.layout.width * LANE + GUTTER)
        return left + x * LANE, self.head + (row + 0.5) * PITCH

    def line(self, edge: tuple[int, int]) -> str:
        """Return the line of an edge; it leaves below a node and arrives above one."""
        places = self.layout.lines[edge]
        path = ""
        for (x, row), (next_x, next_row) in pairwise(places):
            ax, ay = self.point(x, row)
            bx, by = self.point(next_x, next_row)
            path += f"M{ax:.1f} {ay:.1f}" if not path else f"L{ax:.1f} {ay:.1f}"
            if by > ay:
                middle = (ay + by) / 2
                path += f"C{ax:.1f} {middle:.1f} {bx:.1f} {middle:.1f} {bx:.1f} {by:.1f}"
            else:  # into the next column, through the gutter
                gutter = self.point(self.layout.width, row)[0] + GUTTER / 2
                path += f"V{ay + PITCH / 2:.1f}H{gutter:.1f}V{by - PITCH / 2:.1f}H{bx:.1f}V{by:.1f}"
        return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1"/>'

    def node(self, number: int, shape: Shape, graph: ChannelGraph, colors: dict[str, str]) -> str:
        """Return a layer's box or a join's sign."""
        x, y = self.point(*self.layout.places[number])
        if shape.weight:
            return box(x, y, shape.weight, graph, colors)
        if shape.sign == "input":
            words = f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle" fill="{SOFT}">'
            return (
                f'<rect x="{x - 30:.1f}" y="{y - 9:.1f}" width="60" height="18" rx="9" '
                f'fill="{ALONE}" stroke="{LINE}"/>{words}input</text>'
            )
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{ALONE}" stroke="{LINE}"/>'
            f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle" fill="{INK}">'
            f"{shape.sign}</text>"
        )


def box(x: float, y: float, weight: str, graph: ChannelGraph, colors: dict[str, str]) -> str:
    """Return a layer: the colors of what it produces, a strip of those it reads, name, width."""
    produced, read = shares(graph, weight, ("out", "pass")), shares(graph, weight, ("in", "pass"))
    left, top = x - BOX / 2, y - HEIGHT / 2
    name = weight.removesuffix(".weight")
    groups = ", ".join(dict.fromkeys(group for group, _ in produced)) or "not followed"
    n = sum(count for _, count in produced)
    return "".join(
        [
            f"<g><title>{escape(name)}: {escape(groups)}</title>",
            *bands(left, top, HEIGHT, produced, colors),
            *bands(left, top, 5.0, read, colors),
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{BOX}" height="{HEIGHT}" rx="3" '
            f'fill="none" stroke="{SOFT}" stroke-width="0.8"/>',
            f'<text x="{left + 6:.1f}" y="{y + 6.5:.1f}" fill="{INK}">{escape(short(name))}</text>',
            f'<text x="{left + BOX - 6:.1f}" y="{y + 6.5:.1f}" text-anchor="end" fill="{SOFT}">'
            f"{n or ''}</text></g>",
        ]
    )


def bands(
    left: float, top: float, height: float, parts: list[tuple[str, int]], colors: dict[str, str]
) -> Iterator[str]:
    """Yield rectangles side by side, as wide as the groups' shares."""
    total = sum(count for _, count in parts)
    if not total:
        parts, total = [("", 1)], 1
    for group, count in parts:
        wide = BOX * count / total
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{height}" '
            f'fill="{colors.get(group, FROZEN)}"/>'
        )
        left += wide


def shares(graph: ChannelGraph, weight: str, roles: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return the groups of a weight's channels in these roles, with how many are theirs."""
    return [
        (group.name, member.index.numel())
        for group in (*graph.groups.values(), *graph.frozen.values())
        for member in group.members
        if weight in member.parameters and member.role in roles
    ]


def short(name: str, letters: int = 22) -> str:
    """Return the end of a path that is too long for its box.

    >>> short("features.denseblock3.denselayer12.conv2")
    '…k3.denselayer12.conv2'
    """
    return name if len(name) <= letters else "…" + name[1 - letters :]
