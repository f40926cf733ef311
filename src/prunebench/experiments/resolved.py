"""Resolved experiments as files, which the workflow reads instead of importing torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.files import read_json, write_json
from prunebench.experiments.config import Config
from prunebench.experiments.spec import BaseSpec, RunSpec

PACKAGE = Path(__file__).resolve().parents[1]
# The folders whose sources know names, options and revisions.
RESOLVED_FROM = ("core", "criteria", "data", "experiments", "methods", "models", "planning")


def resolved_file(results: Path, experiment: str) -> Path:
    """Return where an experiment's runs are written down: other experiments leave it alone."""
    return results / "resolved" / f"{experiment}.json"


@dataclass(frozen=True)
class Resolved:
    """The runs of one or several experiments, and the base networks they start from.

    Attributes
    ----------
    runs, bases
        Specifications as they stand in the files, by path; "path", "hash" and a run's "base_path"
        stand beside their own keys.
    """

    runs: dict[str, dict[str, Any]]
    bases: dict[str, dict[str, Any]]

    @cached_property
    def by_experiment(self) -> dict[str, list[dict[str, Any]]]:
        """Return the runs by experiment."""
        grouped: dict[str, list[dict[str, Any]]] = {}
        for run in self.runs.values():
            grouped.setdefault(run["experiment"], []).append(run)
        return grouped

    @cached_property
    def by_network(self) -> dict[str, list[str]]:
        """Return the paths of runs and of their bases by "experiment/data set/architecture"."""
        grouped: dict[str, dict[str, None]] = {}
        for run in self.runs.values():
            place = f"{run['experiment']}/{run['dataset']}/{run['architecture']}"
            paths = grouped.setdefault(place, {})
            paths |= {run["path"]: None, run["base_path"]: None}
        return {place: list(paths) for place, paths in grouped.items()}

    def starts_of(self, path: str) -> list[str]:
        """Return the paths that a run starts from: its base network, a run whose widths it takes.

        Neither for a method that starts afresh with widths of its own.
        """
        run = self.runs[path]
        starts = [] if run["start"] == "fresh" else [run["base_path"]]
        return starts + ([run["widths_from"]] if run["widths_from"] else [])


def run_specs(entries: Iterable[Mapping[str, Any]]) -> list[RunSpec]:
    """Return entries of a `Resolved` as specifications."""
    return [
        RunSpec.model_validate({key: run[key] for key in RunSpec.model_fields if key in run})
        for run in entries
    ]


def write_resolved(path: Path, runs: Iterable[RunSpec], key: str) -> None:
    """Write the specifications of an experiment's runs, and the key of what they were made from."""
    bases: dict[str, BaseSpec] = {}
    entries = []
    for run in runs:
        bases[run.base.path] = run.base
        entries.append({"base_path": run.base.path, **_entry(run)})
    content = {"key": key, "bases": [_entry(base) for base in bases.values()], "runs": entries}
    write_json(path, content)


def _entry(spec: RunSpec | BaseSpec) -> dict[str, Any]:
    return {"path": spec.path, "hash": spec.hash, **spec.model_dump(mode="json")}


def read_resolved(path: Path, key: str | None = None) -> Resolved:
    """Read what `write_resolved` wrote.

    ResultError where the file is missing or damaged, or was made from something else than `key`.
    """
    content = read_json(path)
    try:
        runs, bases = content["runs"], content["bases"]
        by_path = [{entry["path"]: entry for entry in entries} for entries in (runs, bases)]
        made_from = content["key"]
    except (KeyError, TypeError):
        raise ResultError(f"{path}: not a resolved experiment; resolve it again") from None
    if key not in (None, made_from):
        raise ResultError(f"{path}: resolved from another configuration; resolve it again")
    return Resolved(*by_path)


def read_together(results: Path, keys: Mapping[str, str]) -> Resolved:
    """Read the files of several experiments, by their keys.

    ResultError as of `read_resolved`, and where two of them mean different networks by one base.
    """
    runs: dict[str, dict[str, Any]] = {}
    bases: dict[str, dict[str, Any]] = {}
    for name, key in keys.items():
        path = resolved_file(results, name)
        found = read_resolved(path, key)
        for base, entry in found.bases.items():
            if bases.setdefault(base, entry)["hash"] != entry["hash"]:
                raise ResultError(f"{path}: {base} is another network in another experiment")
        runs |= found.runs
    return Resolved(runs, bases)


def resolution_keys(settings: Config, config_dir: Path) -> dict[str, str]:
    """Identify, by experiment, everything that its specifications depend on.

    The configuration, the files of experiments and recipes, the sources that know names, options
    and revisions, and the installed plug-ins.
    """
    content = settings.model_dump(mode="json", exclude={"experiments"})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    files = [
        *sorted(config_dir.glob("*.yaml")),
        *sorted(config_dir.glob("*/*.yaml")),
        *sorted(file for folder in RESOLVED_FROM for file in (PACKAGE / folder).rglob("*.py")),
    ]
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    for entry in sorted(entry_points(group="prunebench.methods"), key=lambda e: e.name):
        digest.update(f"{entry.name}={entry.value}\0".encode())
        module = find_spec(entry.module)
        if module and module.origin:
            digest.update(Path(module.origin).read_bytes())
    keys = {}
    for name in settings.experiments:
        own = digest.copy()
        own.update(name.encode())
        keys[name] = own.hexdigest()[:16]
    return keys


def resolved_runs(settings: Config, config_dir: Path, results: Path) -> Resolved:
    """Return the runs of a configuration; resolved in a process of its own where they are not yet.

    This is how the workflow, which must not import torch, gets at the runs. ConfigError is the
    sentence that the other process ended with. An experiment of which runs.csv is all that is left
    has no runs: tables and figures are drawn from that file.
    """
    names = [name for name in settings.experiments if not only_table_left(results, name)]
    if not names:
        return Resolved({}, {})
    asked = settings.model_copy(update={"experiments": tuple(names)})
    keys = resolution_keys(asked, config_dir)
    try:
        return read_together(results, keys)
    except ResultError:
        pass
    command = [sys.executable, "-m", "prunebench", "resolve", "--config", "-"]
    command += ["--config-dir", str(config_dir), "--results", str(results)]
    done = subprocess.run(command, input=asked.model_dump_json(), capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(done.stderr.strip().removeprefix("prunebench: "))
    return read_together(results, keys)


def only_table_left(results: Path, experiment: str) -> bool:
    """Whether an experiment's runs.csv is stored and none of the runs it was made from."""
    folder = results / experiment
    return (folder / "runs.csv").is_file() and not any(folder.glob("*/*/*/*/*/seed*"))


def source_hash(*folders: str) -> str:
    """Identify the sources of some folders of the package."""
    digest = hashlib.sha256()
    files = [path for folder in folders for path in (PACKAGE / folder).rglob("*")]
    for file in sorted(path for path in files if path.is_file()):
        if "__pycache__" not in file.parts:
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
