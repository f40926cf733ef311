"""Look up runs: in a resolved file, or in the configuration itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.names import unknown_name
from prunebench.experiments.config import Config, read_config
from prunebench.experiments.resolved import (
    ResolvedFile,
    read_resolved,
    resolution_keys,
    resolved_file,
)
from prunebench.experiments.spec import BaseSpec, RunSpec, canonical_ratio, run_parts


def experiment_runs(
    experiment: str | None, *, config: Path, results: Path, resolved: Path | None
) -> Mapping[str, RunSpec]:
    """Return the runs of an experiment by path; without a name, of the only experiment.

    They come from the file `resolved` if it is given, as by the workflow. Otherwise they come from
    the configuration, through the resolved file in `results` if that is up to date: reading it
    needs no torch. Runs of a file are validated when they are looked up.
    """
    if resolved is not None:
        runs = read_resolved(resolved)
        known = sorted({run_parts(path)["experiment"] for path in runs})
        if (experiment or _only(resolved, known)) not in known:
            raise ConfigError(f"{resolved}: {unknown_name('experiment', str(experiment), known)}")
        return runs
    settings, folder = read_config(config), config.parent
    name = experiment or _only(config, settings.experiments)
    key = resolution_keys(settings.model_copy(update={"experiments": (name,)}), folder)[name]
    try:
        return read_resolved(resolved_file(results, name), key)
    except ResultError:
        pass
    from prunebench.planning.grid import resolve_experiment

    return {
        run.path: run for run in resolve_experiment(name, folder, settings.seeds, settings.ratios)
    }


def only_experiment(config: Path) -> str:
    """Return the experiment of the configuration; ConfigError if it has several."""
    return _only(config, read_config(config).experiments)


def _only(source: Path, names: Sequence[str]) -> str:
    if len(names) != 1:
        raise ConfigError(f"{source}: choose --experiment {' | '.join(names)}")
    return names[0]


def entries_of(
    runs: Mapping[str, RunSpec],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return runs and their base networks as in a resolved file, by path: without validation."""
    if isinstance(runs, ResolvedFile):
        return {path: runs.entry(path) for path in runs}, runs.bases
    found = {
        path: {**run.model_dump(mode="json"), "hash": run.hash, "base_path": run.base.path}
        for path, run in runs.items()
    }
    return found, {run.base.path: {"hash": run.base.hash} for run in runs.values()}


def named_runs(runs: Mapping[str, RunSpec], paths: Sequence[str]) -> list[RunSpec]:
    """Return the runs with these paths. ConfigError for an unknown one."""
    for path in paths:
        if path not in runs:
            raise ConfigError(f"--run: {path!r} is no run of this experiment")
    return [runs[path] for path in paths]


def fitting_runs(runs: Mapping[str, RunSpec], **wanted: str | int | None) -> list[RunSpec]:
    """Return the runs with these values; None fits all. ConfigError if no run fits."""
    return [runs[path] for path in _fitting(runs, wanted)]


def one_run(runs: Mapping[str, RunSpec], **wanted: str | int | None) -> RunSpec:
    """Return the only run with these values; None fits all. ConfigError lists the open choices."""
    left = _fitting(runs, wanted)
    if len(left) > 1:
        choices = {key: sorted({parts[key] for parts in left.values()}) for key in wanted}
        words = "; ".join(
            f"--{key} {' | '.join(values)}" for key, values in choices.items() if len(values) > 1
        )
        raise ConfigError(f"{len(left)} runs fit; choose {words}")
    return runs[next(iter(left))]


def _fitting(
    runs: Mapping[str, RunSpec], wanted: Mapping[str, str | int | None]
) -> dict[str, dict[str, str]]:
    """Return the parts of the fitting paths, by path. Only paths are compared: it is fast."""
    left = {path: run_parts(path) for path in runs}
    for key, value in wanted.items():
        if value is None:
            continue
        text = canonical_ratio(str(value)) if key == "ratio" else str(value)
        known = {parts[key] for parts in left.values()}
        if text not in known:
            raise ConfigError(f"--{key}: {unknown_name(key, str(value), known)} among these runs")
        left = {path: parts for path, parts in left.items() if parts[key] == text}
    return left


def check_expected(specs: Sequence[RunSpec | BaseSpec], expected: str | None) -> None:
    """Raise ConfigError if the configuration has changed since the workflow was planned.

    `expected` has the hashes of the specifications, separated by spaces.
    """
    if expected is None:
        return
    hashes = expected.split()
    if len(hashes) != len(specs):
        raise ConfigError(f"--expect: {len(hashes)} hashes for {len(specs)} runs")
    for spec, planned in zip(specs, hashes, strict=True):
        if spec.hash != planned:
            raise ConfigError(
                f"{spec.path}: the specification is {spec.hash}, but this job was planned for "
                f"{planned}; the configuration has changed, start the workflow again"
            )


def settings_of(config: Path) -> Config:
    """Return the configuration; its defaults if there is no file."""
    return read_config(config) if config.is_file() else Config(experiments=("digits",))
