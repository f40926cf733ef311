"""The comparison with a printed table, as a part of the report; papers/ makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prunebench.report.table import Table


@dataclass(frozen=True)
class Printed:
    """The comparison as a table, and the number of its rows by verdict."""

    table: Table
    verdicts: Mapping[str, int]

    def __str__(self) -> str:
        """Return the verdicts in words.

        >>> print(Printed(Table("T", "", (), ()), {"agrees": 2, "not run": 1}))
        Rows of the printed table by verdict: agrees 2, not run 1.
        """
        counts = ", ".join(f"{verdict} {count}" for verdict, count in self.verdicts.items())
        return f"Rows of the printed table by verdict: {counts}."
