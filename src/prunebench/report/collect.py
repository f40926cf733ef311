"""Collect the result files of finished runs into one runs.csv."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import prunebench
from prunebench.core.errors import ResultError
from prunebench.core.files import read_json, write_csv
from prunebench.experiments.config import ExperimentConfig
from prunebench.experiments.results import (
    CostResult,
    LatencyResult,
    TrainingResult,
    read_diagnostics,
    read_history,
)
from prunebench.experiments.spec import RunSpec
from prunebench.report.diagnostics import summarize_diagnostics
from prunebench.report.other_code import OTHER
from prunebench.report.runs_csv import (
    HISTORY,
    RunRow,
    columns_of,
    is_fixed,
    is_latency,
    latency_columns,
)

# Returns the hash of the present code of a method with some options.
CodeOf = Callable[[str, Mapping[str, Any]], str | None]


def collect_to_csv(
    results: Path,
    experiment: str,
    runs: Sequence[RunSpec],
    config: ExperimentConfig | None = None,
    code_now: CodeOf | None = None,
) -> Path:
    """Write `results/<experiment>/runs.csv` from the experiment's runs and return its path.

    The experiment's configuration adds the printed table and row that each run belongs to, and
    the share of its recipes' epochs. `code_now` returns the hash of a method's present code: runs
    that other code has made are marked.
    """
    mine = [run for run in runs if run.experiment == experiment]
    if not mine:
        raise ResultError(f"no run belongs to the experiment {experiment!r}")
    path = results / experiment / "runs.csv"
    write_rows(path, collect(results, mine, config, code_now))
    return path


def collect(
    results: Path,
    runs: Sequence[RunSpec],
    config: ExperimentConfig | None = None,
    code_now: CodeOf | None = None,
) -> list[RunRow]:
    """Return a row per run, in their order.

    ResultError names the file that is missing, damaged, or belongs to another specification.
    """
    bases: dict[str, TrainingResult] = {}
    rows = []
    for spec in runs:
        base = spec.base
        if base.path not in bases:
            bases[base.path] = TrainingResult.read(results / base.path, base.hash)
        rows.append(_row(results / spec.path, spec, bases[base.path], config, code_now))
    return rows


def write_rows(path: Path, rows: Sequence[RunRow]) -> None:
    """Write rows as CSV, atomically."""
    write_csv(path, columns_of(rows), (row.cells() for row in rows))


def _row(
    folder: Path,
    spec: RunSpec,
    base: TrainingResult,
    config: ExperimentConfig | None,
    code_now: CodeOf | None,
) -> RunRow:
    """Return the row of the run in `folder`."""
    training = TrainingResult.read(folder, spec.hash)
    cost = CostResult.read(folder, spec.hash)
    published = None if config is None else config.published
    name = None
    if published is not None:
        name = published.name_of(spec.architecture, spec.method, spec.setting, spec.ratio_slug)
    fine_tune = spec.recipes.get("fine_tune")
    recipes = {
        role: {"name": spec.recipe_names.get(role)} | recipe.model_dump(mode="json")
        for role, recipe in spec.recipes.items()
    }
    widths, stages = _layers(folder / "structure.json")
    return RunRow(
        paper=None if published is None else published.paper,
        table=None if published is None else published.table,
        task="classification",
        dataset=spec.dataset,
        architecture=spec.architecture,
        method=spec.method,
        setting=spec.setting,
        ratio=spec.ratio,
        ratio_kind=spec.ratio_kind,
        base_top1=base.top1,
        top1=training.top1,
        flops_m=cost.macs / 1e6,
        flops_reduction_pct=100 * (1 - cost.macs / cost.base_macs),
        params_m=cost.params / 1e6,
        params_reduction_pct=100 * (1 - cost.params / cost.base_params),
        speedup_theoretical=cost.base_macs / cost.macs_theoretical,
        source=f"prunebench {training.versions.get('prunebench', prunebench.__version__)}",
        experiment=spec.experiment,
        seed=spec.seed,
        macs=cost.macs,
        params=cost.params,
        base_macs=cost.base_macs,
        base_params=cost.base_params,
        macs_theoretical=cost.macs_theoretical,
        speedup_macs=cost.base_macs / cost.macs,
        sparsity_pct=100 * cost.sparsity,
        activations=cost.activations,
        val_top1=training.val_top1,
        base_val_top1=base.val_top1,
        top1_best_val=training.top1_best_val,
        top1_best_test=training.top1_best_test,
        top1_masked=training.top1_masked,
        top1_after_removal=training.plans[-1].test_top1_after if training.plans else None,
        drop=base.top1 - training.top1,
        test_images=training.test_images,
        epochs=training.epochs,
        epochs_scale=None if config is None else config.epochs_scale,
        fine_tune_epochs=None if fine_tune is None else fine_tune.epochs,
        training_seconds=sum(training.seconds.values()),
        selection_seconds=training.selection_seconds,
        more=_latencies(folder, spec) | _own_numbers(folder, training),
        capped=";".join(training.capped),
        start=spec.start,
        recipes=_json(recipes),
        spec_hash=training.spec_hash,
        base_hash=training.base_hash,
        data_hash=training.data_sha256,
        device=training.device,
        processor=training.processor,
        threads=spec.threads,
        commit=training.commit,
        code=_code(training, spec, code_now),
        versions=_json(training.versions),
        date=training.date,
        widths=_json(widths),
        stages=_json(stages),
        history=_json(_history(folder)),
        printed=None if name is None else _json(name),
        insides=_json(summarize_diagnostics(read_diagnostics(folder))),
    )


def _code(training: TrainingResult, spec: RunSpec, code_now: CodeOf | None) -> str | None:
    """Return the mark of a run that other code has made; None if that is not known."""
    now = None if code_now is None else code_now(spec.method, spec.options)
    return None if None in (now, training.code) or now == training.code else OTHER


def _layers(path: Path) -> tuple[dict[str, list[int]], list[int | None]]:
    """Return [kept, full] of each layer by name, and the layers' stages.

    The model of structure.json belongs to `network`, which imports torch.
    """
    content = read_json(path)
    try:
        layers = content["layers"]
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


def _latencies(folder: Path, spec: RunSpec) -> dict[str, float]:
    """Return the latencies by column, none if they were not measured.

    ResultError if a device and batch size was timed twice (with another precision or memory
    format): the second would need columns of its own.
    """
    path = folder / LatencyResult.FILE
    if not path.exists():
        return {}
    found: dict[str, float] = {}
    for entry in LatencyResult.read(folder, spec.hash).entries:
        names = latency_columns(entry.device_kind, entry.batch_size)
        if names[0] in found:
            raise ResultError(f"{path}: two entries for {names[0]}")
        times = (entry.median_ms, entry.base_median_ms, entry.speedup)
        found |= dict(zip(names, times, strict=True))
    return found


def _history(folder: Path) -> dict[str, list[Any]]:
    """Return history.csv by columns, None for an empty cell and for nan and inf."""
    rows = read_history(folder)
    return {name: [_cell(getattr(row, name)) for row in rows] for name in HISTORY}


def _cell(value: Any) -> Any:
    if isinstance(value, str) or value is None:
        return value
    return float(value) if math.isfinite(value) else None


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
