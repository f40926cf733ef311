"""runs.csv: one row per run, the only input of the report's tables and figures.

`RunRow` declares the columns; `collect` fills them and `read_runs` reads them back. The first
columns are those of the published tables (papers/published_rows), with our meanings: a row is one
run, so `top1_std` is empty; `ratio` is the pruned fraction; `speedup_measured` is empty, because
latencies have columns named after device and batch size, so that CPU and GPU never share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import pandas as pd

from prunebench.core.errors import ResultError, cannot, in_one_line, shown
from prunebench.core.files import parsed_json, read_csv
from prunebench.experiments.metric import METRICS, OWN, Metric, to_file
from prunebench.experiments.results import Mode, Part

Json = str  # a cell that holds JSON


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run, with its columns in order; None is an empty cell. Accuracies are in percent."""

    paper: str | None  # with `table`: the printed table that the run belongs to
    table: str | None
    task: str
    dataset: str
    architecture: str
    method: str
    setting: str
    ratio: float | None  # None: the method decides
    ratio_kind: str
    base_top1: float | None = None  # as `top1`; None: another task
    top1: float | None = None
    top1_std: None = None
    base_top5: None = None
    top5: None = None
    base_map: float | None = None
    map: float | None = None
    flops_m: float  # millions of multiply-accumulates
    flops_reduction_pct: float
    params_m: float
    params_reduction_pct: float
    speedup_theoretical: float  # base_macs / macs_theoretical
    speedup_measured: None = None
    note: str | None = None
    source: str

    experiment: str
    seed: int
    macs: int  # multiply-accumulates of one image, after removal
    params: int
    base_macs: int
    base_params: int
    macs_theoretical: int  # without products with zeroed weights
    speedup_macs: float  # base_macs / macs
    sparsity_pct: float  # zeros among the remaining convolution and linear weights
    activations: int  # elements of all convolution outputs
    val_accuracy: float | None
    base_val_accuracy: float | None
    accuracy_best_val: float | None
    accuracy_best_test: float
    accuracy_masked: float | None  # of the dense network with zeros, before removal
    accuracy_after_removal: float | None = None  # after the last removal; None: nothing removed
    drop: float  # of the accuracy from the base's, in points
    test_images: int | None  # size of the test split
    epochs: float  # of all phases
    epochs_scale: float | None  # share of the recipes' epochs in a shortened experiment
    max_steps: int | None = None  # largest number of steps of a phase, in a trial
    max_images: int | None = None  # largest number of images of a split, in a trial
    fine_tune_epochs: float | None  # of the recipe with that role, or what total_epochs left
    training_seconds: float
    selection_seconds: float

    more: Mapping[str, float] = field(default_factory=dict)  # latencies and methods' own numbers

    latency_devices: Json  # {"cpu" or "cuda": the device on which the latencies were measured}
    capped: str  # phases that reached their maximum length unfinished, joined by ";"
    start: str  # base or fresh
    recipes: Json  # {role: {"name": ..., and the recipe}}
    options: Json | None = None  # of the method, complete
    spec_hash: str
    base_spec_hash: str  # of the base network's specification
    base_hash: str | None  # of the base network's weights; None: trained from fresh weights
    data_hash: str
    device: str
    processor: str | None  # of the host
    threads: int
    commit: str | None
    code: str | None  # "other" if the method's source code has changed since
    code_hash: str | None  # of the method's source code
    versions: Json
    date: str | None  # on which the training ended, in UTC
    reused: str | None = None  # the file that the row was taken from
    widths: Json  # {layer: [kept, full]} in network order
    stages: Json  # the layers' stages, in the same order
    history: Json  # {name in HISTORY: one entry per row of history.csv}
    printed: Json | None  # architecture, method, setting and ratio of the run's printed row
    insides: Json  # the method's diagnostics, shortened by `diagnostics.summarize_diagnostics`
    by_class: Json | None = None  # {class: the metric of the class alone, null without an object}

    @property
    def metric(self) -> Metric:
        """Return the metric of the row's task."""
        return METRICS[self.task]

    def cells(self) -> dict[str, Any]:
        """Return the cells by column."""
        names = _names_in_code(self.task)
        return {column: getattr(self, name) for column, name in names.items()} | dict(self.more)


def row_of(cells: Mapping[str, str], where: str) -> RunRow:
    """Return the row of a line of runs.csv, as text by column; ResultError names the column.

    Its cells are written as they were read. A column that may be empty may be missing, except for
    the metric's: a file of an earlier version lacks those that came later.
    """
    values: dict[str, Any] = {}
    more: dict[str, float] = {}
    task = _task_of([cells.get("task", "")], where)
    names = _names_in_code(task)
    for column, text in cells.items():
        name = names.get(column, column)
        if name in _TEXT:
            values[name] = text or (None if _is_optional(name) else "")
            continue
        try:
            number = None if not text and _is_optional(name) else _number(text)
        except (TypeError, ValueError):
            raise ResultError(f"{where}: {column} is {text!r}, not a number") from None
        if name in _FIXED:
            values[name] = number
        elif number is not None:
            more[name] = number
    metric = METRICS[task].name
    needed = {metric, f"base_{metric}", *(name for name in _FIXED if not _is_optional(name))}
    missing = [column for column, name in names.items() if name in needed - values.keys()]
    if missing:
        raise ResultError(f"{where}: the column {missing[0]!r} is missing; collect the runs again")
    absent: dict[str, Any] = dict.fromkeys(_FIXED)
    return RunRow(**(absent | values), more=more)


def read_rows(path: Path) -> list[RunRow]:
    """Read runs.csv row by row; ResultError if it is missing or no runs.csv."""
    return [row_of(cells, str(path)) for cells in read_csv(path, ("task",))]


def _is_optional(name: str) -> bool:
    return name not in _FIXED or type(None) in (_TYPES[name], *get_args(_TYPES[name]))


def _number(text: str) -> float:
    """Return a whole number as int, so that it stays whole.

    >>> _number("3"), _number("3.0")
    (3, 3.0)
    """
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _task_of(found: Iterable[str], where: str) -> str:
    """Return the only task among those of some rows; ResultError otherwise."""
    tasks = sorted(set(found))
    for task in tasks:
        if task not in METRICS:
            raise ResultError(f"{where}: task is {task!r}, expected one of {', '.join(METRICS)}")
    if len(tasks) > 1:
        raise ResultError(f"{where}: rows of {' and '.join(tasks)} do not belong into one table")
    return tasks[0] if tasks else next(iter(METRICS))


@cache
def _names_in_code(task: str) -> Mapping[str, str]:
    """Return the names in code of the fixed columns, by their names in a file of a task."""
    return {to_file(name, METRICS[task]): name for name in _FIXED}


# Files of an earlier version lack lr.
HISTORY = ("phase", "epoch", "event", "lr", "train_loss", "val_accuracy", "test_accuracy")

UNPRUNED = "unpruned"  # the method slug of the base network
NETWORK = ["dataset", "architecture"]
CELL = [*NETWORK, "method", "setting", "ratio", "ratio_kind"]  # seeds are averaged over a cell

_FIELDS = tuple(one.name for one in fields(RunRow))
_FIXED = tuple(name for name in _FIELDS if name != "more")
_TYPES = get_type_hints(RunRow)
_OBJECTS = ("recipes", "versions")  # short JSON, read in many places
_TEXT = {name: str for name in _FIXED if str in (_TYPES[name], *get_args(_TYPES[name]))}

LATENCY = "latency_ms_"
BASE_LATENCY = "latency_base_ms_"
LATENCY_SPEEDUP = "latency_speedup_"
SPEEDUP_LOW = "latency_speedup_low_"
SPEEDUP_HIGH = "latency_speedup_high_"
UNSTABLE = "latency_unstable_"
# Those of the range come first: their names begin as that of the speedup does.
_QUANTITIES = (SPEEDUP_LOW, SPEEDUP_HIGH, UNSTABLE, LATENCY, BASE_LATENCY, LATENCY_SPEEDUP)


_WHOLE = "_whole"  # of a detector with its post-processing, after the device
_GRAPH = "_graph"  # as a CUDA graph, likewise


@cache
def latency_columns(
    device_kind: str, batch_size: int, part: Part = "forward", mode: Mode = "eager"
) -> tuple[str, str, str]:
    """Return the columns of the median latency, the base's median, and their ratio.

    >>> latency_columns("cpu", 64)
    ('latency_ms_cpu_b64', 'latency_base_ms_cpu_b64', 'latency_speedup_cpu_b64')
    >>> latency_columns("cpu", 1, "whole")[0], latency_columns("cuda", 1, mode="graph")[0]
    ('latency_ms_cpu_whole_b1', 'latency_ms_cuda_graph_b1')
    """
    where = _where(device_kind, batch_size, part, mode)
    return LATENCY + where, BASE_LATENCY + where, LATENCY_SPEEDUP + where


@cache
def stability_columns(
    device_kind: str, batch_size: int, part: Part = "forward", mode: Mode = "eager"
) -> tuple[str, str, str]:
    """Return the columns of the range of the speedup, and of whether it is unstable (0 or 1).

    >>> stability_columns("cpu", 1)
    ('latency_speedup_low_cpu_b1', 'latency_speedup_high_cpu_b1', 'latency_unstable_cpu_b1')
    """
    where = _where(device_kind, batch_size, part, mode)
    return SPEEDUP_LOW + where, SPEEDUP_HIGH + where, UNSTABLE + where


def _where(device_kind: str, batch_size: int, part: Part, mode: Mode) -> str:
    words = [device_kind, _GRAPH * (mode == "graph"), _WHOLE * (part == "whole")]
    return f"{''.join(words)}_b{batch_size}"


class Timed(NamedTuple):
    """What a latency column is about; sorted by device, part, batch size and mode."""

    device_kind: str
    part: Part
    batch_size: int
    mode: Mode = "eager"

    @property
    def columns(self) -> tuple[str, str, str]:
        """Return the columns of the median latency, the base's median, and their ratio."""
        return latency_columns(self.device_kind, self.batch_size, self.part, self.mode)

    @property
    def stability(self) -> tuple[str, str, str]:
        """Return the columns of the range of the speedup, and of whether it is unstable."""
        return stability_columns(self.device_kind, self.batch_size, self.part, self.mode)

    @property
    def words(self) -> str:
        """Return it in words.

        >>> Timed("cpu", "whole", 1).words, Timed("cuda", "forward", 64).words
        ('CPU, one image, with post-processing', 'CUDA, batch of 64')
        >>> Timed("cuda", "forward", 1, "graph").words
        'CUDA graph, one image'
        """
        batch = "one image" if self.batch_size == 1 else f"batch of {self.batch_size}"
        part = ", with post-processing" if self.part == "whole" else ""
        graph = " graph" if self.mode == "graph" else ""
        return f"{self.device_kind.upper()}{graph}, {batch}{part}"


def timed(column: str) -> Timed:
    """Return what a latency column is about.

    >>> timed("latency_speedup_cpu_whole_b64")
    Timed(device_kind='cpu', part='whole', batch_size=64, mode='eager')
    """
    prefix = next(prefix for prefix in _QUANTITIES if column.startswith(prefix))
    where, _, batch = column.removeprefix(prefix).rpartition("_b")
    part: Part = "whole" if where.endswith(_WHOLE) else "forward"
    where = where.removesuffix(_WHOLE)
    mode: Mode = "graph" if where.endswith(_GRAPH) else "eager"
    return Timed(where.removesuffix(_GRAPH), part, int(batch), mode)


def latency_prefixes(device_kind: str) -> tuple[str, ...]:
    """Return the beginnings of all latency columns of a kind of device.

    >>> latency_prefixes("cpu")[-2:]
    ('latency_base_ms_cpu_', 'latency_speedup_cpu_')
    """
    return tuple(f"{prefix}{device_kind}_" for prefix in _QUANTITIES)


def is_fixed(column: str) -> bool:
    """Whether every runs.csv of a task has the column."""
    return any(column in _names_in_code(task) for task in METRICS)


def is_latency(column: str) -> bool:
    """Whether the column holds a latency, a ratio of two, or its range or stability."""
    return column.startswith(_QUANTITIES)


def is_speedup(column: str) -> bool:
    """Whether the column holds the ratio of two latencies.

    >>> is_speedup("latency_speedup_cpu_b1"), is_speedup("latency_speedup_low_cpu_b1")
    (True, False)
    """
    return column.startswith(LATENCY_SPEEDUP) and not column.startswith((SPEEDUP_LOW, SPEEDUP_HIGH))


def columns_of(rows: Iterable[RunRow]) -> list[str]:
    """Return the columns of some rows: the fixed ones, and in the place of `more` its own.

    Latencies are sorted by device, part, batch size, mode and quantity, methods' numbers by name.
    ResultError if the rows belong to different tasks.
    """
    rows = list(rows)
    metric = METRICS[_task_of((row.task for row in rows), "runs.csv")]
    fixed = [to_file(name, metric) for name in _FIELDS]
    more = {name for row in rows for name in row.more}
    latencies = sorted((name for name in more if is_latency(name)), key=_latency_key)
    others = sorted(name for name in more if not is_latency(name))
    place = _FIELDS.index("more")
    return [*fixed[:place], *latencies, *others, *fixed[place + 1 :]]


def _latency_key(column: str) -> tuple[Timed, int]:
    """Sort the columns of the same device, part, batch size and mode together."""
    what = timed(column)
    return what, (*what.columns, *what.stability).index(column)


def read_runs(path: Path) -> pd.DataFrame:
    """Read runs.csv, in the order of collection; ResultError if it is missing, empty or invalid.

    Names, hashes and JSON stay text (a setting may be called "none", a hash may look like a
    number); all other columns are numbers, with NaN for an empty cell. Columns of the task's metric
    have their names in code (`accuracy`, `base_accuracy`, ...); `metric_of` returns the metric.
    """
    try:
        frame = pd.read_csv(path, dtype=_TEXT, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file") from None
    except OSError as error:
        raise ResultError(f"{path}: {cannot('be read', error)}") from None
    except ValueError as error:  # not UTF-8, no header, or rows of other lengths
        raise ResultError(f"{path}: not a table of runs ({in_one_line(error)})") from None
    require(frame, CELL, str(path))
    if "recipes" in frame:
        frame["recipes"] = frame["recipes"].fillna("{}")
    _check_cells(frame, path)
    if "task" not in frame:
        frame["task"] = next(iter(METRICS))
    name = METRICS[_task_of(frame["task"], str(path))].name
    published = {name: OWN, f"base_{name}": f"base_{OWN}", f"{name}_std": f"{OWN}_std"}
    return frame.rename(columns={**_names_in_code(str(frame["task"].iloc[0])), **published})


def _check_cells(frame: pd.DataFrame, path: Path) -> None:
    """Raise ResultError for a cell that is not the number or the JSON object of its column.

    Longer JSON is checked where it is parsed.
    """
    for name in frame.columns.difference(list(_TEXT)):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            cells = frame[name].dropna()
            bad = cells[pd.to_numeric(cells, errors="coerce").isna()]
            if len(bad):
                raise ResultError(f"{path}: {name} is {shown(bad.iloc[0])}, not a number")
    for name in frame.columns.intersection(list(_OBJECTS)):
        for text in frame[name].dropna().unique():
            try:
                is_object = isinstance(parsed_json(text), dict)
            except ValueError:
                is_object = False
            if not is_object:
                raise ResultError(f"{path}: {name} is {shown(text)}, not a JSON object")


def metric_of(frame: pd.DataFrame) -> Metric:
    """Return the metric of a frame's accuracies."""
    if "task" not in frame or frame.empty:
        return METRICS["classification"]
    return METRICS[str(frame["task"].iloc[0])]


def histories(runs: pd.DataFrame) -> list[dict[str, list[Any]] | None]:
    """Return the histories of some runs by the names in `HISTORY`, None for an empty cell."""
    name = metric_of(runs).name
    return [
        None if one is None else {key.replace(name, OWN): values for key, values in one.items()}
        for one in json_cells(runs, "history")
    ]


def require(frame: pd.DataFrame, names: Iterable[str], where: str = "runs.csv") -> None:
    """Raise ResultError if the frame has no rows or lacks one of the columns."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ResultError(f"{where}: the column {missing[0]!r} is missing")
    if frame.empty:
        raise ResultError(f"{where}: no runs")


def networks(frame: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Return ((dataset, architecture), rows) in the order of first appearance."""
    groups = frame.groupby(NETWORK, sort=False)
    return [((str(name[0]), str(name[1])), rows) for name, rows in groups]


def json_cells(runs: pd.DataFrame, column: str) -> list[Any]:
    """Return the column's cells parsed as JSON, None for an empty one.

    ResultError names method and seed of a damaged cell.
    """
    require(runs, [column, "method", "seed"])
    found = []
    for text, method, seed in zip(runs[column], runs["method"], runs["seed"], strict=True):
        try:
            found.append(None if pd.isna(text) else parsed_json(text))
        except ValueError as error:
            where = f"runs.csv: {column} of {method}, seed {seed}"
            raise ResultError(f"{where}, is not valid JSON ({error})") from None
    return found
