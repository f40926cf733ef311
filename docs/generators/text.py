"""Pieces of Markdown that several generators use."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from prunebench.report.table_formats import markdown_table

LONG = 12  # rows of a table that is shown at once


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int]) -> str:
    """Return a pipe table; columns in `numbers` are right-aligned, an empty cell is a dash."""
    filled = [[cell or "–" for cell in row] for row in rows]
    return markdown_table([head, *filled], numbers)


def prose(docstring: str) -> str:
    r"""Return a docstring as Markdown: brackets are brackets, not links.

    >>> prose("[one]: at most 3, see [two](x.md)")
    '\\[one]: at most 3, see [two](x.md)'
    """
    return re.sub(r"\[(?=[^\]\n]*\](?!\())", r"\\[", docstring)


def folded(title: str, content: str, is_open: bool = False) -> str:
    """Return content that a click unfolds."""
    indented = "\n".join(f"    {line}".rstrip() for line in content.splitlines())
    return f'???{"+" if is_open else ""} note "{title}"\n\n{indented}\n'


def table_or_folded(
    title: str, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int]
) -> str:
    """Return a table; a long one is folded and says how many rows it has."""
    made = table(head, rows, numbers)
    return made if len(rows) <= LONG else folded(f"{title}: {len(rows)} rows", made)


def join(*parts: str) -> str:
    """Return the parts that are not empty as paragraphs."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"
