"""A table of texts on a page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlainTable:
    """A table of texts; the columns in `words` are left-aligned."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset({0})
    ids: tuple[str, ...] = ()  # of the columns, to link to
    row_ids: tuple[str, ...] = ()
