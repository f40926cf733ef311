"""Tables as Markdown, LaTeX and HTML."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from prunebench.report.table import DASH, MINUS, UNSTABLE, Cell, Column, Line, Section, Table

_PROSE_WIDTH = 0.4  # of a column, as a share of the text
_LATEX_PAGE_LINES = 40  # a longer table breaks over pages


def to_markdown(table: Table) -> str:
    """Return the table for GitHub: a heading and a pipe table per network.

    A table without a title is made to be embedded: its headings are bold lines.
    """
    parts = [f"# {_markdown_text(table.title)}\n", f"{table.legend}\n"] if table.title else []
    for section in table.sections:
        heading, subtitle = _markdown_text(section.heading), _markdown_text(section.subtitle)
        if table.title:
            parts += [f"## {heading}\n", f"{subtitle}\n"]
        else:
            parts.append(f"**{heading}** · {subtitle}\n")
        rows = [[_head(column) for column in table.columns]]
        rows += [[str(cell) for cell in line.cells] for line in section.lines]
        numbers = [i for i, column in enumerate(table.columns) if not column.is_text]
        parts.append(markdown_table(rows, numbers))
        notes = section.notes if table.title else (table.legend, *section.notes)
        parts.append("\n".join(f"- {_markdown_text(note)}" for note in notes) + "\n")
    return "\n".join(parts)


def markdown_table(lines: Sequence[Sequence[str]], numbers: Collection[int]) -> str:
    """Return a pipe table; the first line is the header, columns in `numbers` are right-aligned."""
    rows = [[_markdown_text(text) for text in line] for line in lines]
    widths = [max(4, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    right = [i in numbers for i in range(len(widths))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    padded = [
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [padded[0], rule, *padded[1:]]) + "\n"


def _head(column: Column) -> str:
    return f"{column.head} ({column.unit})" if column.unit else column.head


def _markdown_text(text: str) -> str:
    r"""Escape Markdown's markup; an underscore inside a word needs no escape.

    >>> print(_markdown_text("a_b | _c_"))
    a_b \| \_c\_
    """
    return re.sub(r"([|*`<&~\[\]\\]|\b_|_\b)", r"\\\1", text)


def to_latex(table: Table) -> str:
    """Return a complete document, with booktabs rules and siunitx columns."""
    environment = Environment(
        loader=PackageLoader("prunebench.report"),
        undefined=StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tex"] = latex_text
    environment.globals |= {
        "column_types": _latex_columns,
        "heads": _latex_heads,
        "row": _latex_row,
    }
    template = environment.get_template("table.tex.j2")
    return template.render(table=table, page_lines=_LATEX_PAGE_LINES)


def latex_text(text: str) -> str:
    r"""Escape text for LaTeX.

    >>> latex_text("greg_1 · 50 %")
    'greg\\_1 $\\cdot$ 50 \\%'
    """
    escapes = {"\\": r"\textbackslash{}", "·": r"$\cdot$", "±": r"$\pm$", "×": r"$\times$"}
    escapes |= {MINUS: "$-$", DASH: "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    escapes |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "Δ": r"$\Delta$"}
    escapes |= {symbol: "\\" + symbol for symbol in "&%$#_{}"}
    return "".join(escapes.get(symbol, symbol) for symbol in text)


def _latex_columns(table: Table, section: Section) -> str:
    """Return the column types: left-aligned text, and siunitx columns as wide as their numbers."""
    types = []
    for i, column in enumerate(table.columns):
        cells = [line.cells[i] for line in section.lines]
        match column.style:
            case "text":
                types.append("l")
            case "prose":
                types.append(rf"p{{{_PROSE_WIDTH}\textwidth}}")
            case "interval":
                types.append("r")
            case _:
                types.append(f"S[table-format={_table_format(cells)}]")
    return "".join(types)


def _table_format(cells: list[Cell]) -> str:
    """Return siunitx's table-format: digits before and after the point, of spread and exponent.

    >>> _table_format([Cell("98.89", "0.12"), Cell("−0.1", None), Cell()])
    '-2.2(2)'
    """
    numbers = [_plain(c.text) for c in cells if c.text != DASH and not c.is_unstable]
    mantissas, exponents = ([number.partition("e")[part] for number in numbers] for part in (0, 2))
    before = max((len(m.lstrip("-").partition(".")[0]) for m in mantissas), default=1)
    after = max((len(m.partition(".")[2]) for m in mantissas), default=0)
    spreads = [_plain(cell.spread).replace(".", "").lstrip("0") for cell in cells if cell.spread]
    sign = "-" if any(m.startswith("-") for m in mantissas) else ""
    digits = max(len(exponent.lstrip("-")) for exponent in exponents) if exponents else 0
    minus = "-" if any(exponent.startswith("-") for exponent in exponents) else ""
    power = f"e{minus}{digits}" if digits else ""
    spread = f"({max(1, *map(len, spreads))})" if spreads else ""
    return f"{sign}{before}.{after}{spread}{power}" if after else f"{sign}{before}{spread}{power}"


def _latex_heads(table: Table, part: Literal["head", "unit"]) -> str:
    return " & ".join(f"{{{latex_text(getattr(column, part))}}}" for column in table.columns)


def _latex_row(table: Table, line: Line) -> str:
    cells = zip(table.columns, line.cells, strict=True)
    return " & ".join(
        latex_text(cell.text)
        if column.is_text or column.style == "interval"
        else _latex_number(cell)
        for column, cell in cells
    )


def _latex_number(cell: Cell) -> str:
    """Return the content of a cell in a siunitx column; a dash and a range are text."""
    if cell.text == DASH:
        return "{--}"
    if cell.is_unstable:
        return rf"{{{latex_text(_plain(cell.text))}\textsuperscript{{{UNSTABLE}}}}}"
    spread = "" if cell.spread is None else rf" \pm {_plain(cell.spread)}"
    return _plain(cell.text) + spread


def _plain(text: str) -> str:
    return text.replace(MINUS, "-").replace("×", "")


def to_html(table: Table) -> str:
    """Return one self-contained page: sortable, readable on a phone and on paper."""
    return html_page("table.html.j2", table=table)


def html_page(template: str, **content: object) -> str:
    """Render one of the report's templates; inserted text is escaped."""
    return _html_environment().get_template(template).render(**content)


@cache
def _html_environment() -> Environment:
    return Environment(
        loader=PackageLoader("prunebench.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
