"""Reuse of stored results: the rows of a runs.csv that stand for runs of an experiment.

A row stands for a run if the hashes of specification, data and base network are equal. The data
hash is that of the data file in the results folder; the base network's is in its training.json
there. As long as one of the two is missing, the rows decide, if they agree on it: collecting the
rows compares them again. A run that starts from fresh weights has no base hash, but its row holds
the accuracy of the base network, which must be equal too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prunebench.core.errors import ResultError
from prunebench.core.files import parsed_json, read_csv, read_object
from prunebench.experiments.metric import METRICS
from prunebench.experiments.spec import data_path, digest

NEEDED = ("spec_hash", "data_hash", "base_spec_hash", "base_hash", "task", "reused")
# What may differ between two rows with equal results
LABELS = (
    "experiment", "setting", "paper", "table", "printed", "recipes", "options", "epochs_scale",
)  # fmt: skip
ORIGIN = ("source", "device", "processor", "commit", "code", "code_hash", "versions", "date")
NO_RESULTS = {*LABELS, *ORIGIN, "note", "reused", "training_seconds", "selection_seconds"}


class Wanted(NamedTuple):
    """A run of an experiment, as far as its reuse depends on it."""

    path: str
    hash: str
    dataset: str
    base_path: str
    base_spec_hash: str
    widths_from: str | None

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any], bases: Mapping[str, Mapping[str, Any]]) -> Wanted:
        """Return the run of a line of a resolved file."""
        return cls(
            path=entry["path"],
            hash=entry["hash"],
            dataset=entry["dataset"],
            base_path=entry["base_path"],
            base_spec_hash=bases[entry["base_path"]]["hash"],
            widths_from=entry["widths_from"],
        )


class Key(NamedTuple):
    """What a result depends on; its base hash is empty for a run from fresh weights."""

    spec_hash: str
    data_hash: str
    base_hash: str


@dataclass(frozen=True)
class StoredRow:
    """A row of a runs.csv, as text by column."""

    file: Path
    cells: Mapping[str, str]

    @property
    def key(self) -> Key:
        """Return the hashes of specification, data and base network."""
        return Key(*(self.cells[name] for name in Key._fields))

    @property
    def base_column(self) -> str:
        """Return the column of the base network's accuracy."""
        return f"base_{METRICS[self.cells['task']].name}"


class BaseHere(NamedTuple):
    """A base network of the results folder."""

    hash: str
    accuracy: float

    def is_of(self, row: StoredRow) -> bool:
        """Whether a row has this base network."""
        same = row.cells["base_hash"] in ("", self.hash)
        return same and float(row.cells[row.base_column]) == self.accuracy


def reusable(runs: Iterable[Wanted], files: Sequence[Path], results: Path) -> dict[str, StoredRow]:
    """Return the rows that stand for runs, by the runs' paths.

    A run that is stored in `results` needs no row. A run whose widths another run takes is needed
    itself: it has no row unless the other run has one. ResultError if a file is no runs.csv, if
    two rows have different results for the same hashes, or different data or base networks and
    `results` has none to compare with.
    """
    stored, here = read_stored(files), _Here(results)
    runs, found = list(runs), {}
    for run in runs:
        if run.hash in stored and not is_stored(results / run.path, run.hash):
            fitting = [row for row in stored[run.hash] if here.fits(run, row)]
            if fitting:
                found[run.path] = fitting
    _check_origin(runs, found)
    for run in runs:
        if run.path not in found and run.widths_from is not None:
            found.pop(run.widths_from, None)
    return {path: _only(rows) for path, rows in found.items()}


def misfit(run: Wanted, files: Sequence[Path], results: Path) -> str | None:
    """Return why the rows with a run's specification do not stand for it; None without any."""
    here = _Here(results)
    for row in read_stored(files).get(run.hash, ()):
        data, base = here.data(run.dataset), here.base(run)
        if data not in (None, row.cells["data_hash"]):
            return (
                f"{row.file}: the row of {run.path} has the data {row.cells['data_hash']:.12}, "
                f"{data_path(results, run.dataset)} has {data:.12}"
            )
        if base is not None and not base.is_of(row):
            there = row.cells
            accuracy = float(there[row.base_column])
            return (
                f"{row.file}: the row of {run.path} has the base network "
                f"{there['base_hash'] or 'of its own':.12} ({accuracy:.2f} %), "
                f"{results / run.base_path} has {base.hash:.12} ({base.accuracy:.2f} %)"
            )
    return None


def read_stored(files: Sequence[Path]) -> dict[str, list[StoredRow]]:
    """Return the rows of several runs.csv by the hash of their specification."""
    found: dict[str, list[StoredRow]] = {}
    for file in files:
        for cells in read_csv(file, NEEDED):
            row = StoredRow(file, cells)
            found.setdefault(cells["spec_hash"], []).append(row)
            if cells["task"] not in METRICS:
                raise ResultError(
                    f"{file}: task is {cells['task']!r}, expected one of {', '.join(METRICS)}"
                )
            column = row.base_column
            if column not in cells:
                raise ResultError(f"{file}: the column {column!r} is missing")
            try:
                float(cells[column])
            except ValueError:
                raise ResultError(f"{file}: {column} is {cells[column]!r}, not a number") from None
    return found


def different_result(a: Mapping[str, str], b: Mapping[str, str]) -> str | None:
    """Return the first column in which the results of two rows differ; None if they are equal.

    Names, origin, times and latencies are not compared, nor what only one row records of its
    history: the other is of an earlier version.
    """
    for name in {**a, **b}:
        is_result = name not in NO_RESULTS and not name.startswith("latency_")
        own, other = a.get(name, ""), b.get(name, "")
        if is_result and own != other and not (name == "history" and is_same_history(own, other)):
            return name
    return None


def is_same_history(a: str, b: str) -> bool:
    """Whether the columns that two histories share are equal.

    >>> is_same_history('{"epoch": [1], "lr": [0.1]}', '{"epoch": [1]}')
    True
    >>> is_same_history('{"epoch": [1]}', '{"epoch": [2]}'), is_same_history("", '{"epoch": [2]}')
    (False, False)
    """
    own, other = (json.loads(text or "{}") for text in (a, b))
    shared = own.keys() & other.keys()
    return bool(shared) and all(own[column] == other[column] for column in shared)


def digest_of_rows(rows: Mapping[str, StoredRow]) -> str:
    """Return a hash of rows and of their paths; empty if there are none."""
    if not rows:
        return ""
    return digest({path: [str(row.file), dict(row.cells)] for path, row in rows.items()})


def is_stored(folder: Path, spec_hash: str) -> bool:
    """Whether a folder holds the result of a specification."""
    path = folder / "training.json"
    return path.is_file() and read_object(path).get("spec_hash") == spec_hash


class _Here:
    """Data and base networks of a results folder, each read once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._data: dict[str, str | None] = {}
        self._bases: dict[str, BaseHere | None] = {}

    def fits(self, run: Wanted, row: StoredRow) -> bool:
        """Whether the data and the base network of a row are those here, as far as they exist."""
        data, base = self.data(run.dataset), self.base(run)
        return data in (None, row.cells["data_hash"]) and (base is None or base.is_of(row))

    def data(self, dataset: str) -> str | None:
        if dataset not in self._data:
            self._data[dataset] = data_hash(data_path(self.results, dataset))
        return self._data[dataset]

    def base(self, run: Wanted) -> BaseHere | None:
        if run.base_path not in self._bases:
            folder = self.results / run.base_path
            self._bases[run.base_path] = None
            if is_stored(folder, run.base_spec_hash):
                self._bases[run.base_path] = _base_in(folder / "training.json")
        return self._bases[run.base_path]


def _base_in(path: Path) -> BaseHere:
    training = read_object(path)
    try:
        metric = METRICS[training.get("task", "classification")].name
        return BaseHere(training["weights_sha256"], training[metric])
    except (KeyError, TypeError):
        raise ResultError(f"{path}: no result of a training; train it again") from None


def data_hash(path: Path) -> str | None:
    """Return the hash of the tensors in a data file, from its header; None if there is no file.

    The library that reads these files needs numpy or torch; the header is JSON after its length
    as 8 bytes.
    """
    try:
        with path.open("rb") as file:
            header = parsed_json(file.read(int.from_bytes(file.read(8), "little")))
            found: str = parsed_json(header["__metadata__"]["prunebench"])["sha256"]
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        raise ResultError(f"{path}: not a data file; delete it") from None


def _check_origin(runs: Iterable[Wanted], found: Mapping[str, Sequence[StoredRow]]) -> None:
    """Raise ResultError if rows have different data or base networks of one name."""
    data: dict[str, StoredRow] = {}
    bases: dict[str, StoredRow] = {}
    tops: dict[str, StoredRow] = {}
    for run in runs:
        for row in found.get(run.path, ()):
            _check_equal(
                data, run.dataset, "data_hash", row, f"prunebench data --dataset {run.dataset}"
            )
            if row.cells["base_hash"]:
                _check_equal(bases, run.base_path, "base_hash", row, "snakemake bases")
            _check_equal(tops, run.base_path, row.base_column, row, "snakemake bases")


def _check_equal(
    seen: dict[str, StoredRow], name: str, column: str, row: StoredRow, command: str
) -> None:
    other = seen.setdefault(name, row)
    if other.cells[column] != row.cells[column]:
        raise ResultError(
            f"{other.file} and {row.file}: {column} of {name} is {other.cells[column]:.12} and "
            f"{row.cells[column]:.12}; run `{command}` first, so that the rows can be compared"
        )


def _only(rows: Sequence[StoredRow]) -> StoredRow:
    """Return the first of some rows with equal hashes; ResultError if their results differ."""
    first, *others = rows
    for row in others:
        if name := different_result(first.cells, row.cells):
            raise ResultError(
                f"{first.file} and {row.file}: two different results for the specification "
                f"{row.key.spec_hash}: {name} is {first.cells.get(name)} and {row.cells.get(name)}"
            )
    return first
