"""Runs without a result: missing.csv beside a runs.csv, and their place in the tables.

The workflow collects what is finished although some runs have failed. A cell without any run is a
row of dashes, and a note below the table gives the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from prunebench.core.files import read_csv, remove, write_csv
from prunebench.experiments.spec import run_parts
from prunebench.report.run_states import RunState
from prunebench.report.table import Cell, Column, Line, Section, Table

FILE = "missing.csv"


class MissingRun(NamedTuple):
    """A run without a result; the names are those of its path."""

    dataset: str
    architecture: str
    method: str
    setting: str
    ratio: str
    seed: str
    state: str  # failed, running or waiting
    reason: str

    @property
    def network(self) -> str:
        """Return data set and network as the heading of a section."""
        return f"{self.dataset} · {self.architecture}"

    @property
    def cell(self) -> tuple[str, str, str]:
        """Return what the run has in common with those of other seeds."""
        return self.method, self.setting, self.ratio


def write_missing(folder: Path, states: Iterable[RunState]) -> None:
    """Write missing.csv with the runs that are not done; remove it if there are none."""
    rows = []
    for one in states:
        parts = {**run_parts(one.path), "state": one.state, "reason": one.reason}
        rows.append({name: parts[name] for name in MissingRun._fields})
    if rows:
        write_csv(folder / FILE, MissingRun._fields, rows)
    else:
        remove(folder / FILE)


def read_missing(runs_csv: Path) -> list[MissingRun]:
    """Return the missing runs of a runs.csv; none if there is no file beside it."""
    path = runs_csv.with_name(FILE)
    if not path.exists():
        return []
    rows = read_csv(path, MissingRun._fields)
    return [MissingRun(*(row[name] for name in MissingRun._fields)) for row in rows]


def with_missing(table: Table, missing: Sequence[MissingRun]) -> Table:
    """Return the table with rows and notes for missing runs, also of networks without results."""
    sections = [section_with_missing(one, table.columns, missing) for one in table.sections]
    headings = {section.heading for section in sections}
    for heading in dict.fromkeys(run.network for run in missing if run.network not in headings):
        empty = Section(heading, "no run is finished", (), ())
        sections.append(section_with_missing(empty, table.columns, missing))
    return replace(table, sections=tuple(sections))


def with_missing_notes(table: Table, missing: Iterable[MissingRun]) -> Table:
    """Return a table of a part of the cells with the notes for its first network's missing runs."""
    first, *others = table.sections
    own = [run for run in missing if first.heading.startswith(run.network)]
    noted = replace(first, notes=(*missing_notes(own), *first.notes))
    return replace(table, sections=(noted, *others))


def section_with_missing(
    section: Section, columns: Sequence[Column], missing: Sequence[MissingRun]
) -> Section:
    """Return a section with a row for each cell without results, and a note per reason."""
    own = [run for run in missing if run.network == section.heading]
    names = [column.name for column in columns]
    shown = {_cell_of(line, names) for line in section.lines}
    empty = dict.fromkeys(run.cell for run in own)
    lines = [_empty_line(cell, names) for cell in empty if _known(cell, names) not in shown]
    notes = tuple(missing_notes(own))
    return replace(section, lines=(*section.lines, *lines), notes=(*notes, *section.notes))


def missing_notes(missing: Iterable[MissingRun]) -> list[str]:
    """Return a sentence for the missing runs of each cell that have the same reason.

    >>> run = MissingRun("d", "a", "l1", "default", "0.5", "2", "failed", "the loss is nan")
    >>> missing_notes([run, run._replace(seed="3")])
    ['l1, 0.5: 2 runs failed (seeds 2, 3): the loss is nan.']
    """
    seeds: dict[tuple[str, ...], list[str]] = {}
    for run in missing:
        seeds.setdefault((*run.cell, run.state, run.reason), []).append(run.seed)
    notes = []
    for (method, setting, ratio, state, reason), found in seeds.items():
        names = [method, *([] if setting == "default" else [setting]), ratio]
        number = "1 run" if len(found) == 1 else f"{len(found)} runs"
        words = state if state == "failed" else f"{'is' if len(found) == 1 else 'are'} {state}"
        which = f"seed{'' if len(found) == 1 else 's'} {', '.join(found)}"
        why = f": {reason.rstrip('.')}" if reason else ""
        notes.append(f"{', '.join(names)}: {number} {words} ({which}){why}.")
    return notes


def _known(cell: tuple[str, str, str], names: Sequence[str]) -> tuple[str, ...]:
    """Return a cell's names as far as the table has columns for them."""
    values = _values(cell)
    return tuple(values[name] for name in names if name in values)


def _values(cell: tuple[str, str, str]) -> Mapping[str, str]:
    return dict(zip(("method", "setting", "ratio"), cell, strict=True))


def _cell_of(line: Line, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a printed row's cell."""
    of_cell = ("method", "setting", "ratio")
    cells = zip(names, line.cells, strict=True)
    return tuple(str(cell) for name, cell in cells if name in of_cell)


def _empty_line(cell: tuple[str, str, str], names: Sequence[str]) -> Line:
    values = {**_values(cell), "n": "0"}
    cells = (Cell(values[name], key=values[name]) if name in values else Cell() for name in names)
    return Line(tuple(cells), is_base=False, opens_ratio=False)
