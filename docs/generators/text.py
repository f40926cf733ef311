"""Pieces of Markdown that several generators use."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

LONG = 12  # rows of a table that is shown at once


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int]) -> str:
    """Return a pipe table; columns in `numbers` are right-aligned, an empty cell is a dash.

    Cells are Markdown, so that they can hold links and code.
    """
    rule = ["---:" if i in numbers else "---" for i in range(len(head))]
    lines = [head, rule, *([(cell or "–").replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def styled(name: str, content: str) -> str:
    """Return content in a block of a class of docs/style.css."""
    return f'<div class="{name}" markdown>\n\n{content}\n</div>\n'


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
    made = styled("numbers", table(head, rows, numbers))
    return made if len(rows) <= LONG else folded(f"{title}: {len(rows)} rows", made)


def join(*parts: str) -> str:
    """Return the parts that are not empty as paragraphs."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"
