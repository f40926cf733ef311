"""The papers' printed costs, cell by cell, against what the recipes' structures cost.

Nothing here is trained. A status is found, never written down: a cell agrees if the paper's own
convention yields its digits, is explained if another rule of the table's entry does, is
undetermined if its structure is not given, and is unexplained if none of that holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from prunebench.core.errors import ConfigError
from prunebench.papers.cost_rules import (
    RATIO_KINDS,
    Cell,
    Rule,
    as_column,
    how_printed,
    kept_share,
    quantum_of,
    spread,
)
from prunebench.papers.published import PublishedRow
from prunebench.papers.structure_files import Entry, PaperStructures, text_of
from prunebench.papers.structures import CountedStructure

Status = Literal["agree", "explained", "undetermined", "unexplained"]
STATUSES: tuple[Status, ...] = ("agree", "explained", "undetermined", "unexplained")
Counts = Mapping[CountedStructure, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class CostCell:
    """One printed cost and what became of it; `computed` is None where nothing was computed."""

    row: PublishedRow
    column: str
    printed: Decimal
    computed: float | None = None
    convention: str = ""
    status: Status
    reason: str = ""


def wanted(
    rows: Iterable[PublishedRow], structures: Mapping[str, PaperStructures]
) -> list[CountedStructure]:
    """Return every structure whose counts `compare` will ask for, bases included."""
    found: dict[CountedStructure, None] = {}
    for row in rows:
        file = structures[row.paper]
        entry = file.entry_of(row)
        if entry is None or not row.printed():
            continue
        for structure in (file.base_of(row, entry), file.structure_of(row, entry)):
            if structure is not None:
                found[structure] = None
    return list(found)


def base_networks(
    structures: Mapping[str, PaperStructures],
) -> dict[tuple[str, str], CountedStructure]:
    """Return every network of the files, whole, by paper and the paper's name for it."""
    return {
        (paper, name): CountedStructure.model_validate(network.model_dump())
        for paper, file in structures.items()
        for name, network in file.networks.items()
    }


def compare(
    rows: Sequence[PublishedRow],
    structures: Mapping[str, PaperStructures],
    counts: Counts,
    neighbours: Sequence[PublishedRow] = (),
) -> list[CostCell]:
    """Return every printed cost cell of the rows, in their order, with its status.

    `counts` holds each quantity of what `wanted` returned; `neighbours` are the rows that rules
    may read, without them `rows` themselves.
    """
    cells = []
    for row in rows:
        file = structures[row.paper]
        entry = file.entry_of(row)
        for column, printed in row.printed().items():
            if entry is None:
                reason = f"no entry of structures/{row.paper}.yaml fits the row"
                cells.append(_unexplained(row, column, printed, reason))
            elif column not in entry.cells:
                reason = f"its entry in structures/{row.paper}.yaml has no rule for the column"
                cells.append(_unexplained(row, column, printed, reason))
            else:
                cells.append(
                    _Judge(row, entry, file, neighbours or rows, counts).judge(column, printed)
                )
    return cells


def _unexplained(row: PublishedRow, column: str, printed: Decimal, reason: str) -> CostCell:
    return CostCell(row=row, column=column, printed=printed, status="unexplained", reason=reason)


@dataclass(frozen=True)
class _Judge:
    """What the cells of one row are judged with."""

    row: PublishedRow
    entry: Entry
    file: PaperStructures
    rows: Sequence[PublishedRow]
    counts: Counts

    def judge(self, column: str, printed: Decimal) -> CostCell:
        """Try the cell's rules in their order."""
        cell = self.entry.cells[column]  # type: ignore[index]
        rules = [*([cell.by] if cell.by else []), *cell.otherwise]
        first: CostCell | None = None
        for rule in rules:
            status: Status = "agree" if rule is cell.by else "explained"
            value, how = self.follow(rule, column, printed)
            found = CostCell(
                row=self.row,
                column=column,
                printed=printed,
                computed=value,
                convention=f"{rule.words}; {how}" if how else rule.words,
                status=status if how else "unexplained",
                reason=rule.reason if how and status == "explained" else "",
            )
            if how:
                return found
            first = first or found
        return self._left(cell, first, column, printed)

    def _left(self, cell: Cell, first: CostCell | None, column: str, printed: Decimal) -> CostCell:
        """Return the cell that followed from no rule, with the value of the first one."""
        status: Status = "undetermined" if cell.undetermined else "unexplained"
        target = cell.by is not None and cell.undetermined != ""
        return CostCell(
            row=self.row,
            column=column,
            printed=printed,
            computed=first.computed if first and (target or status == "unexplained") else None,
            convention=first.convention if first else "",
            status=status,
            reason=cell.undetermined or "no rule yields the printed digits",
        )

    def follow(self, rule: Rule, column: str, printed: Decimal) -> tuple[float, str]:
        """Return what the rule yields, and in which way that prints as the cell, if it does."""
        quantum = self.quantum(column, printed)
        base, kept = self.base(rule), self.kept(rule)
        if rule.rounded:
            base, kept = rule.rounded.apply(base), rule.rounded.apply(kept)
        value = as_column(column, kept, base)
        how = how_printed(value, printed, quantum, self.entry.digits, swap=rule.swap)
        if not how and rule.column and not rule.row and self._within(rule, column, printed, base):
            how = "within the rounding of what is printed there"
        return value, how

    def _within(self, rule: Rule, column: str, printed: Decimal, base: float) -> bool:
        """Whether some number that prints as the other cell of this row yields this one."""
        other = rule.instead or self.printed_in(self.row, rule)
        ends = [
            as_column(column, base * kept_share(rule.column or "", end, base), base)
            for end in spread(other, self.quantum(rule.column or "", other), self.entry.digits)
        ]
        low, high = spread(printed, self.quantum(column, printed), self.entry.digits)
        return min(ends) <= high and low <= max(ends)

    def quantum(self, column: str, printed: Decimal) -> Decimal:
        """Return the value of the last printed digit."""
        return self.entry.quantum.get(column, quantum_of(printed))  # type: ignore[call-overload,no-any-return]

    def base(self, rule: Rule) -> float:
        """Return the base's count in millions."""
        return self._count(self.file.base_of(self.row, self.entry), rule)

    def kept(self, rule: Rule) -> float:
        """Return what the rule says is left, in millions."""
        if rule.share is not None:
            return rule.share * self.base(rule)
        if rule.column is None:
            return self._count(self.file.structure_of(self.row, self.entry), rule)
        other = self._other(rule) if rule.row else self.row
        value = rule.instead or self.printed_in(other, rule)
        base = self.base(rule)
        return base * kept_share(rule.column, float(value), base)

    def printed_in(self, row: PublishedRow, rule: Rule) -> Decimal:
        """Return what a row prints in the column that a rule reads; ConfigError if nothing."""
        column = rule.column or ""
        if column in RATIO_KINDS:
            fits = row.ratio_kind_printed == RATIO_KINDS[column]
            value = row.ratio_printed if fits else None
        else:
            value = row.printed().get(column)
        if value is None:
            raise self._error(f"{column} is not printed in the row that a rule reads")
        return value

    def _count(self, structure: CountedStructure | None, rule: Rule) -> float:
        if structure is None:
            raise self._error("the entry names no network, which one of its rules needs")
        if rule.of not in self.counts[structure]:
            raise self._error(f"{rule.of} does not follow from a closed form")
        return self.counts[structure][rule.of] / 1e6

    def _other(self, rule: Rule) -> PublishedRow:
        if unknown := next((n for n in rule.row if n not in PublishedRow.model_fields), None):
            raise self._error(f"{unknown!r} is no column of a published row")
        fitting = [
            row
            for row in self.rows
            if all(text_of(row, name) == value for name, value in rule.row.items())
        ]
        values = {self.printed_in(row, rule) for row in fitting}
        if len(values) != 1:
            raise self._error(f"{len(fitting)} rows fit {rule.row}, with {len(values)} values")
        return fitting[0]

    def _error(self, problem: str) -> ConfigError:
        row = self.row
        where = f"structures/{row.paper}.yaml: {row.table}, {row.architecture}, {row.method}"
        return ConfigError(f"{where}: {problem}")


def tally(cells: Iterable[CostCell]) -> dict[str, Counter[str]]:
    """Return how many cells of each paper have which status."""
    counts: dict[str, Counter[str]] = {}
    for cell in cells:
        counts.setdefault(cell.row.paper, Counter())[cell.status] += 1
    return counts
