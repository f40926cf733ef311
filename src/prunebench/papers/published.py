"""The rows of the papers' printed tables, transcribed as CSV files in papers/published_rows.

Numbers keep their printed digits: 42.20 and 42.2 are different prints of one number. The papers'
`ratio` and `ratio_kind` are renamed to `ratio_printed` and `ratio_kind_printed` here and only here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from prunebench.core.errors import ResultError
from prunebench.core.files import write_csv
from prunebench.experiments.metric import METRICS, Task
from prunebench.experiments.settings import Settings, Slug
from prunebench.experiments.validation import validate

COST_COLUMNS = (
    "flops_m",
    "flops_reduction_pct",
    "params_m",
    "params_reduction_pct",
    "speedup_theoretical",
)
# Printed costs without a column of their own: they stand in the row's note.
NOTED = {
    "memory_m": re.compile(r"memory M=([0-9.]+)e6"),
    "sparsity_pct": re.compile(r"printed sparsity ([0-9.]+)%"),
}
_CONTEXT = re.compile(r"^context:|^FPGM Table|\([^)]* repo\)|mmrazor")
_RENAMED = {"ratio": "ratio_printed", "ratio_kind": "ratio_kind_printed"}

Percent = Annotated[Decimal, Field(ge=-100, le=100)]
Positive = Annotated[Decimal, Field(gt=0)]


class PublishedRow(Settings):
    """One printed row; an empty cell of the CSV is None.

    Accuracies and reductions are in percent, `params_m` in millions, `flops_m` in millions as the
    paper counts. `architecture` is the paper's own name for its network; ours of that name may be
    a different one.
    """

    paper: Slug
    table: Annotated[str, Field(min_length=1)]
    task: Task
    dataset: Literal["cifar10", "cifar100", "coco", "imagenet", "tiny_imagenet"]
    architecture: Slug
    method: Slug
    setting: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9_.-]*)?$")]
    ratio_printed: Positive | None
    ratio_kind_printed: (
        Literal["filters_per_layer", "filters_global", "params", "flops", "speedup", "weights"]
        | None
    )
    base_top1: Percent | None
    top1: Percent | None
    top1_std: Percent | None
    base_top5: Percent | None
    top5: Percent | None
    base_map: Percent | None
    map: Percent | None
    flops_m: Positive | None
    flops_reduction_pct: Percent | None
    params_m: Positive | None
    params_reduction_pct: Percent | None
    speedup_theoretical: Positive | None
    speedup_measured: Positive | None
    note: str
    source: Annotated[str, Field(min_length=1)]

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object, info: object) -> object:
        text = {"setting", "note"}  # may be empty words
        return None if value == "" and getattr(info, "field_name", "") not in text else value

    @model_validator(mode="after")
    def _ratio_has_a_kind(self) -> PublishedRow:
        if (self.ratio_printed is None) != (self.ratio_kind_printed is None):
            raise ValueError("ratio and ratio_kind must be both given or both empty")
        return self

    @property
    def accuracy(self) -> Decimal | None:
        """Return the printed value of the task's metric."""
        return self.map if self.task == "detection" else self.top1

    @property
    def accuracy_std(self) -> Decimal | None:
        """Return its printed deviation, which no table prints for detection."""
        return None if self.task == "detection" else self.top1_std

    @property
    def base_accuracy(self) -> Decimal | None:
        """Return the printed value of the base network."""
        return self.base_map if self.task == "detection" else self.base_top1

    @property
    def is_context(self) -> bool:
        """Whether the row is quoted from elsewhere; such rows are shown but never a target.

        They come from other papers ("context:", "FPGM Table"), from other repositories, named in
        brackets, or from the third-party implementation mmrazor.
        """
        return bool(_CONTEXT.search(self.table))

    def is_named(self, method: str, setting: str | None = None, ratio: str | None = None) -> bool:
        """Whether the names in an experiment's `published` mean this row; None fits any.

        `ratio` is the printed ratio; for a row without one it is "-", or the FLOPs that tell it
        from similar rows, as in "flops_m=2044".
        """
        return (
            method == self.method
            and setting in (None, self.setting)
            and (ratio is None or self._has_ratio(ratio))
        )

    def _has_ratio(self, name: str) -> bool:
        key, _, digits = name.rpartition("=")
        if self.ratio_printed is None:
            return name == "-" or (key == "flops_m" and _reads(self.flops_m, digits))
        return not key and _reads(self.ratio_printed, digits)

    def printed(self) -> dict[str, Decimal]:
        """Return the printed costs by column, those from the note last."""
        cells = {name: getattr(self, name) for name in COST_COLUMNS}
        for name, pattern in NOTED.items():
            found = pattern.search(self.note)
            cells[name] = Decimal(found.group(1)) if found else None
        return {name: value for name, value in cells.items() if value is not None}


def _reads(number: Decimal | None, digits: str) -> bool:
    try:
        return number is not None and number == Decimal(digits)
    except InvalidOperation:  # `digits` is not a number
        return False


# The columns of the files, in their order and with their names.
FILE_COLUMNS = tuple(
    {new: old for old, new in _RENAMED.items()}.get(name, name)
    for name in PublishedRow.model_fields
)


def published_dir() -> Path:
    """Return the folder of the CSV files that are installed with the package."""
    return Path(str(files("prunebench"))) / "papers" / "published_rows"


def read_published(folder: Path | None = None) -> tuple[PublishedRow, ...]:
    """Read every CSV file of a folder (default: the installed ones), sorted by name.

    Raises ResultError, naming file, line and key, for an invalid row, and if the folder holds no
    CSV file.
    """
    folder = folder or published_dir()
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise ResultError(f"{folder}: no CSV file of published rows")
    return tuple(row for path in paths for row in _read_file(path))


def _read_file(path: Path) -> Iterable[PublishedRow]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FILE_COLUMNS:
            raise ResultError(f"{path}: the columns must be {','.join(FILE_COLUMNS)}")
        for line in reader:
            where = f"{path}, line {reader.line_num}"
            if None in line or None in line.values():
                raise ResultError(f"{where}: expected {len(FILE_COLUMNS)} cells")
            if line["paper"] != path.stem:
                raise ResultError(f"{where}: paper is {line['paper']!r}, expected {path.stem!r}")
            yield validate(
                PublishedRow, {_RENAMED.get(key, key): value for key, value in line.items()}, where
            )


def papers(rows: Iterable[PublishedRow]) -> tuple[str, ...]:
    """Return the papers of the rows, in order of first appearance."""
    return tuple(dict.fromkeys(row.paper for row in rows))


def select(
    rows: Sequence[PublishedRow], *, own_only: bool = False, **wanted: str | None
) -> tuple[PublishedRow, ...]:
    """Return the rows whose columns have the wanted values; None accepts any value.

    `own_only` excludes context rows.
    """
    return tuple(
        row
        for row in rows
        if not (own_only and row.is_context)
        and all(value is None or getattr(row, name) == value for name, value in wanted.items())
    )


EXPORTED = ("paper", "table", "own", "state", *FILE_COLUMNS[2:])


def write_published(rows: Iterable[PublishedRow], states: Iterable[object], path: Path) -> None:
    """Write rows as CSV, with the columns `own` ("no" for context rows) and `state`.

    The other columns have the names of the files, also `ratio` and `ratio_kind`.
    """
    pairs = zip(rows, states, strict=True)
    write_csv(path, EXPORTED, (_exported(row) | {"state": str(state)} for row, state in pairs))


def _exported(row: PublishedRow) -> dict[str, object]:
    values = {old: getattr(row, _RENAMED.get(old, old)) for old in FILE_COLUMNS}
    return {"own": "no" if row.is_context else "yes"} | {
        name: "" if value is None else value for name, value in values.items()
    }


def one_line(row: PublishedRow) -> str:
    """Return a row as a line for a terminal."""
    ratio = "" if row.ratio_printed is None else f"{row.ratio_printed} {row.ratio_kind_printed}"
    accuracy = "" if row.accuracy is None else f"{METRICS[row.task].short} {row.accuracy}"
    mark = "context " if row.is_context else ""
    parts = [f"{row.paper} · {row.table}", f"{row.dataset} {row.architecture}"]
    parts += [f"{row.method} {row.setting}".strip(), ratio, accuracy]
    return mark + " · ".join(part for part in parts if part)
