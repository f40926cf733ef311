"""Resolved experiments as files: the workflow reads all runs, a job looks up its own.

A file is JSON lines. The first line holds the key of the sources that the runs were resolved from,
the base networks by path, and the recipes by their hash. Each further line is one run, its path
first, so that a job parses and validates its own run alone.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from prunebench.core.errors import ConfigError, ResultError, cannot
from prunebench.core.files import parsed_json, read_bytes, write_text
from prunebench.core.plug_ins import plug_ins, source_of
from prunebench.experiments.config import Config, read_experiment
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.reuse import StoredRow, Wanted, reusable
from prunebench.experiments.spec import (
    DATASETS,
    NETWORKS,
    BaseSpec,
    RunSpec,
    code_of_own,
    digest,
)

PACKAGE = Path(__file__).resolve().parents[1]
# The folders whose sources know names, options and revisions.
PLUG_INS = ("prunebench.criteria", "prunebench.methods", DATASETS, NETWORKS)
RESOLVED_FROM = ("core", "criteria", "data", "experiments", "methods", "models", "planning")


def resolved_file(results: Path, experiment: str) -> Path:
    """Return the file of an experiment's runs; each experiment has its own."""
    return results / "resolved" / f"{experiment}.jsonl"


def write_resolved(path: Path, runs: Iterable[RunSpec], key: str) -> None:
    """Write the specifications of an experiment's runs and the key of their sources.

    ValueError if two base networks have the same path.
    """
    bases: dict[str, dict[str, Any]] = {}
    recipes: dict[str, Any] = {}

    def stored(recipe: Recipe) -> str:
        content = recipe.model_dump(mode="json")
        recipes[found := digest(content)] = content
        return found

    lines = []
    for run in runs:
        base = {"hash": run.base.hash, **run.base.model_dump(mode="json", exclude={"recipe"})}
        base["recipe"] = stored(run.base.recipe)
        if bases.setdefault(run.base.path, base) != base:
            raise ValueError(f"two different base networks have the path {run.base.path!r}")
        own = run.model_dump(mode="json", exclude={"recipes", "base"})
        own["recipes"] = {role: stored(recipe) for role, recipe in run.recipes.items()}
        lines.append({"path": run.path, "hash": run.hash, "base_path": run.base.path, **own})
    lines.insert(0, {"key": key, "bases": bases, "recipes": recipes})
    write_text(path, "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in lines))


class ResolvedFile(Mapping[str, RunSpec]):
    """An experiment's runs by path; a run is parsed and validated when it is looked up.

    Attributes
    ----------
    bases
        Base networks by path, as in the file: with their hash, their recipe by its hash.
    """

    def __init__(
        self, bases: dict[str, dict[str, Any]], recipes: dict[str, Any], lines: Iterable[str]
    ) -> None:
        self.bases, self._recipes = bases, recipes
        self._known_bases: dict[str, BaseSpec] = {}  # validated; runs share them
        self._known_recipes: dict[str, Recipe] = {}
        self._lines = {line.split('"', 4)[3]: line for line in lines}  # {"path": "...", ...

    def entry(self, path: str) -> dict[str, Any]:
        """Return a run as in the file: with its hash and base path, recipes by their hash."""
        line = self._lines[path]
        try:
            entry: dict[str, Any] = parsed_json(line)
        except ValueError:
            raise ResultError(_damaged(path)) from None
        return entry

    def __getitem__(self, path: str) -> RunSpec:
        entry = self.entry(path)
        try:
            return self._specification(entry)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ResultError(_damaged(path)) from None

    def _specification(self, entry: dict[str, Any]) -> RunSpec:
        content = {name: entry[name] for name in RunSpec.model_fields if name in entry}
        content["recipes"] = {role: self._recipe(key) for role, key in entry["recipes"].items()}
        content["base"] = self._base(entry["base_path"])
        return RunSpec.model_validate(content)

    def _base(self, path: str) -> BaseSpec:
        if path not in self._known_bases:
            content = {name: value for name, value in self.bases[path].items() if name != "hash"}
            content["recipe"] = self._recipe(content["recipe"])
            self._known_bases[path] = BaseSpec.model_validate(content)
        return self._known_bases[path]

    def _recipe(self, key: str) -> Recipe:
        if key not in self._known_recipes:
            self._known_recipes[key] = Recipe.model_validate(self._recipes[key])
        return self._known_recipes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def _damaged(path: str) -> str:
    return f"{path}: its line in the resolved experiment is damaged; resolve it again"


def read_resolved(path: Path, key: str | None = None) -> ResolvedFile:
    """Read what `write_resolved` wrote.

    ResultError if the file is missing or damaged, or was resolved from sources of another key.
    """
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        header = parsed_json(first)
        found = ResolvedFile(header["bases"], header["recipes"], lines)
        resolved_from = header["key"]
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file") from None
    except OSError as error:
        raise ResultError(f"{path}: {cannot('be read', error)}") from None
    except (AttributeError, ValueError, KeyError, TypeError, IndexError):
        raise ResultError(f"{path}: not a resolved experiment; resolve it again") from None
    if key not in (None, resolved_from):
        raise ResultError(f"{path}: resolved from another configuration; resolve it again")
    return found


@dataclass(frozen=True)
class Resolved:
    """The runs of several experiments and their base networks, as the workflow needs them.

    Attributes
    ----------
    runs, bases
        Entries of the files by path: specifications with their hash, not validated.
    reused
        Rows that stand for runs, by the runs' paths.
    """

    runs: dict[str, dict[str, Any]]
    bases: dict[str, dict[str, Any]]
    reused: dict[str, StoredRow] = field(default_factory=dict)

    @cached_property
    def to_run(self) -> dict[str, dict[str, Any]]:
        """Return the runs without a reused row, by path."""
        return {path: run for path, run in self.runs.items() if path not in self.reused}

    @cached_property
    def to_train(self) -> list[str]:
        """Return the paths of the base networks of the runs without a reused row."""
        return self.bases_of(self.to_run)

    def reused_in(self, experiment: str) -> dict[str, StoredRow]:
        """Return the reused rows of an experiment, by the runs' paths."""
        found = self.reused.items()
        return {p: row for p, row in found if self.runs[p]["experiment"] == experiment}

    @cached_property
    def by_network(self) -> dict[str, list[str]]:
        """Return the paths of the runs to run by "experiment/data set/architecture"."""
        grouped: dict[str, list[str]] = {}
        for path, run in self.to_run.items():
            place = f"{run['experiment']}/{run['dataset']}/{run['architecture']}"
            grouped.setdefault(place, []).append(path)
        return grouped

    def bases_of(self, paths: Iterable[str]) -> list[str]:
        """Return the paths of the base networks of some runs, each once."""
        return list(dict.fromkeys(self.runs[path]["base_path"] for path in paths))

    def starts_of(self, path: str) -> list[str]:
        """Return the paths that a run starts from: its base network, the run whose widths it takes.

        A method that starts from a new network of its own widths starts from neither.
        """
        run = self.runs[path]
        starts = [] if run["start"] == "fresh" else [run["base_path"]]
        return starts + ([run["widths_from"]] if run["widths_from"] else [])


def read_together(results: Path, keys: Mapping[str, str]) -> Resolved:
    """Read the files of several experiments, by their keys.

    ResultError as for `read_resolved`, and if two files have different networks for one base path.
    """
    runs: dict[str, dict[str, Any]] = {}
    bases: dict[str, dict[str, Any]] = {}
    for name, key in keys.items():
        path = resolved_file(results, name)
        found = read_resolved(path, key)
        for base, entry in found.bases.items():
            if bases.setdefault(base, entry)["hash"] != entry["hash"]:
                raise ResultError(f"{path}: {base} is another network in another experiment")
        runs |= {run: found.entry(run) for run in found}
    return Resolved(runs, bases)


def resolution_keys(settings: Config, config_dir: Path) -> dict[str, str]:
    """Return a hash per experiment of everything that its specifications depend on.

    That is the configuration, the files of experiments and recipes, the sources that know names,
    options and revisions, and the installed plug-ins.
    """
    content = settings.model_dump(mode="json", exclude={"experiments", "reuse", "runs_per_job"})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    files = [
        *sorted(config_dir.glob("*.yaml")),
        *sorted(config_dir.glob("*/*.yaml")),
        *sorted(config_dir.glob("*/*.json")),  # latency tables
        *sorted(file for folder in RESOLVED_FROM for file in (PACKAGE / folder).rglob("*.py")),
    ]
    for file in files:
        digest.update(f"{file.name}\0".encode() + read_bytes(file))
    for name, value in chain.from_iterable(map(plug_ins, PLUG_INS)):
        digest.update(f"{name}={value}\0".encode())
        if source := source_of(value.partition(":")[0]):
            digest.update(read_bytes(source))
    keys = {}
    for name in settings.experiments:
        own = digest.copy()
        own.update(name.encode())
        for codes in _own_code(config_dir, name):
            own.update(f"{codes}\0".encode())
        keys[name] = own.hexdigest()[:16]
    return keys


def _own_code(config_dir: Path, experiment: str) -> Iterator[dict[str, str | None]]:
    """Yield the hashes of the code of an experiment's data sets and networks of the user's own."""
    try:
        found = read_experiment(config_dir, experiment)
    except ConfigError:  # raised when it is resolved
        return
    for dataset in found.datasets:
        for network in found.networks:
            yield code_of_own(dataset, network)


def resolved_runs(settings: Config, config_dir: Path, results: Path) -> Resolved:
    """Return the runs of a configuration; resolve them in another process if needed.

    The workflow calls this, since it must not import torch itself. ConfigError repeats the error of
    the other process. An experiment of which only runs.csv remains has no runs: its tables and
    figures are drawn from that file, unless it shall be extended by reuse.
    """
    drawn = set(only_drawn(settings, results))
    names = [name for name in settings.experiments if name not in drawn]
    found = _resolved(settings, names, config_dir, results)
    if not settings.reuse:
        return found
    wanted = [Wanted.of_entry(entry, found.bases) for entry in found.runs.values()]
    return replace(found, reused=reusable(wanted, settings.reuse, results))


def only_drawn(settings: Config, results: Path) -> list[str]:
    """Return the experiments whose tables and figures are drawn from what is left of them."""
    if settings.reuse:
        return []
    return [name for name in settings.experiments if only_table_left(results, name)]


def _resolved(settings: Config, names: list[str], config_dir: Path, results: Path) -> Resolved:
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
    """Whether an experiment's runs.csv is stored without any of its runs."""
    folder = results / experiment
    return (folder / "runs.csv").is_file() and not any(folder.glob("*/*/*/*/*/seed*"))


def source_hash(*folders: str) -> str:
    """Return a hash of all files in some folders of the package."""
    digest = hashlib.sha256()
    files = [path for folder in folders for path in (PACKAGE / folder).rglob("*")]
    for file in sorted(path for path in files if path.is_file()):
        if "__pycache__" not in file.parts:
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
