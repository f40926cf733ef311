"""Collect the result files of finished runs, and reused rows, into one runs.csv."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import prunebench
from prunebench.core.errors import ResultError
from prunebench.core.files import parsed_json_of, write_csv
from prunebench.experiments.config import ExperimentConfig
from prunebench.experiments.machine import gpu_name, processor_name
from prunebench.experiments.metric import Metric, to_file
from prunebench.experiments.results import (
    DIAGNOSTICS_FILE,
    HISTORY_FILE,
    MODEL_FILE,
    STRUCTURE_FILE,
    TRAINED_FILES,
    CostResult,
    HistoryRow,
    LatencyResult,
    TrainingResult,
    diagnostics_of,
    history_of,
)
from prunebench.experiments.reuse import StoredRow, Wanted, is_stored, misfit, reusable
from prunebench.experiments.spec import RunSpec
from prunebench.report.collected_detections import collect_detections, write_detections
from prunebench.report.diagnostics import summarize_diagnostics
from prunebench.report.kept_rows import KeptRows
from prunebench.report.other_code import OTHER
from prunebench.report.runs_csv import (
    HISTORY,
    RunRow,
    Timed,
    columns_of,
    is_fixed,
    is_latency,
    latency_prefixes,
    row_of,
)

# Returns the hash of the present code of a method with some options.
CodeOf = Callable[[str, Mapping[str, Any]], str | None]


def collect_to_csv(
    results: Path,
    experiment: str,
    runs: Sequence[RunSpec],
    config: ExperimentConfig | None = None,
    code_now: CodeOf | None = None,
    reuse: Sequence[Path] = (),
) -> Path:
    """Write `results/<experiment>/runs.csv` from the experiment's runs and return its path.

    What detectors find in a few pictures is written into detections.json beside it.

    The experiment's configuration adds the printed table and row that each run belongs to, and
    the share of its recipes' epochs. `code_now` returns the hash of a method's present code: runs
    that other code has made are marked. Runs that are not stored in `results` may have a row in
    the files `reuse` (`experiments.reuse`).
    """
    mine = [run for run in runs if run.experiment == experiment]
    if not mine:
        raise ResultError(f"no run belongs to the experiment {experiment!r}")
    path = results / experiment / "runs.csv"
    write_detections(path.parent, collect_detections(results, mine))
    kept = KeptRows.of_experiment(results, experiment)
    with _uncollected_garbage():
        write_rows(path, collect(results, mine, config, code_now, reuse, kept))
        kept.write()
    return path


def keep_rows(results: Path, runs: Sequence[RunSpec], path: Path) -> None:
    """Read the runs that are measured, and keep the values of their rows in a file for `collect`.

    A run that cannot be read is left out: `collect` says what is wrong with it.
    """
    bases, kept = _Bases(results), KeptRows(results, path)
    for spec in runs:
        folder = results / spec.path
        if all((folder / kind.FILE).is_file() for kind in (CostResult, LatencyResult)):
            with suppress(ResultError):
                read = partial(_values, folder, spec, spec.hash, bases)
                kept.values(spec.path, spec.hash, _files(spec), read)
    kept.write()


@contextmanager
def _uncollected_garbage() -> Iterator[None]:
    """Keep Python from looking for cyclic garbage, which rows do not make: a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def collect(
    results: Path,
    runs: Sequence[RunSpec],
    config: ExperimentConfig | None = None,
    code_now: CodeOf | None = None,
    reuse: Sequence[Path] = (),
    kept: KeptRows | None = None,
) -> list[RunRow]:
    """Return a row per run, in their order; runs that have not changed since come from `kept`.

    ResultError names the file that is missing, damaged, or belongs to another specification, or the
    reused row with other data or another base network than here.
    """
    bases = _Bases(results)
    reused = reusable([_wanted(spec) for spec in runs], reuse, results) if reuse else {}
    devices = {"cpu": processor_name(), "cuda": gpu_name()} if reused else {}
    rows = []
    for spec in runs:
        if spec.path in reused:
            rows.append(_reused_row(spec, reused[spec.path], config, code_now, devices))
            continue
        if reuse and not is_stored(results / spec.path, spec.hash):
            reason = misfit(_wanted(spec), reuse, results)
            if reason is not None:
                raise ResultError(f"{reason}; start the workflow again to run it here")
        path, spec_hash = spec.path, spec.hash
        read = partial(_values, results / path, spec, spec_hash, bases)
        values = read() if kept is None else kept.values(path, spec_hash, _files(spec), read)
        code = _code(values["code_hash"], spec, code_now)
        rows.append(RunRow(**values, **_names(spec, config), code=code))
    return rows


class _Bases:
    """The training results of base networks, each read once."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._known: dict[str, TrainingResult] = {}

    def of(self, run: RunSpec) -> TrainingResult:
        path = run.base.path
        if path not in self._known:
            self._known[path] = TrainingResult.read(self._results / path, run.base.hash)
        return self._known[path]


def _files(run: RunSpec) -> list[str]:
    """Return the files that a run's values are read from, below the results."""
    folder = run.path
    return [*(f"{folder}/{name}" for name in _READ), f"{run.base.path}/{TrainingResult.FILE}"]


_CHECKED = tuple(name for name in TRAINED_FILES if name != MODEL_FILE)  # `measure` checks that one
_READ = (TrainingResult.FILE, CostResult.FILE, LatencyResult.FILE, *_CHECKED)


def finished(results: Path, runs: Sequence[RunSpec], reuse: Sequence[Path] = ()) -> list[RunSpec]:
    """Return the runs that are trained and measured, or have a row in the files `reuse`."""
    reused = reusable([_wanted(spec) for spec in runs], reuse, results)

    def is_finished(run: RunSpec) -> bool:
        folder = results / run.path
        return is_stored(folder, run.hash) and (folder / CostResult.FILE).is_file()

    return [run for run in runs if run.path in reused or is_finished(run)]


def _wanted(spec: RunSpec) -> Wanted:
    base = spec.base
    return Wanted(spec.path, spec.hash, spec.dataset, base.path, base.hash, spec.widths_from)


def _reused_row(
    spec: RunSpec,
    stored: StoredRow,
    config: ExperimentConfig | None,
    code_now: CodeOf | None,
    devices: Mapping[str, str | None],
) -> RunRow:
    """Return a stored row under the names of this run.

    Latencies are dropped unless they were measured on a device of this machine's kind.
    """
    row = row_of(stored.cells, str(stored.file))
    try:
        measured_on = json.loads(row.latency_devices)
        kept = {kind: name for kind, name in measured_on.items() if devices.get(kind) == name}
    except (ValueError, AttributeError):
        raise ResultError(f"{stored.file}: latency_devices is not a JSON object") from None
    prefixes = tuple(name for kind in kept for name in latency_prefixes(kind))
    more = {
        name: value
        for name, value in row.more.items()
        if not is_latency(name) or name.startswith(prefixes)
    }
    return replace(
        row,
        **_names(spec, config),
        more=more,
        latency_devices=_json(kept),
        code=_code(row.code_hash, spec, code_now),
        reused=str(stored.file),
    )


def write_rows(path: Path, rows: Sequence[RunRow]) -> None:
    """Write rows as CSV, atomically."""
    write_csv(path, columns_of(rows), (row.cells() for row in rows))


def _values(folder: Path, spec: RunSpec, spec_hash: str, bases: _Bases) -> dict[str, Any]:
    """Return the row of the run in `folder`, without its names and its code's mark."""
    base = bases.of(spec)
    training = TrainingResult.read(folder, spec_hash)
    parsed = (STRUCTURE_FILE, HISTORY_FILE, DIAGNOSTICS_FILE)
    structure, history, diagnostics = (training.content(folder, name) for name in parsed)
    for problem in training.damages(folder, without=(MODEL_FILE, *parsed)):
        raise ResultError(problem)
    cost = CostResult.read(folder, spec_hash)
    latencies, latency_devices = _latencies(folder, spec_hash)
    widths, stages = _layers(structure, folder / STRUCTURE_FILE)
    metric = training.metric
    is_top1 = training.task == "classification"
    return dict(
        task=training.task,
        dataset=spec.dataset,
        architecture=spec.architecture,
        method=spec.method,
        ratio=spec.ratio,
        ratio_kind=spec.ratio_kind,
        base_top1=base.accuracy if is_top1 else None,
        top1=training.accuracy if is_top1 else None,
        base_map=None if is_top1 else base.accuracy,
        map=None if is_top1 else training.accuracy,
        flops_m=cost.macs / 1e6,
        flops_reduction_pct=100 * (1 - cost.macs / cost.base_macs),
        params_m=cost.params / 1e6,
        params_reduction_pct=100 * (1 - cost.params / cost.base_params),
        speedup_theoretical=cost.base_macs / cost.macs_theoretical,
        source=f"prunebench {training.versions.get('prunebench', prunebench.__version__)}",
        seed=spec.seed,
        macs=cost.macs,
        params=cost.params,
        base_macs=cost.base_macs,
        base_params=cost.base_params,
        macs_theoretical=cost.macs_theoretical,
        speedup_macs=cost.base_macs / cost.macs,
        sparsity_pct=100 * cost.sparsity,
        activations=cost.activations,
        val_accuracy=training.val_accuracy,
        base_val_accuracy=base.val_accuracy,
        accuracy_best_val=training.accuracy_best_val,
        accuracy_best_test=training.accuracy_best_test,
        accuracy_masked=training.accuracy_masked,
        accuracy_after_removal=training.plans[-1].test_accuracy_after if training.plans else None,
        drop=base.accuracy - training.accuracy,
        test_images=training.test_images,
        epochs=training.epochs,
        fine_tune_epochs=_fine_tune_epochs(spec, training),
        training_seconds=sum(training.seconds.values()),
        selection_seconds=training.selection_seconds,
        more=latencies | _own_numbers(folder, training),
        latency_devices=_json(latency_devices),
        capped=";".join(training.capped),
        start=spec.start,
        options=None if training.options is None else _json(training.options),
        spec_hash=training.spec_hash,
        base_spec_hash=base.spec_hash,
        base_hash=training.base_hash,
        data_hash=training.data_sha256,
        device=training.device,
        processor=training.processor,
        threads=spec.threads,
        commit=training.commit,
        code_hash=training.code,
        versions=_json(training.versions),
        date=training.date,
        widths=_json(widths),
        stages=_json(stages),
        history=_json(_history(history_of(history, folder / HISTORY_FILE, metric), metric)),
        insides=_json(
            summarize_diagnostics(diagnostics_of(diagnostics, folder / DIAGNOSTICS_FILE))
        ),
        by_class=_by_class(training.by_class),
    )


def _names(spec: RunSpec, config: ExperimentConfig | None) -> dict[str, Any]:
    """Return the columns that say what a run is called here, and what it is compared with."""
    published = None if config is None else config.published
    name = None
    if published is not None:
        name = published.name_of(spec.architecture, spec.method, spec.setting, spec.ratio_slug)
    recipes = {
        role: {"name": spec.recipe_names.get(role)} | recipe.model_dump(mode="json")
        for role, recipe in spec.recipes.items()
    }
    return {
        "paper": None if published is None else published.paper,
        "table": None if published is None else published.table,
        "printed": None if name is None else _json(name),
        "experiment": spec.experiment,
        "setting": spec.setting,
        "recipes": _json(recipes),
        "epochs_scale": None if config is None else config.epochs_scale,
        "max_steps": next((r.max_steps for r in spec.recipes.values()), None),
        "max_images": spec.base.recipe.max_images,
    }


def _fine_tune_epochs(spec: RunSpec, training: TrainingResult) -> float | None:
    """Return the epochs of fine-tuning: the recipe's, or what `total_epochs` left for it."""
    fine_tune = spec.recipes.get("fine_tune")
    if fine_tune is None:
        return None
    if spec.options.get("total_epochs") is None or training.last_phase_epochs is None:
        return fine_tune.epochs
    return training.last_phase_epochs


def _code(made_by: str | None, spec: RunSpec, code_now: CodeOf | None) -> str | None:
    """Return the mark of a run that other code has made; None if that is not known."""
    now = None if code_now is None else code_now(spec.method, spec.options)
    return None if None in (now, made_by) or now == made_by else OTHER


def _layers(content: bytes, path: Path) -> tuple[dict[str, list[int]], list[int | None]]:
    """Return [kept, full] of each layer by name, and the layers' stages.

    The model of structure.json belongs to `network`, which imports torch.
    """
    structure = parsed_json_of(content, path)
    try:
        layers = structure["layers"]
        widths = {name: [layer["kept"], layer["full"]] for name, layer in layers.items()}
        return widths, [layer["stage"] for layer in layers.values()]
    except (KeyError, TypeError, AttributeError):
        raise ResultError(f"{path}: not the structure of a network; train it again") from None


def _own_numbers(folder: Path, training: TrainingResult) -> dict[str, float]:
    """Return the method's own numbers; ResultError if a name is already a column."""
    for name in training.summary:
        if is_fixed(name) or is_latency(name):
            path = folder / training.FILE
            raise ResultError(f"{path}: summary: the name {name!r} is already a column of runs.csv")
    return training.summary


def _latencies(folder: Path, spec_hash: str) -> tuple[dict[str, float], dict[str, str]]:
    """Return the latencies by column, none if they were not measured, and devices by kind.

    The stability of results of earlier versions is not known, and has no column.
    ResultError if a device, part, batch size and mode was timed twice (with another precision or
    memory format): the second would need columns of its own.
    """
    path = folder / LatencyResult.FILE
    if not path.exists():
        return {}, {}
    found: dict[str, float] = {}
    devices: dict[str, str] = {}
    for entry in LatencyResult.read(folder, spec_hash).entries:
        what = Timed(entry.device_kind, entry.part, entry.batch_size, entry.mode)
        if what.columns[0] in found:
            raise ResultError(f"{path}: two entries for {what.columns[0]}")
        times = (entry.median_ms, entry.base_median_ms, entry.speedup)
        found |= dict(zip(what.columns, times, strict=True))
        low, high, unstable = what.stability
        found |= dict(zip((low, high), entry.speedup_range, strict=True))
        if entry.unstable is not None:
            found[unstable] = int(bool(entry.unstable))
        devices[entry.device_kind] = entry.device
    return found, devices


def _history(rows: Sequence[HistoryRow], metric: Metric) -> dict[str, list[Any]]:
    """Return history.csv by columns, None for an empty cell and for nan and inf."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(HistoryRow._fields)
    by_name = dict(zip(HistoryRow._fields, columns, strict=True))
    return {to_file(name, metric): list(map(_cell, by_name[name])) for name in HISTORY}


def _by_class(percent: Mapping[str, float | None] | None) -> str | None:
    """Return the metric of each class; None if the task has none."""
    if percent is None:
        return None
    return _json({name: None if x is None else round(x, 4) for name, x in percent.items()})


def _cell(value: str | float | None) -> str | float | None:
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    return value


# Made once: `json.dumps` makes one for each call with options.
_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
