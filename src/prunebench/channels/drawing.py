"""Draw a network: its layers, their connections, and coupled layers in one color.

`as_svg` needs no other program; `as_dot` returns text for Graphviz, which makes any other format.
The body of a layer has the color of the channels that it produces; in an SVG, the strip above it
has the color of the channels that it reads. Only groups with several producers, grouped
convolutions included, have a color. All others are white, and groups that cannot be pruned are
grey.
"""

from __future__ import annotations

import colorsys
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from prunebench.channels.drawing_layout import Layout, layout_of
from prunebench.channels.flow import NETWORK_INPUT, Join, Sources
from prunebench.channels.groups import ChannelGraph, ChannelGroup

# Derived from the palette of Okabe and Ito, which color-blind readers can distinguish; light enough
# for dark letters. Neighbors in the list differ most, since they are neighbors in a network.
COLORS = ("#56b4e9", "#f0b33c", "#5cc7a0", "#e69ac2", "#f5ec7a", "#e88d5a", "#a6b8e8", "#b9d86b")
ALONE, FROZEN, INK, SOFT, LINE = "#ffffff", "#c9ced4", "#1b1f24", "#5b6672", "#8793a0"

BOX, HEIGHT, PITCH = 168.0, 22.0, 38.0  # width and height of a layer, distance of rows
LANE = BOX + 16.0  # width of a node, including the space beside it
GUTTER, MARGIN = 36.0, 14.0
LETTERS = 26  # in a box: name and number of channels
ROWS = 36  # per column; a deeper network continues in further columns
SLACK = 5  # rows by which a column may be longer or shorter than the mean
SIGNS = {"sum": "+", "product": "×", "concatenation": "‖"}
LEGEND = 8  # groups named above the picture


@dataclass(frozen=True)
class Node:
    """A layer, given by its weight, or a join, given by its sign."""

    weight: str = ""
    sign: str = ""

    @property
    def name(self) -> str:
        """Return the path of the layer, or the sign."""
        return self.weight.removesuffix(".weight") or self.sign


@dataclass(frozen=True)
class Style:
    """Color of a group; a number as well if there are more groups than colors."""

    color: str
    number: str = ""


def as_svg(graph: ChannelGraph, title: str) -> str:
    """Return the picture as an SVG document."""
    nodes, edges = nodes_of(graph)
    layout = layout_of(len(nodes), edges)
    styles = styles_of(graph)
    starts = column_starts(layout)
    columns, rows = len(starts), max(b - a for a, b in pairwise([*starts, layout.rows]))
    legend = [*legend_of(graph, styles)]
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
        *(canvas.node(number, node, graph, styles) for number, node in enumerate(nodes)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def as_dot(graph: ChannelGraph, title: str) -> str:
    """Return the picture as a directed graph in Graphviz's DOT language."""
    nodes, edges = nodes_of(graph)
    styles = styles_of(graph)
    lines = [
        f"digraph {json.dumps(title, ensure_ascii=False)} {{",
        f'node [shape=box, style=filled, fillcolor="{ALONE}", fontname="DejaVu Sans"]',
    ]
    for number, node in enumerate(nodes):
        options = f"label={json.dumps(node.name, ensure_ascii=False)}"
        if node.weight:
            parts = shares(graph, node.weight, ("out", "pass")) or [("", 1)]
            label = json.dumps(f"{node.name}\n{width_of(parts, styles)}", ensure_ascii=False)
            total = sum(count for _, count in parts)
            fill = ":".join(f"{style_of(g, styles).color};{n / total:.4f}" for g, n in parts)
            options = f"label={label}, style={'striped' if len(parts) > 1 else 'filled'}, "
            options += f'fillcolor="{fill if len(parts) > 1 else fill.partition(";")[0]}"'
        lines.append(f"{number} [{options}]")
    lines += [f"{start} -> {end}" for start, end in dict.fromkeys(edges)]
    return "\n".join([*lines, "}"]) + "\n"


def nodes_of(graph: ChannelGraph) -> tuple[list[Node], list[tuple[int, int]]]:
    """Return layers and joins in topological order, and the edges between them.

    Each call of a weight is a node: a shared layer is drawn at each of its uses.
    """
    nodes = [Node(sign="input")]
    edges: list[tuple[int, int]] = []
    made: dict[Sources, int] = {frozenset((NETWORK_INPUT,)): 0}
    joins = joins_by_result(graph.flow.joins)

    def node_for(sources: Sources) -> int:
        """Return the node that joins these sources; make it if there is none."""
        if sources not in made:
            join = joins.get(sources)
            parts = parts_of(join, joins) if join else [frozenset((s,)) for s in sorted(sources)]
            before = [node_for(part) for part in parts]
            nodes.append(Node(sign=SIGNS[join.kind] if join else "·"))
            made[sources] = len(nodes) - 1
            edges.extend((start, made[sources]) for start in before)
        return made[sources]

    for number, (call, reads) in enumerate(zip(graph.calls, graph.flow.reads, strict=True)):
        start = node_for(reads) if reads else None
        nodes.append(Node(weight=call.weight))
        made[frozenset((number,))] = len(nodes) - 1
        if start is not None:
            edges.append((start, len(nodes) - 1))
    return nodes, edges


def joins_by_result(joins: Iterable[Join]) -> dict[Sources, Join]:
    """Return the first join of each set of sources."""
    found: dict[Sources, Join] = {}
    for join in joins:
        found.setdefault(frozenset[int]().union(*join.operands), join)
    return found


def parts_of(join: Join, joins: dict[Sources, Join]) -> list[Sources]:
    """Return the operands of a join; operands that an earlier join has joined are one part.

    A dense block joins all its layers again for each new layer, which would give too many lines.
    """
    parts = list(dict.fromkeys(join.operands))
    for n in range(len(parts) - 1, 1, -1):
        joined = frozenset[int]().union(*parts[:n])
        if joined in joins and joins[joined].kind == join.kind:
            return [joined, *parts[n:]]
    whole = frozenset[int]().union(*parts)
    return [part for part in parts if part != whole] or [frozenset((s,)) for s in sorted(whole)]


def styles_of(graph: ChannelGraph) -> dict[str, Style]:
    """Return the style of every group."""
    styles = dict.fromkeys(graph.frozen, Style(FROZEN)) | dict.fromkeys(graph.groups, Style(ALONE))
    coupled = [name for name, group in graph.groups.items() if len(makers(group)) > 1]
    for n, name in enumerate(coupled):
        number = f"#{n + 1}" if len(coupled) > len(COLORS) else ""
        styles[name] = Style(color_of(n), number)
    return styles


def color_of(n: int) -> str:
    """Return the color of coupled group n; no two groups have the same, which would couple them.

    Beyond the palette, hues and lightness follow a sequence that fills the plane evenly
    (Roberts, 2018: multiples of 1/g and 1/g^2 with g^3 = g + 1), in paler colors.

    >>> color_of(0), color_of(8)
    ('#56b4e9', '#e4baae')
    """
    if n < len(COLORS):
        return COLORS[n]
    hue, lightness = n * 0.7548777 % 1, 0.72 + 0.12 * (n * 0.5698403 % 1)
    rgb = colorsys.hls_to_rgb(hue, lightness, 0.5)
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)


def style_of(group: str, styles: Mapping[str, Style]) -> Style:
    """Return the style of a group; channels that are not traced are in no group."""
    return styles.get(group, Style(FROZEN))


def makers(group: ChannelGroup) -> list[str]:
    """Return the weights that produce a group's units or pass them on."""
    return [member.parameters[0] for member in group.members if member.role in ("out", "pass")]


def shares(graph: ChannelGraph, weight: str, roles: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return the groups of a weight's channels in these roles, with their numbers of channels."""
    return [
        (group.name, member.index.numel())
        for group in (*graph.groups.values(), *graph.frozen.values())
        for member in group.members
        if weight in member.parameters and member.role in roles
    ]


def width_of(produced: list[tuple[str, int]], styles: Mapping[str, Style]) -> str:
    """Return the numbers of a layer's groups, if they have any, and its number of channels."""
    numbers = [style_of(group, styles).number for group, _ in produced]
    n = sum(count for group, count in produced if group)
    return " ".join([*filter(None, numbers), str(n or "")]).strip()


def legend_of(graph: ChannelGraph, styles: Mapping[str, Style]) -> Iterator[tuple[str, str]]:
    """Yield colors and their meaning."""
    coupled = [group for group in graph.groups.values() if styles[group.name].color != ALONE]
    for group in coupled[:LEGEND]:
        style, n = styles[group.name], len(makers(group))
        words = f"{group.name}: {group.n_units} units, {n} coupled layers"
        yield style.color, f"{style.number} {words}".strip()
    if len(coupled) > LEGEND:
        yield ALONE, f"{len(coupled) - LEGEND} more groups; layers of one group share the number"
    yield ALONE, "white: not coupled with other layers"
    yield FROZEN, "grey: cannot be pruned"


def swatch(x: float, y: float, color: str, words: str) -> str:
    """Return a line of the legend."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="18" height="11" rx="2" fill="{color}" '
        f'stroke="{LINE}" stroke-width="0.7"/>'
        f'<text x="{x + 25:.1f}" y="{y + 9.5:.1f}" fill="{SOFT}">{escape(words)}</text>'
    )


def column_starts(layout: Layout) -> list[int]:
    """Return the first row of each column: near equal lengths, at rows that few lines cross."""
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
    """A layout in pixels, folded into columns that begin at the rows `starts`."""

    layout: Layout
    starts: list[int]
    head: float

    def point(self, x: float, row: int) -> tuple[float, float]:
        """Return a position in pixels."""
        column = bisect_right(self.starts, row) - 1
        row -= self.starts[column]
        left = MARGIN + column * (self.layout.width * LANE + GUTTER)
        return left + x * LANE, self.head + (row + 0.5) * PITCH

    def line(self, edge: tuple[int, int]) -> str:
        """Return the line of an edge, from below its first node to above its second."""
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

    def node(
        self, number: int, node: Node, graph: ChannelGraph, styles: Mapping[str, Style]
    ) -> str:
        """Return a layer's box or a join's sign."""
        x, y = self.point(*self.layout.places[number])
        if node.weight:
            return box(x, y, node, graph, styles)
        text = f'<text x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle" fill="{INK}">'
        if node.sign == "input":
            outline = f'<rect x="{x - 30:.1f}" y="{y - 9:.1f}" width="60" height="18" rx="9" '
        else:
            outline = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" '
        return f'{outline}fill="{ALONE}" stroke="{LINE}"/>{text}{node.sign}</text>'


def box(x: float, y: float, node: Node, graph: ChannelGraph, styles: Mapping[str, Style]) -> str:
    """Return a layer: colors of the channels it produces and reads, name, number of channels."""
    produced = shares(graph, node.weight, ("out", "pass"))
    read = shares(graph, node.weight, ("in", "pass"))
    left, top = x - BOX / 2, y - HEIGHT / 2
    groups = ", ".join(dict.fromkeys(group for group, _ in produced)) or "not traced"
    width = width_of(produced, styles)
    return "".join(
        [
            f"<g><title>{escape(node.name)}: {escape(groups)}</title>",
            *bands(left, top, HEIGHT, produced, styles),
            *bands(left, top, 5.0, read, styles),
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{BOX}" height="{HEIGHT}" rx="3" '
            f'fill="none" stroke="{SOFT}" stroke-width="0.8"/>',
            f'<text x="{left + 6:.1f}" y="{y + 6.5:.1f}" fill="{INK}">'
            f"{escape(short(node.name, LETTERS - len(width)))}</text>",
            f'<text x="{left + BOX - 6:.1f}" y="{y + 6.5:.1f}" text-anchor="end" fill="{SOFT}">'
            f"{width}</text></g>",
        ]
    )


def bands(
    left: float,
    top: float,
    height: float,
    parts: list[tuple[str, int]],
    styles: Mapping[str, Style],
) -> Iterator[str]:
    """Yield rectangles side by side, with widths proportional to the groups' shares."""
    parts = parts or [("", 1)]
    total = sum(count for _, count in parts)
    for group, count in parts:
        wide = BOX * count / total
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{height}" '
            f'fill="{style_of(group, styles).color}"/>'
        )
        left += wide


def short(name: str, letters: int) -> str:
    """Return the end of a path that is longer than `letters`.

    >>> short("features.denseblock3.denselayer12.conv2", 22)
    '…k3.denselayer12.conv2'
    """
    return name if len(name) <= letters else "…" + name[1 - letters :]
