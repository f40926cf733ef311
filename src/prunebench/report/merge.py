"""Merge collected rows into a stored runs.csv, which grows over days and machines.

Nothing is replaced: a row that is there already is skipped, and rows that contradict each other are
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunebench.core.errors import ResultError
from prunebench.experiments.reuse import Key, different_result
from prunebench.experiments.spec import ratio_slug, run_path
from prunebench.report.collect import write_rows
from prunebench.report.runs_csv import RunRow, read_rows


def merge_into(path: Path, rows: Sequence[RunRow], order: Sequence[str]) -> int:
    """Add the rows that a runs.csv does not have yet, and return their number.

    Rows are sorted as the runs' paths are in `order`, with other paths behind them in alphabetical
    order, so that the file is the same whatever was merged first. A missing file is made anew.
    ResultError, without a change of the file, names two rows with different results for the same
    hashes, with different hashes of one run, or with different base networks of one specification.
    """
    known = read_rows(path) if path.exists() else []
    all_rows = _Rows(path)
    for row in known:
        all_rows.add(row)
    added = sum(all_rows.add(row) for row in rows)
    places = {name: place for place, name in enumerate(order)}
    ordered = sorted(
        all_rows.by_path.items(), key=lambda item: (places.get(item[0], len(places)), item[0])
    )
    if added:
        write_rows(path, [row for _, row in ordered])
    return added


class _Rows:
    """Rows that do not contradict each other."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.by_path: dict[str, RunRow] = {}
        self.by_key: dict[Key, RunRow] = {}
        self.by_base: dict[tuple[str, str], RunRow] = {}

    def add(self, row: RunRow) -> bool:
        """Add a row unless it is there; ResultError if it contradicts another one."""
        path, key = path_of(row), key_of(row)
        there = key_of(self.by_path.get(path, row))
        if there != key:
            hashes = zip(Key._fields, there, key, strict=True)
            differing, old, new = next(one for one in hashes if one[1] != one[2])
            raise ResultError(
                f"{self.file}: {path} is there with the {differing} {old:.16}, not {new:.16}; "
                "delete its row to replace it"
            )
        twin = self.by_key.setdefault(key, row)
        name = different_result(_texts(twin), _texts(row))
        if name is not None:
            raise ResultError(
                f"{self.file}: two different results for the specification {key.spec_hash}: "
                f"{name} is {_cell(twin, name)} in {path_of(twin)} ({_made(twin)}) and "
                f"{_cell(row, name)} in {path} ({_made(row)})"
            )
        self._check_base(row)
        is_new = path not in self.by_path
        self.by_path.setdefault(path, row)
        return is_new

    def _check_base(self, row: RunRow) -> None:
        if row.base_hash is None:
            return
        other = self.by_base.setdefault((row.base_spec_hash, row.data_hash), row)
        if other.base_hash != row.base_hash:
            raise ResultError(
                f"{self.file}: {path_of(other)} starts from the base network "
                f"{other.base_hash or '':.12} and {path_of(row)} from {row.base_hash:.12}, which "
                "have the same specification; train all of them from one network"
            )


def path_of(row: RunRow) -> str:
    """Return the path of a row's run."""
    ratio = ratio_slug(row.ratio, row.ratio_kind)  # type: ignore[arg-type]
    return run_path(
        row.experiment, row.dataset, row.architecture, row.method, row.setting, ratio, row.seed
    )


def key_of(row: RunRow) -> Key:
    """Return the hashes that a row's result depends on."""
    return Key(row.spec_hash, row.data_hash, row.base_hash or "")


def _texts(row: RunRow) -> dict[str, str]:
    """Return the cells as they are written."""
    return {name: "" if cell is None else str(cell) for name, cell in row.cells().items()}


def _cell(row: RunRow, name: str) -> str:
    """Return a cell, shortened."""
    text = _texts(row).get(name, "")
    return text if len(text) <= 40 else f"{text[:39]}…"


def _made(row: RunRow) -> str:
    """Return where and when a row was computed."""
    place = row.processor if row.device == "cpu" else row.device
    return ", ".join(filter(None, (place, row.date)))
