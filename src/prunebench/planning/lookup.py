"""Which runs a command is about: from the resolved file or from the configuration itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.names import unknown_name
from prunebench.experiments.config import Config, read_config
from prunebench.experiments.phases import RATIO_KINDS
from prunebench.experiments.resolved import read_resolved, resolution_keys, resolved_file, run_specs
from prunebench.experiments.spec import BaseSpec, RunSpec, ratio_slug


def experiment_runs(
    experiment: str | None, *, config: Path, results: Path, resolved: Path | None
) -> list[RunSpec]:
    """Return the runs of an experiment; of the only one there is, where none is named.

    From the file `resolved` where one is given, which is how the workflow asks; else from the
    configuration, by way of the results' own resolved file where that is up to date, since
    reading it needs no torch.
    """
    if resolved is not None:
        by_experiment = read_resolved(resolved).by_experiment
        name = experiment or _only(resolved, list(by_experiment))
        if name not in by_experiment:
            raise ConfigError(f"{resolved}: {unknown_name('experiment', name, by_experiment)}")
        return run_specs(by_experiment[name])
    settings, folder = read_config(config), config.parent
    name = experiment or _only(config, settings.experiments)
    key = resolution_keys(settings.model_copy(update={"experiments": (name,)}), folder)[name]
    try:
        return run_specs(read_resolved(resolved_file(results, name), key).runs.values())
    except ResultError:
        pass
    from prunebench.planning.grid import resolve_experiment

    return resolve_experiment(name, folder, settings.seeds)


def _only(source: Path, names: Sequence[str]) -> str:
    if len(names) != 1:
        raise ConfigError(f"{source}: choose --experiment {' | '.join(names)}")
    return names[0]


def fitting_runs(runs: Sequence[RunSpec], **wanted: str | int | None) -> list[RunSpec]:
    """Return the runs with these values, of which None fits all; ConfigError where none fits."""
    left = list(runs)
    for key, value in wanted.items():
        if value is None:
            continue
        text = canonical_ratio(str(value)) if key == "ratio" else str(value)
        known = {_value(run, key) for run in left}
        if text not in known:
            raise ConfigError(f"--{key}: {unknown_name(key, str(value), known)} among these runs")
        left = [run for run in left if _value(run, key) == text]
    return left


def one_run(runs: Sequence[RunSpec], **wanted: str | int | None) -> RunSpec:
    """Return the only run with these values; None fits all. ConfigError says what to add."""
    left = fitting_runs(runs, **wanted)
    if len(left) > 1:
        open_keys = {key: sorted({_value(run, key) for run in left}) for key in wanted}
        words = "; ".join(
            f"--{key} {' | '.join(values)}" for key, values in open_keys.items() if len(values) > 1
        )
        raise ConfigError(f"{len(left)} runs fit; choose {words}")
    return left[0]


def canonical_ratio(text: str) -> str:
    """Spell a ratio that was given by hand as results paths do; other words stay as they are.

    >>> canonical_ratio("0.50"), canonical_ratio("macs-5e-1"), canonical_ratio("auto")
    ('0.5', 'macs-0.5', 'auto')
    """
    kinds = "|".join(RATIO_KINDS)
    matched = re.fullmatch(rf"(?:({kinds})-)?([0-9.]+(?:e-?[0-9]+)?)", text)
    if not matched:
        return text
    try:
        return ratio_slug(float(matched[2]), matched[1] or "units_per_group")  # type: ignore[arg-type]
    except ValueError:
        return text


def _value(run: RunSpec, key: str) -> str:
    return run.ratio_slug if key == "ratio" else str(getattr(run, key))


def check_expected(spec: RunSpec | BaseSpec, expected: str | None) -> None:
    """Raise ConfigError where the configuration has changed since a workflow was planned."""
    if expected is not None and spec.hash != expected:
        raise ConfigError(
            f"{spec.path}: the specification is {spec.hash}, this job was planned for {expected}; "
            "the configuration has changed since, start the workflow again"
        )


def settings_of(config: Path) -> Config:
    """Return the configuration; where there is no file, its defaults."""
    return read_config(config) if config.is_file() else Config(experiments=("digits",))
