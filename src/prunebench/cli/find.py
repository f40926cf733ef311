"""Which runs a command is about: from the resolved file or from the configuration itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunebench.core.config import Config, read_config
from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.names import unknown_name
from prunebench.core.resolved import RESOLVED_FILE, read_resolved, resolution_key, run_specs
from prunebench.core.spec import BaseSpec, RunSpec


def experiment_runs(
    experiment: str, *, config: Path, results: Path, resolved: Path | None
) -> list[RunSpec]:
    """Return the runs of an experiment.

    From the file `resolved` where one is given, which is how the workflow asks; else from the
    configuration, by way of the results' own resolved file where that is up to date, since
    reading it needs no torch.
    """
    if resolved is not None:
        runs = read_resolved(resolved).by_experiment.get((experiment,), [])
        if not runs:
            raise ConfigError(f"{resolved}: holds no run of the experiment {experiment!r}")
        return run_specs(runs)
    settings, folder = read_config(config), config.parent
    try:
        known = read_resolved(results / RESOLVED_FILE)
    except ResultError:
        known = None
    if known and known.key == resolution_key(settings.model_dump(mode="json"), folder):
        runs = known.by_experiment.get((experiment,), [])
        if runs:
            return run_specs(runs)
    from prunebench.cli.resolve import resolve_experiment

    return resolve_experiment(experiment, folder, settings.seeds)


def one_run(runs: Sequence[RunSpec], **wanted: str | int | None) -> RunSpec:
    """Return the only run with these values; None fits all. ConfigError says what to add."""
    left = list(runs)
    for key, value in wanted.items():
        if value is None:
            continue
        fitting = [run for run in left if _value(run, key) == str(value)]
        if not fitting:
            known = sorted({_value(run, key) for run in left})
            raise ConfigError(unknown_name(key, str(value), known))
        left = fitting
    if len(left) > 1:
        open_keys = {
            key: sorted({_value(run, key) for run in left})
            for key in wanted
            if len({_value(run, key) for run in left}) > 1
        }
        words = "; ".join(f"--{key} {' | '.join(values)}" for key, values in open_keys.items())
        raise ConfigError(f"{len(left)} runs fit; choose {words}")
    return left[0]


def _value(run: RunSpec, key: str) -> str:
    return run.ratio_slug if key == "ratio" else str(getattr(run, key))


def check_expected(spec: RunSpec | BaseSpec, expected: str | None) -> None:
    """Raise ConfigError where the configuration has changed since a workflow was planned."""
    if expected is not None and spec.hash != expected:
        raise ConfigError(
            f"{spec.path}: the specification is {spec.hash}, this job was planned for {expected}; "
            "the configuration has changed since, start the workflow again"
        )


def read_settings(config: Path) -> Config:
    """Return the configuration; without a file, its defaults."""
    return read_config(config) if config.is_file() else Config(experiments=("digits",))
