"""The result files of a run: written by the stage that computes them, read by the report.

A run's folder holds training.json, metrics.json and latency.json, each one model here, and
history.csv and diagnostics.csv, each a list of rows. Keys and columns are declared here only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    get_args,
    get_type_hints,
)

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.files import (
    file_hash,
    parsed_columns,
    parsed_floats,
    read_bytes,
    read_json,
    write_csv,
    write_json,
)
from prunebench.experiments.metric import METRICS, OWN, Metric, Task, renamed, to_file
from prunebench.experiments.settings import Settings, Slug
from prunebench.experiments.spec import digest
from prunebench.experiments.stability import speedup_range
from prunebench.experiments.validation import validate

MODEL_FILE, STRUCTURE_FILE, MASKS_FILE = "model.safetensors", "structure.json", "masks.safetensors"
HISTORY_FILE, DIAGNOSTICS_FILE = "history.csv", "diagnostics.csv"
RECEIPT_FILE = "finished.json"
CHECKSUM = "checksum"  # key of a JSON file
# The files that training.json completes: it is written after them and records their hashes.
TRAINED_FILES = (STRUCTURE_FILE, MASKS_FILE, MODEL_FILE, HISTORY_FILE, DIAGNOSTICS_FILE)

Number = int | float  # a whole number stays whole in the file
Figures = dict[Slug, Number]  # a method's own numbers; each becomes a column of runs.csv


class ResultFile(Settings):
    """A JSON file in the folder of a run.

    Each names the specification that it belongs to (`spec_hash`) and the weights that it describes
    (`weights_sha256`), and holds a checksum of its content, which files of earlier versions lack.
    """

    FILE: ClassVar[str]
    AGAIN: ClassVar[str]  # how to make the file anew

    @classmethod
    def read(cls, folder: Path, spec_hash: str | None = None) -> Self:
        """Read the file in `folder`.

        ResultError names the file and the key if the file is missing, damaged, of another version's
        form, or, with `spec_hash`, of another specification.
        """
        path = folder / cls.FILE
        content = read_json(path)
        stored = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
        if stored is not None and (now := digest(content)) != stored:
            raise ResultError(
                f"{path}: the checksum of its content is {now}, expected {stored}; the file is "
                f"damaged: delete it and {cls.AGAIN}"
            )
        found = content.get("spec_hash") if isinstance(content, dict) else None
        if spec_hash is not None and found not in (None, spec_hash):
            raise ResultError(
                f"{path}: stale result of the specification {found}, expected {spec_hash}; "
                f"{cls.AGAIN}"
            )
        try:
            return validate(cls, cls.from_file(content), str(path))
        except ConfigError as error:
            problem = cls.file_names(str(error), content)
            raise ResultError(
                f"{problem}; the file is damaged or from another version: delete it and {cls.AGAIN}"
            ) from None

    def write(self, folder: Path) -> None:
        """Write the file into `folder`, atomically."""
        content = self.to_file()
        write_json(folder / self.FILE, content | {CHECKSUM: digest(content)})

    @classmethod
    def from_file(cls, content: Any) -> Any:
        """Return the content of a file under the names of the fields."""
        return content

    @classmethod
    def file_names(cls, message: str, content: Any) -> str:
        """Return an error about fields under the names of the file's keys."""
        return message

    def to_file(self) -> Any:
        """Return the content of the file."""
        return self.model_dump(mode="json")


class PlanResult(Settings):
    """One removal: accuracies in percent around it, and the network's cost after it."""

    phase: str
    val_accuracy_before: float | None  # None: no validation split
    test_accuracy_before: float | None  # None: not evaluated
    val_accuracy_after: float | None
    test_accuracy_after: float | None
    macs: int
    params: int
    selection_seconds: float
    masked_removed_difference: float | None  # None: nothing was removed


class TrainingResult(ResultFile):
    """training.json: the accuracies of a base network or a run, and the cost of its training.

    Accuracies are percentages, of the task's metric, by which the file names them (`top1`);
    None without a validation split. `accuracy` belongs to the network as it is at the end. The best
    ones are taken over the end and all reportable epochs; papers that print the best epoch on the
    test split are compared with `accuracy_best_test`.
    """

    FILE = "training.json"
    AGAIN = "train it again"

    spec_hash: str
    base_hash: str | None  # SHA-256 of the base network's weights; None: trained from scratch
    weights_sha256: str
    # source of weights that were not trained here; "names": our names of renamed tensors
    pretrained: dict[str, str | dict[str, str]] | None
    accuracy: float
    val_accuracy: float | None
    accuracy_best_val: float | None
    accuracy_best_test: float
    accuracy_masked: float | None  # of the dense network with zeros; None if trained after removal
    epochs: float  # of all phases
    seconds: dict[str, float]  # by phase
    selection_seconds: Number
    summary: Figures
    capped: tuple[str, ...]  # phases that reached their maximum length unfinished
    masked_removed_difference: float | None  # the largest of all plans
    plans: tuple[PlanResult, ...]
    resumed_at: tuple[tuple[str, int], ...]  # phase and step of each resume
    peak_memory_mb: int  # of the host; since the last resume
    device: str
    threads: int
    processes: int
    more_parts: int  # factor to the recipes' accumulation; above 1 if memory ran short
    deterministic: bool
    data_sha256: str
    versions: dict[str, str]
    commit: str | None
    spec: dict[str, Any]
    # None in results of earlier versions
    last_phase_epochs: float | None = None  # of the last phase that trained
    test_images: int | None = None
    processor: str | None = None  # of the host, whose bits the results have
    code: str | None = None  # hash of the method's source code; also None for a base network
    options: dict[str, Any] | None = None  # of the method, complete; also None for a base network
    date: str | None = None  # on which the training ended, in UTC
    task: Task = "classification"
    by_class: dict[str, float | None] | None = None  # AP of each class, of a detector
    files: dict[str, str] | None = None  # SHA-256 of the other files that training wrote, by name

    def content(self, folder: Path, name: str) -> bytes:
        """Return the content of another file that training wrote.

        ResultError if it is missing, or is not the one whose hash is recorded.
        """
        content = read_bytes(folder / name)
        recorded = (self.files or {}).get(name)
        if recorded is not None and (found := sha256(content).hexdigest()) != recorded:
            raise ResultError(self._changed(folder / name, found, recorded))
        return content

    def damages(self, folder: Path, without: Collection[str] = ()) -> Iterator[str]:
        """Yield a sentence for each missing or changed file of the run, except those in `without`.

        A result of an earlier version records the hash of its weights alone.
        """
        recorded = {MODEL_FILE: self.weights_sha256} if self.files is None else self.files
        for name, expected in recorded.items():
            if name in without:
                continue
            try:
                found = file_hash(folder / name)
            except ResultError as error:
                yield str(error)
                continue
            if found != expected:
                yield self._changed(folder / name, found, expected)

    def _changed(self, path: Path, found: str, expected: str) -> str:
        return (
            f"{path}: SHA-256 is {found}, expected {expected} as in {self.FILE}; the file is "
            f"damaged: run `prunebench repair {path.parent}`"
        )

    @classmethod
    def from_file(cls, content: Any) -> Any:
        """Return the content with the accuracies under the names of the fields."""
        metric = _metric_of(content)
        if metric is None:
            return content
        kept = {key: content[key] for key in _OTHERS_NAMES if key in content}
        ours = {key: value for key, value in content.items() if key not in kept}
        return renamed(ours, metric.name, OWN) | kept

    @classmethod
    def file_names(cls, message: str, content: Any) -> str:
        """Return an error about fields under the names of the file's keys."""
        metric = _metric_of(content)
        return message if metric is None else to_file(message, metric)

    def to_file(self) -> Any:
        """Return the content with the accuracies under the name of the task's metric."""
        content = super().to_file()
        kept = {key: content[key] for key in _OTHERS_NAMES}
        return renamed(content, OWN, self.metric.name) | kept

    @property
    def metric(self) -> Metric:
        """Return the metric of the task."""
        return METRICS[self.task]


def write_receipt(folder: Path, training: TrainingResult) -> None:
    """Write the receipt of a finished run: the only file of a run that Snakemake knows.

    Snakemake deletes the outputs of a job that it believes unfinished before it starts the job
    again, even if the job has finished without it. So the files of the run are no outputs, and a
    job that finds a finished run only writes this file again.
    """
    names = ("spec_hash", "weights_sha256")
    write_json(folder / RECEIPT_FILE, {name: getattr(training, name) for name in names})


def _metric_of(content: Any) -> Metric | None:
    """Return the metric of a training.json; None if it names no task."""
    task = content.get("task", "classification") if isinstance(content, dict) else None
    return METRICS.get(task) if isinstance(task, str) else None


# whose keys others chose
_OTHERS_NAMES = ("spec", "options", "summary", "by_class", "versions", "files")


class CostResult(ResultFile):
    """metrics.json: operations and parameters of a run and of its base network."""

    FILE = "metrics.json"
    AGAIN = "measure it again"

    macs: int
    params: int
    macs_theoretical: int  # without products with zeroed weights
    sparsity: float  # share of the remaining convolution and linear weights that are zero
    activations: int  # elements of all convolution outputs
    base_macs: int
    base_params: int
    base_activations: int
    uncounted_operators: dict[str, int]  # operators without a formula, with their number of calls
    spec_hash: str
    weights_sha256: str


Part = Literal["forward", "whole"]  # of what a detector computes; see LatencyEntry
Mode = Literal["eager", "graph"]  # graph: the replay of a captured CUDA graph


class Times(Settings):
    """Median and quartiles of the times of some passes, in ms."""

    median_ms: float
    q25_ms: float
    q75_ms: float


class LatencyRepetition(Settings):
    """Times of one repetition, in which the networks took turns."""

    network: Times
    base: Times
    base_again: Times  # of a second copy of the base


class LatencyEntry(Settings):
    """Times of the pruned and of the base network, at one batch size.

    `part` says what was timed: a forward pass, or the whole detector, whose post-processing turns
    the outputs into boxes. Medians and quartiles are over the passes of all repetitions.
    """

    part: Part = "forward"
    mode: Mode = "eager"
    device_kind: Literal["cpu", "cuda"]
    device: str
    batch_size: int
    precision: Literal["fp32", "tf32", "bf16"]
    memory_format: Literal["channels_last"]
    median_ms: float
    q25_ms: float
    q75_ms: float
    base_median_ms: float
    base_q25_ms: float
    base_q75_ms: float
    speedup: float  # base_median_ms / median_ms
    repeats: int  # passes of each network in a repetition; in all, in results without repetitions
    warmup: int
    threads: int
    # None in results of earlier versions
    repetitions: tuple[LatencyRepetition, ...] | None = None
    unstable: str | None = None  # the reason by `stability.instability`; "": stable
    # None if unknown or on the other kind of device
    cores: tuple[int, ...] | None = None  # to which the threads were pinned
    driver: str | None = None  # version of the GPU's driver
    sm_clock_mhz: int | None = None  # of the GPU's multiprocessors, right after the timing
    memory_clock_mhz: int | None = None

    @property
    def speedup_range(self) -> tuple[float, float]:
        """Return the lowest and the highest speedup between quartiles (`stability`).

        The quartiles are those over all passes and those of each repetition.
        """
        base, network = (self.base_q25_ms, self.base_q75_ms), (self.q25_ms, self.q75_ms)
        own = [
            ((one.base.q25_ms, one.base.q75_ms), (one.network.q25_ms, one.network.q75_ms))
            for one in self.repetitions or ()
        ]
        return speedup_range([(base, network), *own])


class LatencyResult(ResultFile):
    """latency.json: no entries if removal leaves only zeros, which save no time."""

    FILE = "latency.json"
    AGAIN = "measure it again"

    entries: tuple[LatencyEntry, ...]
    spec_hash: str
    weights_sha256: str


class FoundBox(NamedTuple):
    """A box that a detector found, in pixels of the picture."""

    label: int
    score: float
    x1: float
    y1: float
    x2: float
    y2: float


class TrueBox(NamedTuple):
    """A true box, in pixels of the picture."""

    label: int
    x1: float
    y1: float
    x2: float
    y2: float


class DetectionsResult(ResultFile):
    """detections.json: what a detector finds in the pictures of its base network."""

    FILE = "detections.json"
    AGAIN = "measure it again"
    FEWEST: ClassVar[float] = 0.3  # score from which a box is stored

    found: tuple[tuple[FoundBox, ...], ...]  # of each picture, best first
    spec_hash: str
    weights_sha256: str


class PicturesResult(ResultFile):
    """pictures.json of a base network: a few images on which it is compared with pruned ones."""

    FILE = "pictures.json"
    AGAIN = "measure it again"

    jpeg: tuple[str, ...]  # the files in Base64
    truth: tuple[tuple[TrueBox, ...], ...]  # of each picture
    classes: tuple[str, ...]
    spec_hash: str  # of the base network
    weights_sha256: str


class HistoryRow(NamedTuple):
    """A row of history.csv: an epoch, or the network right after an event.

    Events are a removal ("pruned") and new statistics of batch norm ("recalibrated").
    """

    phase: str
    epoch: int  # 1 is the first of a phase; an unfinished epoch at its end counts
    step: int  # of the phase
    lr: float | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None  # percent; of augmented images in training mode
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    macs: int | None = None
    seconds: float | None = None  # since the previous row
    event: str = ""  # "pruned" or "recalibrated"; empty: an epoch
    reportable: bool | None = None  # whether the network after this epoch may be a result


class DiagnosticRow(NamedTuple):
    """A row of diagnostics.csv: a number that a method logged."""

    phase: str
    step: int
    layer: str
    quantity: str
    value: float


def write_history(
    folder: Path, rows: Iterable[HistoryRow], metric: Metric = METRICS["classification"]
) -> None:
    """Write history.csv, its accuracies named by the metric; None is an empty cell."""
    names = {name: to_file(name, metric) for name in HistoryRow._fields}
    cells = ({names[name]: cell for name, cell in row._asdict().items()} for row in rows)
    write_csv(folder / HISTORY_FILE, list(names.values()), cells)


def write_diagnostics(folder: Path, rows: Iterable[DiagnosticRow]) -> None:
    """Write diagnostics.csv."""
    write_csv(folder / DIAGNOSTICS_FILE, DiagnosticRow._fields, (row._asdict() for row in rows))


def read_history(folder: Path, metric: Metric = METRICS["classification"]) -> list[HistoryRow]:
    """Read history.csv, its accuracies named by the metric.

    ResultError if it is missing or damaged.
    """
    path = folder / HISTORY_FILE
    return history_of(read_bytes(path), path, metric)


def history_of(
    content: bytes, path: Path, metric: Metric = METRICS["classification"]
) -> list[HistoryRow]:
    """Return the rows in the content of a history.csv; ResultError names the file and the cell."""
    return _rows_of(HistoryRow, content, path, metric)


def diagnostics_of(content: bytes, path: Path) -> list[DiagnosticRow]:
    """Return the rows in the content of a diagnostics.csv; ResultError as for `history_of`."""
    return _rows_of(DiagnosticRow, content, path, METRICS["classification"])


R = TypeVar("R", HistoryRow, DiagnosticRow)


def _rows_of(row: type[R], content: bytes, path: Path, metric: Metric) -> list[R]:
    columns = [to_file(name, metric) for name in row._fields]
    cells = [
        _values(texts, kind, f"{path}: {column}")
        for texts, column, kind in zip(
            parsed_columns(content, path, columns), columns, _KINDS[row], strict=True
        )
    ]
    new = partial(tuple.__new__, row)  # as row._make, without counting the columns again
    return list(map(new, zip(*cells, strict=True)))


class _Kind(NamedTuple):
    """The kind of a column's values; the cells of an optional one may be empty."""

    of: type
    is_optional: bool


def _kind(hint: Any) -> _Kind:
    """Return the kind of a type hint such as `int` or `int | None`."""
    kinds = get_args(hint) or (hint,)
    return _Kind(next(kind for kind in kinds if kind is not type(None)), type(None) in kinds)


_KINDS = {
    row: [_kind(hint) for hint in get_type_hints(row).values()]
    for row in (HistoryRow, DiagnosticRow)
}


def _values(texts: Sequence[str], kind: _Kind, where: str) -> Sequence[Any]:
    """Return the values of a column; ResultError names the column and the first wrong cell."""
    if kind.of is str:
        return texts
    given = [text for text in texts if text] if kind.is_optional else texts
    try:
        known = parsed_floats(given) if kind.of is float else list(map(_PARSERS[kind.of], given))
        if len(known) == len(texts):
            return known
        values = iter(known)
        return [next(values) if text else None for text in texts]
    except (KeyError, ValueError):
        wrong = next(text for text in texts if not _is_value(text, kind))
        expected = "True or False" if kind.of is bool else "a number"
        raise ResultError(
            f"{where} is {wrong!r}, not {expected}; delete the file and train it again"
        ) from None


def _is_value(text: str, kind: _Kind) -> bool:
    if not text and kind.is_optional:
        return True
    try:
        _PARSERS[kind.of](text)
    except (KeyError, ValueError):
        return False
    return True


def _truth(text: str) -> bool:
    return {"True": True, "False": False}[text]


_PARSERS: dict[type, Callable[[str], object]] = {int: int, float: float, bool: _truth}
