"""Compare every printed cost with the cost of the recipe's structure, without training.

The status of a cell is computed, never declared. A cell agrees if the paper's own convention
yields the printed digits, is explained if another rule of its entry does, is undetermined if its
structure is not known, and is unexplained otherwise.
"""

from __future__ import annotations

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
from prunebench.papers.structures import CountedStructure, Entry, PaperStructures, text_of

Status = Literal["agree", "explained", "undetermined", "unexplained"]
STATUSES: tuple[Status, ...] = ("agree", "explained", "undetermined", "unexplained")
Counts = Mapping[CountedStructure, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class CostCell:
    """One printed cost with its status; `computed` is None if nothing could be computed."""

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
    """Return every structure whose counts `compare` needs, unpruned networks included."""
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
    """Return every unpruned network of the files, by paper and the paper's name for it."""
    return {
        (paper, name): CountedStructure.model_validate(network.model_dump())
        for paper, file in structures.items()
        for name, network in file.networks.items()
    }


def compare(
    rows: Sequence[PublishedRow],
    structures: Mapping[str, PaperStructures],
    counts: Counts,
    all_rows: Sequence[PublishedRow] = (),
) -> list[CostCell]:
    """Return every printed cost of the rows, in their order, with its status.

    `counts` holds each quantity of the `wanted` structures. Rules may read other rows: `all_rows`,
    by default `rows`.
    """
    cells = []
    for row in rows:
        file = structures[row.paper]
        entry = file.entry_of(row)
        for column, printed in row.printed().items():
            if entry is not None and column in entry.cells:
                judge = _Judge(row, entry, file, all_rows or rows, counts)
                cells.append(judge.judge(column, printed))
                continue
            where = f"published_structures/{row.paper}.yaml"
            reason = f"the entry in {where} has no rule for the column"
            if entry is None:
                reason = f"no entry of {where} fits the row"
            unexplained = CostCell(
                row=row, column=column, printed=printed, status="unexplained", reason=reason
            )
            cells.append(unexplained)
    return cells


@dataclass(frozen=True)
class _Judge:
    """Finds the status of the cells of one row."""

    row: PublishedRow
    entry: Entry
    file: PaperStructures
    rows: Sequence[PublishedRow]
    counts: Counts

    def judge(self, column: str, printed: Decimal) -> CostCell:
        """Return the cell with the status of the first rule that yields its digits."""
        cell = self.entry.cells[column]  # type: ignore[index]
        rules = [*([cell.by] if cell.by else []), *cell.otherwise]
        first: CostCell | None = None
        for rule in rules:
            status: Status = "agree" if rule is cell.by else "explained"
            value, how = self.apply(rule, column, printed)
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
        return self._without_rule(cell, first, column, printed)

    def _without_rule(
        self, cell: Cell, first: CostCell | None, column: str, printed: Decimal
    ) -> CostCell:
        """Return the cell if no rule yields it, with the value of the first rule."""
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

    def apply(self, rule: Rule, column: str, printed: Decimal) -> tuple[float, str]:
        """Return the rule's value and how it prints as the cell; empty if it does not."""
        quantum = self.quantum(column, printed)
        base, kept = self.base(rule), self.kept(rule)
        if rule.rounded:
            base, kept = rule.rounded.apply(base), rule.rounded.apply(kept)
        value = as_column(column, kept, base)
        how = how_printed(value, printed, quantum, self.entry.digits, swap=rule.swap)
        if not how and rule.column and not rule.row and self._within(rule, column, printed, base):
            how = "within the rounding of that column"
        return value, how

    def _within(self, rule: Rule, column: str, printed: Decimal, base: float) -> bool:
        """Whether some number that prints as the column the rule reads yields this cell."""
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
        """Return the kept amount according to the rule, in millions."""
        if rule.share is not None:
            return rule.share * self.base(rule)
        if rule.column is None:
            return self._count(self.file.structure_of(self.row, self.entry), rule)
        other = self._other(rule) if rule.row else self.row
        value = rule.instead or self.printed_in(other, rule)
        base = self.base(rule)
        return base * kept_share(rule.column, float(value), base)

    def printed_in(self, row: PublishedRow, rule: Rule) -> Decimal:
        """Return a row's printed value of the rule's column; ConfigError if it has none."""
        column = rule.column or ""
        if column in RATIO_KINDS:
            fits = row.ratio_kind_printed == RATIO_KINDS[column]
            value = row.ratio_printed if fits else None
        else:
            value = row.printed().get(column)
        if value is None:
            raise self._error(f"a rule reads {column}, which the row does not print")
        return value

    def _count(self, structure: CountedStructure | None, rule: Rule) -> float:
        if structure is None:
            raise self._error("a rule needs a network, but the entry names none")
        if rule.of not in self.counts[structure]:
            raise self._error(f"a closed form does not determine {rule.of}")
        return self.counts[structure][rule.of] / 1e6

    def _other(self, rule: Rule) -> PublishedRow:
        if unknown := next((n for n in rule.row if n not in PublishedRow.model_fields), None):
            raise self._error(f"{unknown!r} is not a column of published rows")
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
        where = (
            f"published_structures/{row.paper}.yaml: {row.table}, {row.architecture}, {row.method}"
        )
        return ConfigError(f"{where}: {problem}")
