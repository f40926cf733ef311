"""Read the folders of finished runs into rows, and write them as one tidy runs.csv."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import prunebench
from prunebench.core.errors import ResultError
from prunebench.core.files import read_csv, read_json, write_csv
from prunebench.experiments.config import ExperimentConfig
from prunebench.experiments.spec import BaseSpec, RunSpec
from prunebench.report import runs_csv as columns
from prunebench.report.diagnostics import read_insides

Row = dict[str, Any]  # column -> value; None is an empty cell


def collect_to_csv(
    results: Path,
    experiment: str,
    runs: Sequence[RunSpec],
    config: ExperimentConfig | None = None,
) -> Path:
    """Write `results/<experiment>/runs.csv` from the experiment's runs and return its path.

    With the experiment's file, each row says which printed row it is, and whether it is shortened.
    """
    mine = [run for run in runs if run.experiment == experiment]
    if not mine:
        raise ResultError(f"no run belongs to the experiment {experiment!r}")
    path = results / experiment / "runs.csv"
    write_rows(path, collect(results, mine, config))
    return path


def collect(
    results: Path,
    runs: Sequence[RunSpec],
    config: ExperimentConfig | None = None,
) -> list[Row]:
    """Return a row per run, in their order.

    ResultError names the file that is missing, damaged, or belongs to another specification.
    """
    bases: dict[str, Row] = {}
    rows = []
    for spec in runs:
        if spec.base.path not in bases:
            bases[spec.base.path] = _base_columns(results, spec.base)
        row = _row(results / spec.path, spec, bases[spec.base.path])
        rows.append(row | _experiment_columns(spec, config))
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV, atomically; an absent value is an empty cell."""
    write_csv(path, columns.ordered(name for row in rows for name in row), rows)


def _row(folder: Path, spec: RunSpec, base: Row) -> Row:
    """Put one run's files into one row."""
    row = {
        "task": "classification",
        "dataset": spec.dataset,
        "architecture": spec.architecture,
        "method": spec.method,
        "setting": spec.setting,
        "ratio": spec.ratio,
        "ratio_kind": spec.ratio_kind,
        "experiment": spec.experiment,
        "seed": spec.seed,
        "threads": spec.threads,
        "start": spec.start,
        "recipes": _json(_named_recipes(spec)),
        "fine_tune_epochs": _fine_tune_epochs(spec),
        **base,
        **_training_columns(folder / "training.json", spec),
        **_cost_columns(folder / "metrics.json", spec),
        **_structure_columns(folder / "structure.json"),
        **_latency_columns(folder / "latency.json", spec),
        "history": _json(_history(folder / "history.csv")),
        "insides": _json(read_insides(folder / "diagnostics.csv")),
    }
    row["drop"] = row["base_top1"] - row["top1"]
    return row


def _experiment_columns(spec: RunSpec, config: ExperimentConfig | None) -> Row:
    """Return the share of the epochs, the printed table, and the names of the run's row in it."""
    if config is None:
        return {}
    row: Row = {"epochs_scale": config.epochs_scale}
    if config.published is not None:
        published = config.published
        name = published.name_of(spec.architecture, spec.method, spec.setting, spec.ratio_slug)
        printed = None if name is None else _json(name)
        row |= {"paper": published.paper, "table": published.table, "printed": printed}
    return row


def _base_columns(results: Path, spec: BaseSpec) -> Row:
    path = results / spec.path / "training.json"
    training = _read_own(path, spec.hash)
    with _Keys(path):
        return {"base_top1": training["top1"], "base_val_top1": training["val_top1"]}


def _training_columns(path: Path, spec: RunSpec) -> Row:
    training = _read_own(path, spec.hash)
    with _Keys(path):
        row = {
            name: training[name]
            for name in (
                "top1",
                "val_top1",
                "top1_best_val",
                "top1_best_test",
                "top1_masked",
                "epochs",
                "selection_seconds",
                "spec_hash",
                "base_hash",
                "device",
                "commit",
            )
        }
        row["training_seconds"] = sum(training["seconds"].values())
        row["capped"] = ";".join(training["capped"])
        row["versions"] = _json(training["versions"])
        row["source"] = (
            f"prunebench {training['versions'].get('prunebench', prunebench.__version__)}"
        )
        summary = dict(training["summary"])
    for name in summary:
        if columns.is_fixed(name) or columns.is_latency(name):
            raise ResultError(f"{path}: the summary figure {name!r} is a column of its own")
    return row | summary


def _cost_columns(path: Path, spec: RunSpec) -> Row:
    metrics = _read_own(path, spec.hash)
    with _Keys(path):
        counted = ("macs", "params", "base_macs", "base_params", "macs_theoretical", "activations")
        row = {name: metrics[name] for name in counted}
        row["sparsity_pct"] = 100 * metrics["sparsity"]
    row["flops_m"] = row["macs"] / 1e6
    row["params_m"] = row["params"] / 1e6
    row["flops_reduction_pct"] = 100 * (1 - row["macs"] / row["base_macs"])
    row["params_reduction_pct"] = 100 * (1 - row["params"] / row["base_params"])
    row["speedup_macs"] = row["base_macs"] / row["macs"]
    row["speedup_theoretical"] = row["base_macs"] / row["macs_theoretical"]
    return row


def _structure_columns(path: Path) -> Row:
    structure = _read(path)
    with _Keys(path):
        layers = structure["layers"]
        widths = {name: [layer["kept"], layer["full"]] for name, layer in layers.items()}
        stages = [layer["stage"] for layer in layers.values()]
    return {"widths": _json(widths), "stages": _json(stages)}


def _latency_columns(path: Path, spec: RunSpec) -> Row:
    """Return the latencies; none where they were not measured.

    ResultError where one device and batch size was timed twice (another precision or format):
    these would need columns of their own.
    """
    if not path.exists():
        return {}
    latency = _read_own(path, spec.hash)
    row: Row = {}
    with _Keys(path):
        for entry in latency["entries"]:
            names = columns.latency_columns(entry["device_kind"], entry["batch_size"])
            if names[0] in row:
                raise ResultError(f"{path}: two entries for {names[0]}")
            row |= dict(
                zip(
                    names,
                    (entry[k] for k in ("median_ms", "base_median_ms", "speedup")),
                    strict=True,
                )
            )
    return row


def _history(path: Path) -> dict[str, list[Any]]:
    """Return history.csv by columns, with numbers as numbers and empty cells as None."""
    records = read_csv(path, columns.HISTORY)
    return {
        name: [_cell(name, record[name], path) for record in records] for name in columns.HISTORY
    }


def _cell(name: str, text: str, path: Path) -> float | str | None:
    if name in ("phase", "event"):
        return text
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ResultError(f"{path}: {name} is {text!r}, not a number") from None
    return number if math.isfinite(number) else None


def _named_recipes(spec: RunSpec) -> dict[str, Any]:
    """Return the recipes by role, each with its name."""
    return {
        role: {"name": spec.recipe_names.get(role)} | recipe.model_dump(mode="json")
        for role, recipe in spec.recipes.items()
    }


def _fine_tune_epochs(spec: RunSpec) -> int | None:
    recipe = spec.recipes.get("fine_tune")
    return None if recipe is None else recipe.epochs


def _read_own(path: Path, spec_hash: str) -> dict[str, Any]:
    """Read a result file; ResultError where another specification's run wrote it."""
    content = _read(path)
    found = content.get("spec_hash")
    if found != spec_hash:
        raise ResultError(
            f"{path}: stale result of the specification {found}, expected {spec_hash}; run it again"
        )
    return content


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ResultError(f"{path}: not a JSON object")
    return content


class _Keys:
    """A block in which a missing key or a value of the wrong kind is a ResultError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, KeyError):
            raise ResultError(f"{self.path}: the key {error.args[0]!r} is missing") from None
        if isinstance(error, TypeError | AttributeError | ValueError):
            raise ResultError(f"{self.path}: damaged ({error})") from None


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
